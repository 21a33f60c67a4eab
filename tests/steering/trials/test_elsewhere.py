"""What steering costs on neutral text, against a hook written by hand."""

import pytest
import torch

from glp_core.errors import GlpError
from glp_core.llm.site import Site
from glp_core.prior.projection import make_projector
from glp_core.prior.walk import WalkSettings
from glp_core.steering.directions import Direction
from glp_core.steering.trials import elsewhere
from glp_core.steering.trials.outcomes import Condition
from tests.support import tiny

LAYER, NORM, TOKENS = 1, 4.0, 10
TEXTS = ["A", *(text * 2 for text in tiny.TEXTS)]


@pytest.fixture(scope="module")
def direction():
    vector = torch.nn.functional.normalize(torch.randn(tiny.WIDTH, generator=torch.Generator().manual_seed(3)), dim=0)
    facts = {"name": "d", "title": "D", "layer": LAYER, "median_norm": NORM, "auroc": 1.0, "how": "", "n_train": 1, "n_test": 1}
    return Direction(vector=vector, probe_weight=vector, probe_bias=0.0, **facts)


@pytest.mark.parametrize("at_once", [1, 6])
def test_a_raw_push_costs_what_a_hook_on_every_position_costs(tiny_llm, direction, monkeypatch, at_once):
    monkeypatch.setitem(elsewhere.AT_ONCE, "cpu", at_once)
    site = Site(tiny_llm, LAYER, NORM)
    planned = [Condition(direction, "raw", strength) for strength in (0.0, 0.5, 2.0)]
    rows = elsewhere.loss_rises(site, planned, TEXTS, documents=3, tokens=TOKENS)
    ids = torch.tensor([tiny_llm.encode(text, max_tokens=TOKENS) for text in TEXTS[1:]])
    model = tiny.make_tiny_llm().model

    def loss(strength):
        def push(_layer, _inputs, output):
            hidden = output[0] if isinstance(output, tuple) else output
            pushed = torch.cat([hidden[:, :1], hidden[:, 1:] + strength * NORM * direction.vector], dim=1)
            return (pushed, *output[1:]) if isinstance(output, tuple) else pushed

        handle = model.model.layers[LAYER].register_forward_hook(push)
        logits = model(ids).logits
        handle.remove()
        return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).item()

    assert [row["loss_rise"] for row in rows] == pytest.approx([loss(s) - loss(0.0) for s in (0.0, 0.5, 2.0)], abs=2e-4)
    assert [(row["arm"], row["strength"], row["n"]) for row in rows] == [("raw", s, 3) for s in (0.0, 0.5, 2.0)]
    assert rows[1]["loss_rise_ci"][0] <= rows[1]["loss_rise"] <= rows[1]["loss_rise_ci"][1]


def test_conditions_side_by_side_cost_what_they_cost_alone(tiny_llm, tiny_glp, direction, monkeypatch):
    site = Site(tiny_llm, LAYER, NORM)
    walk = make_projector("walk", glp=tiny_glp, walk=WalkSettings(0.3, 3))
    projectors = {"walk": walk, "raw": None, "glp": make_projector("glp", glp=tiny_glp)}
    planned = [Condition(direction, arm, s, projector) for s in (0.5, 1.0) for arm, projector in projectors.items()]
    monkeypatch.setitem(elsewhere.AT_ONCE, "cpu", 6)
    together = elsewhere.loss_rises(site, planned, TEXTS, documents=2, tokens=TOKENS)
    for condition, row in zip(planned, together, strict=True):
        (alone,) = elsewhere.loss_rises(site, [condition], TEXTS, documents=2, tokens=TOKENS)
        assert row["loss_rise"] == pytest.approx(alone["loss_rise"], abs=3e-4)


def test_texts_that_are_too_short_are_refused(tiny_llm, direction):
    with pytest.raises(GlpError, match="fewer than 8 tokens"):
        elsewhere.loss_rises(Site(tiny_llm, LAYER, NORM), [Condition(direction, "raw", 1.0)], ["A"], tokens=90)
