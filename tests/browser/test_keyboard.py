"""With the Tab key alone every control of every view is reached, and each says what it is."""

import pytest

from tests.browser.test_accessibility import VIEWS, drawn

pytestmark = pytest.mark.nightly

MOST_STOPS = 400
CONTROLS = """() => {
  const kinds = 'button, a[href], input, textarea, select, ' +
    ['button', 'tab', 'radio', 'slider', 'combobox'].map(role => `[role=${role}]`).join(', ')
  const groups = '[role=tablist], [role=radiogroup], [role=toolbar], [role=grid], [role=listbox], [role=menu]'
  const name = one => {
    const words = one.getAttribute('aria-label')
      || (one.getAttribute('aria-labelledby') || '').split(' ').map(id => document.getElementById(id)?.innerText || '').join(' ')
      || [...(one.labels || [])].map(label => label.innerText).join(' ')
      || one.innerText || one.title || one.alt || one.placeholder || ''
    return words.trim()
  }
  window.controls = [...document.querySelectorAll(kinds)].filter(one =>
    one.checkVisibility({visibilityProperty: true, opacityProperty: false}) && !one.disabled
    && one.getAttribute('aria-disabled') !== 'true' && !one.closest('[inert], [aria-hidden=true]') && one.type !== 'file'
    && one.getClientRects().length)
  // the box that they belong to does what they do: it opens and counts with the arrow keys, and Backspace takes a choice away
  const ofBox = "[data-testid=stSelectbox] [aria-haspopup=listbox], [data-testid=stMultiSelect] button, [data-testid=stNumberInput] button"
  window.groupOf = one => {
    if (one.matches(ofBox)) return one.closest("[data-testid=stSelectbox], [data-testid=stMultiSelect], [data-testid=stNumberInput]")
    return one.closest(groups) || (one.type === 'radio' && one.name ? 'radio ' + one.name : one)
  }
  window.reached = new Set()
  document.addEventListener('focusin', event => {
    window.round = window.round || event.target === window.first
    window.first = window.first || event.target
    window.reached.add(window.groupOf(event.target))
    for (let one = event.target; one; one = one.parentElement) window.reached.add(one)
  })
  window.nameless = () => window.controls.filter(one => !name(one)).map(one => one.outerHTML.slice(0, 200))
  window.missed = () => window.controls.filter(one => one.isConnected && !window.reached.has(one)
    && !window.reached.has(window.groupOf(one))).map(one => `${name(one)}: ${one.outerHTML.slice(0, 200)}`)
  return window.controls.length
}"""


@pytest.mark.parametrize("view", VIEWS)
def test_tab_reaches_every_control_and_each_has_a_name(open_page, view):
    page = drawn(open_page, view)
    assert page.evaluate(CONTROLS) > 5
    stops = 0
    while not page.evaluate("window.round"):
        assert stops < MOST_STOPS, "it does not come round"
        for _ in range(10):
            page.keyboard.press("Tab")
        stops += 10
    assert not page.evaluate("missed()")
    assert not page.evaluate("nameless()")


def test_the_keys_of_a_box_do_what_its_buttons_do(open_page):
    page = drawn(open_page, "lab?lab_view=Sweep")
    box = page.get_by_test_id("stMultiSelect").filter(has=page.get_by_label("Remove")).first.element_handle()
    chosen = len(box.query_selector_all("[aria-label^=Remove]"))
    box.query_selector("[role=combobox]").press("Backspace")
    page.wait_for_function("([box, n]) => box.querySelectorAll('[aria-label^=Remove]').length < n", arg=[box, chosen])
    page = drawn(open_page, "scaling")
    number = page.get_by_test_id("stNumberInput").get_by_role("spinbutton").first
    before = float(number.input_value())
    number.press("ArrowUp")
    page.wait_for_function("([field, old]) => +field.value > old", arg=[number.element_handle(), before])
