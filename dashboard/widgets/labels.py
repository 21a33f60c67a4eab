"""Short labels at a figure's points that do not cover one another: each goes above, below, right or left of its point, or away."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

PLACES = ("top center", "bottom center", "middle right", "middle left")
"""As plotly calls them, the best one first."""
LETTER, LINE, GAP, MARK = 7.0, 14.0, 6.0, 5.0
"""Pixels: width of a letter, height of a line, from a point's middle to its label, half of a mark."""


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def covers(self, other: "Box") -> bool:
        """Say whether two rectangles overlap."""
        return self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom


class Label(NamedTuple):
    """A point's label: where it stands, or "" and anywhere when there is no room."""

    text: str
    place: str


def place(points: Iterable[tuple[float, float, str]], taken: list[Box], *, width: float, height: float) -> list[Label]:
    """Return a label for every point.

    Args:
        points: across and up, each from 0 to 1 of the drawing, and the words.
        taken: rectangles that no label may cover; those of the labels are added.
        width, height: of the drawing in pixels.
    """
    labels = []
    for x, y, words in points:
        if not words:
            labels.append(Label("", PLACES[0]))
            continue
        boxes = {where: box_of(x * width, (1 - y) * height, words, where) for where in PLACES}
        free = next((where for where, box in boxes.items() if not any(box.covers(other) for other in taken)), None)
        if free is None:
            labels.append(Label("", PLACES[0]))
            continue
        taken.append(boxes[free])
        labels.append(Label(words, free))
    return labels


def marks(across: Iterable[float], up: Iterable[float], *, width: float, height: float) -> list[Box]:
    """Return the rectangles of points' marks, for `taken`."""
    middles = [(x * width, (1 - y) * height) for x, y in zip(across, up, strict=True)]
    return [Box(x - MARK, y - MARK, x + MARK, y + MARK) for x, y in middles]


def box_of(x: float, y: float, words: str, where: str) -> Box:
    """Return the rectangle of a label at a point in pixels."""
    wide = LETTER * len(words)
    vertical, horizontal = where.split()
    left = x + GAP if horizontal == "right" else x - GAP - wide if horizontal == "left" else x - wide / 2
    top = y - GAP - LINE if vertical == "top" else y + GAP if vertical == "bottom" else y - LINE / 2
    return Box(left, top, left + wide, top + LINE)


def scaled(values: Sequence[float], low: float, high: float) -> list[float]:
    """Return values as shares of the way from low to high."""
    return [(value - low) / (high - low) if high > low else 0.5 for value in values]
