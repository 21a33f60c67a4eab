"""A steering report made of texts whose numbers are known, as `steer` writes it."""

import json

import numpy as np

from glp_core.steering.trials.outcomes import Outcome
from glp_core.steering.trials.report import summarise

N = 60
ARMS = {
    ("unsteered", 0.0): (0.2, -2.0, 0.2),
    ("drawn", 0.0): (0.2, -5.0, 0.1),
    ("prompted", 0.0): (0.6, -2.0, 0.2),
    ("raw", 0.5): (0.6, -2.0, 0.2),
    ("raw", 1.0): (0.9, -4.0, 0.6),
    ("glp", 0.5): (0.4, -2.0, 0.2),
    ("glp", 1.0): (0.5, -2.5, 0.3),
    ("walk", 0.5): (0.6, -2.0, 0.2),
    ("walk", 1.0): (0.9, -2.2, 0.2),
}


def report(better, title="D", **settings):
    """Return a report of texts that scatter around ARMS, the walk's concept moved by `better`, as the command writes it."""
    rng = np.random.default_rng(0)
    outcomes = []
    for (arm, strength), (concept, likely, repetition) in ARMS.items():
        shift = better if arm == "walk" else 0.0
        for i in range(N):
            concept_i = np.clip(concept + shift + 0.05 * rng.standard_normal(), 0, 1)
            outcomes.append(Outcome(i, arm, strength, "x", concept_i, likely, repetition, 0.0, 1.0, 1.0, -9.0, "d"))
    return json.loads(json.dumps(summarise(outcomes) | {"settings": {"title": title} | settings}))
