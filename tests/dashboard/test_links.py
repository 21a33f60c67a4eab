"""Links, by kind: whatever parameter of whatever page holds nonsense, the page names it, takes it out and shows the default."""

import ast
import re

import pytest

from dashboard.widgets import url
from tests.support import pages
from tests.support.pages import open_page

ROOT = pages.ENTRY.parents[1]
NAMES = sorted(url.PAGES - {"overview"})
OPENED = {}
"""What params_of has returned, by page."""
NONSENSE = ("1e999", "junk, \u202e<b>")


def params_of(monkeypatch, name):
    """Return all parameters that a page declares, by key, and the page as it opens without any."""
    if name in OPENED:
        return OPENED[name]
    declared = {}

    def spy(page, params):
        params = list(params)
        declared.update({param.key: param for param in params})
        return read(page, params)

    read = url.read_link
    with monkeypatch.context() as patch:
        patch.setattr(url, "read_link", spy)
        plain = open_page(name)
    return OPENED.setdefault(name, (declared, plain))


def told(at):
    return re.sub(r"\\(.)", r"\1", "\n".join(one.value for one in at.warning))


@pytest.mark.parametrize("name", NAMES)
def test_nonsense_in_every_parameter_is_named_and_address_and_widgets_are_as_without_it(llm, monkeypatch, name):
    declared, plain = params_of(monkeypatch, name)
    junk = dict(zip(declared, NONSENSE * len(declared), strict=False))
    at = open_page(name, **{key: "x" * (param.longest + 1) if param.longest else junk[key] for key, param in declared.items()})
    said = told(at)
    assert declared and not at.error
    assert not [key for key in declared if key in at.query_params and key not in plain.query_params]
    for key, param in declared.items():
        assert re.search(rf"In the link: {re.escape(param.label)}(:| is| has)", said)
        if key in plain.session_state:
            assert at.session_state[key] == plain.session_state[key]


def test_a_parameter_that_no_page_knows_is_named_and_left_out(llm):
    at = open_page("scaling", scaling_lagend="2", utm_source="mail")
    assert told(at) == "In the link: 'scaling_lagend' is nothing that this page knows here. It is left out."
    assert "scaling_lagend" not in at.query_params and not at.error


def test_every_widget_whose_value_the_address_holds_is_declared_by_its_page(llm, monkeypatch):
    bound = set()
    for folder in ("dashboard", "pages"):
        for path in (ROOT / folder).rglob("*.py"):
            for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
                given = {one.arg: one.value for one in call.keywords}
                if "bind" in given and isinstance(given["key"], ast.Constant):
                    bound.add(given["key"].value)
    declared = set().union(*(params_of(monkeypatch, name)[0] for name in NAMES))
    assert bound and not bound - declared - {"neurons_layers"}  # declared where there is an index: tested with one


def test_of_a_parameter_that_is_there_twice_the_last_is_used_and_stays(llm):
    at = open_page("steering", steering_seed=["5", "7"])
    assert at.number_input(key="steering_seed").value == 7 and at.query_params["steering_seed"] == "7"


def test_an_address_that_comes_back_to_a_page_in_use_is_read_as_a_new_one_is(llm, workspace):
    at = pages.open_page("steering")
    at.number_input(key="steering_seed").set_value(5).run()
    at.query_params["steering_seed"] = "1e999"  # as the browser's back button does
    at.run()
    assert not at.exception
    assert "steering_seed" not in at.query_params
    assert at.number_input(key="steering_seed").value == 0
    assert "Seed is '1e999', wanted a number" in told(at)


def test_what_a_person_types_stays_though_the_address_may_not_hold_it(llm, workspace):
    at = pages.open_page("steering")
    typed = "x" * 6000
    at.text_area(key="steering_prompt").set_value(typed).run()
    at.query_params["steering_prompt"] = typed
    at.run()
    assert not at.exception
    assert at.text_area(key="steering_prompt").value == typed
