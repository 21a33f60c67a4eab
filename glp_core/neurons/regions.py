"""Regions of a map of neurons: clusters of its points, each named by the words or the task that most of its neurons share.

Knows points and words; knows nothing of how the map was made.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SMALLEST = 12
"""Neurons of a region."""
SHARE_OF_MAP = 1 / 200
"""A region holds at least this share of the neurons."""
LEAST_SHARE = 0.1
"""Of a region's neurons that its name fits."""
LEAST_LIFT = 2.0
"""How much more often the name fits in the region than on the whole map."""
MOST_NAMES = 2


@dataclass(frozen=True)
class Region:
    """One cluster of the map."""

    name: str
    x: float
    y: float
    """Its middle: the medians of its points."""
    members: np.ndarray
    """Places of its points, ascending."""


def find_regions(points: np.ndarray, labels: Sequence[Sequence[str]]) -> list[Region]:
    """Return the named regions of points (n, 2), the largest first; a label names one region only.

    Args:
        labels: what each point's neuron is about: task titles, words of its description.
    """
    from sklearn.cluster import HDBSCAN

    size = max(SMALLEST, round(SHARE_OF_MAP * len(points)))
    if len(points) < 2 * size:
        return []
    clusters = HDBSCAN(min_cluster_size=size, cluster_selection_method="leaf", copy=True).fit_predict(points)
    everywhere = Counter(label for own in labels for label in set(own))
    groups = [np.flatnonzero(clusters == cluster) for cluster in range(int(clusters.max()) + 1)]
    regions: list[Region] = []
    taken: set[str] = set()
    for members in sorted(groups, key=len, reverse=True):
        names = _names([set(labels[i]) - taken for i in members.tolist()], everywhere, len(labels))
        if names:
            taken.update(names)
            x, y = np.median(points[members], axis=0)
            regions.append(Region(" · ".join(names), float(x), float(y), members))
    return regions


def _names(labels: Sequence[set[str]], everywhere: Counter[str], n: int) -> list[str]:
    """Return the labels that fit most of a region's neurons and few others, none when no label does."""
    inside = Counter(label for own in labels for label in own)
    lift = {label: count / len(labels) / (everywhere[label] / n) for label, count in inside.items()}
    fitting = [label for label, count in inside.items() if count >= LEAST_SHARE * len(labels) and lift[label] >= LEAST_LIFT]
    return sorted(fitting, key=lambda label: (-inside[label] * np.log(lift[label]), label))[:MOST_NAMES]
