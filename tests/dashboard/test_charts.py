"""The palette's contrast and order, the figures' data, and the small SVG charts: against WCAG's formula and an XML parser."""

import math
import random
import re
from xml.etree import ElementTree

import pytest

from dashboard.widgets import charts, labels, numbers, svg

LIGHT, DARK = (255, 255, 255), (14, 17, 23)
LIGHT_TEXT, DARK_TEXT = (49, 51, 63), (250, 250, 250)


def luminance(colour):
    channels = [c / 255 for c in colour]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def from_hex(words):
    return tuple(int(words[i : i + 2], 16) for i in (1, 3, 5))


def over(rgba, background):
    red, green, blue, opacity = map(float, re.fullmatch(r"rgba\(([\d.]+),([\d.]+),([\d.]+),([\d.]+)\)", rgba).groups())
    return tuple(opacity * c + (1 - opacity) * b for c, b in zip((red, green, blue), background, strict=True))


@pytest.mark.parametrize("colour", [*charts.ARM_COLOURS.values(), charts.NEGATIVE, charts.POSITIVE, svg.GREY])
@pytest.mark.parametrize("page", [LIGHT, DARK])
def test_lines_can_be_seen_on_light_and_dark_pages(colour, page):
    assert contrast(from_hex(colour), page) >= 3.0


@pytest.mark.parametrize("ramp", [charts.sequential, charts.diverging])
@pytest.mark.parametrize(("page", "text"), [(LIGHT, LIGHT_TEXT), (DARK, DARK_TEXT)])
def test_text_stays_readable_on_every_colour_of_a_ramp(ramp, page, text):
    for i in range(-20, 21):
        assert contrast(over(ramp(i / 20), page), text) >= 4.5


def test_a_stronger_value_gets_a_stronger_colour_and_no_value_gets_none():
    for page in (LIGHT, DARK):
        steps = [contrast(over(charts.sequential(i / 10), page), page) for i in range(11)]
        assert steps == sorted(steps) and steps[0] == 1.0 and steps[-1] > 1.5
    assert charts.sequential(math.nan).endswith(",0.000)")
    assert charts.sequential(7.0) == charts.sequential(1.0) and charts.sequential(-7.0) == charts.sequential(0.0)


def test_signs_differ_in_hue_in_the_blue_yellow_way_that_colour_blind_readers_see():
    negative, positive = over(charts.diverging(-1.0), LIGHT), over(charts.diverging(1.0), LIGHT)
    assert negative[2] - negative[0] > 60 and positive[0] - positive[2] > 60


def test_arms_differ_without_colour():
    assert len(set(charts.ARM_DASHES.values())) == len(charts.ARM_DASHES) == len(charts.ARM_COLOURS)


def test_a_ramp_of_sizes_has_as_many_different_colours_as_sizes():
    assert len(set(charts.size_ramp(6))) == 6
    assert len(charts.size_ramp(1)) == 1


def test_lines_hold_the_numbers_and_escape_hover_texts():
    series = {"raw": ([1, 2], [0.5, 2.5]), "glp": ([1, 2], [0.5, 1.0])}
    figure = charts.lines(series, names={"raw": "Raw"}, hover={"raw": ["<b>x</b>", "y"]}, y="distance")
    raw, glp = figure.data
    assert (raw.name, glp.name) == ("Raw", "glp")
    assert list(raw.y) == [0.5, 2.5] and raw.line.color == charts.ORANGE and glp.line.dash == charts.ARM_DASHES["glp"]
    assert raw.text[0] == "&lt;b&gt;x&lt;/b&gt;"
    charts.shade(figure, 0.8, 1.3, words="real")
    assert figure.layout.shapes[0].y0 == 0.8 and figure.layout.shapes[0].y1 == 1.3


def points(element):
    return [tuple(map(float, p.split(","))) for p in element.get("points").split()]


def test_an_svg_chart_is_well_formed_whatever_its_texts_and_leaves_gaps_at_nan():
    one = svg.Line('<script>"&', [1.0, math.nan, 2.0, 3.0], charts.BLUE, "solid")
    drawn = svg.lines([one], x="<token>", y="a & b", length=4, band=(0.8, 1.2), band_words="<real>")
    root = ElementTree.fromstring(drawn)
    lines = [points(e) for e in root.iter("{http://www.w3.org/2000/svg}polyline")]
    assert [len(line) for line in lines] == [1, 2, 2]  # before the gap, after it, the legend's sample
    assert lines[1][0][1] > lines[1][1][1] > 0  # higher values lie higher up
    assert not list(root.iter("{http://www.w3.org/2000/svg}script"))


@pytest.mark.parametrize("values", [[], [math.nan], [0.0], [1e6, 2e6], [0.01]])
def test_an_svg_chart_can_be_drawn_of_anything(values):
    for dash in (*charts.ARM_DASHES.values(), "dot"):
        ElementTree.fromstring(svg.lines([svg.Line("a", values, charts.BLUE, dash)], x="x", y="y", length=1))


@pytest.mark.parametrize(
    ("value", "digits", "words"),
    [
        (0.0, 3, "0"), (7968.0, 3, "+7,970"), (-0.0312345, 3, "−0.0312"), (9.996, 3, "+10.0"), (1.5, 2, "+1.5"),
        (-157.2, 2, "−160"), (3.2e-9, 3, "+3.20e-09"), (float("nan"), 3, "none"), (2.5e8, 3, "+2.50e+08"),
    ],
)  # fmt: skip
def test_numbers_have_as_many_digits_as_are_true(value, digits, words):
    assert numbers.signed(value, digits) == words


def test_labels_of_crowded_points_do_not_cover_one_another_and_lonely_ones_are_all_there():
    draw = random.Random(0)
    crowd = [(draw.random() * 0.3, draw.random() * 0.3, f"{i / 10:g}") for i in range(60)]
    room = labels.Room(400, 300)
    written, taken = [label for label in room.label(crowd) if label.text], room.taken
    assert len(written) == len(taken) and 5 < len(written) < 60
    for i, box in enumerate(taken):
        for other in taken[:i]:
            across = min(box.right, other.right) - max(box.left, other.left)
            down = min(box.bottom, other.bottom) - max(box.top, other.top)
            assert across <= 0 or down <= 0
    lonely = labels.Room(400, 300).label([(0.1, 0.1, "a"), (0.9, 0.9, "b")])
    assert [label.text for label in lonely] == ["a", "b"]


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ([(0.5, 0.1), (0.5, 0.5)], "top center"),
        ([(0.5, 0.9), (0.5, 0.5)], "bottom center"),
        ([(0.5, 0.1), (0.5, 0.5), (0.5, 0.9)], "middle right"),
        ([(0.5, 0.1), (0.5, 0.5), (0.5, 0.9), (0.9, 0.9), (0.5, 0.5), (0.9, 0.1)], "middle left"),
    ],
)
def test_a_label_keeps_off_the_line_through_its_point(line, place):
    room = labels.Room(400, 300)
    room.line(line)
    assert room.label([(0.5, 0.5, "0.5")]) == [("0.5", place)]
