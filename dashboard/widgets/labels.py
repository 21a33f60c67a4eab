"""Short labels at a figure's points that do not cover one another: each goes above, below, right or left of its point, or away.

Of the free places each takes the one that hides least of the lines.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

PLACES = ("top center", "bottom center", "middle right", "middle left")
"""As plotly calls them, the best one first."""
LETTER, LINE, GAP, MARK = 7.0, 14.0, 6.0, 5.0
"""Pixels: width of a letter, height of a line, from a point's middle to its label, half of a mark."""
LINE_STEP = 4.0
"""Pixels between two places of a line that a label keeps off."""


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


class Room:
    """A figure's room for labels; points are given across and up, each from 0 to 1 of the drawing."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        """Of the drawing in pixels."""
        self.taken: list[Box] = []
        """What no label may cover: marks, and labels that stand."""
        self._lines: list[Box] = []
        """What labels cover where they must."""

    def mark(self, points: Iterable[tuple[float, float]]) -> None:
        """Keep the marks of points free."""
        self.taken += [_around(x, y, MARK) for x, y in map(self._pixels, points)]

    def line(self, points: Iterable[tuple[float, float]]) -> None:
        """Keep the marks of points free, and where there is a choice the line through them too."""
        points = list(points)
        self.mark(points)
        for (x, y), (to_x, to_y) in pairwise(map(self._pixels, points)):
            steps = max(1, round(math.hypot(to_x - x, to_y - y) / LINE_STEP))
            shares = [step / steps for step in range(steps + 1)]
            self._lines += [_around(x + one * (to_x - x), y + one * (to_y - y), LINE_STEP / 2) for one in shares]

    def label(self, points: Iterable[tuple[float, float, str]]) -> list[Label]:
        """Return a label for every point with these words, and keep it free from now on."""
        return [self._label(x, y, words) if words else Label("", PLACES[0]) for x, y, words in points]

    def _label(self, x: float, y: float, words: str) -> Label:
        boxes = {where: box_of(*self._pixels((x, y)), words, where) for where in PLACES}
        free = [where for where, box in boxes.items() if not any(box.covers(other) for other in self.taken)]
        if not free:
            return Label("", PLACES[0])
        where = min(free, key=lambda where: sum(boxes[where].covers(other) for other in self._lines))
        self.taken.append(boxes[where])
        return Label(words, where)

    def _pixels(self, point: tuple[float, float]) -> tuple[float, float]:
        return point[0] * self.width, (1 - point[1]) * self.height


def _around(x: float, y: float, half: float) -> Box:
    return Box(x - half, y - half, x + half, y + half)


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
