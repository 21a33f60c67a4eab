"""What `evaluate` measures of a multi-layer prior at the LLM layers that it serves."""

import pytest
import torch

from glp_core import load_glp
from glp_core.evaluation.layers import activations_at, layers_report
from glp_core.prior.distance import ManifoldMeter
from tests.support import tiny
from tests.support.reference import ReferenceGlp, write_released_folder


@pytest.fixture(scope="module")
def ids(tiny_llm):
    return tiny_llm.long_rows([f"The cat number {i} sat on the mat and looked at rain {i * i}." for i in range(20)], 12, 15)


def test_activations_of_all_layers_are_those_of_the_model(tiny_llm, ids):
    acts = activations_at(tiny_llm, ids, [1, 3])
    for layer in (1, 3):
        alone = torch.cat([one[1:] for one in tiny_llm.activations(ids.tolist(), layer)]).float()
        torch.testing.assert_close(acts[layer], alone)


def test_every_layer_has_its_norm_its_loss_and_a_typical_distance_of_one(tiny_llm, ids, tmp_path):
    write_released_folder(tmp_path, d_input=tiny.WIDTH, multi=4, statistics="layered")
    glp, reference = load_glp(tmp_path), ReferenceGlp.read(tmp_path)
    report = layers_report(tiny_llm, glp, ids, [0, 3], n=60)
    acts = activations_at(tiny_llm, ids, [0, 3])
    for layer in (0, 3):
        row = report[str(layer)]
        norms = acts[layer].norm(dim=1)
        assert row["median_norm"] == pytest.approx(norms.sort().values[(len(norms) - 1) // 2].item()) and row["n"] == 60
        meter = ManifoldMeter(glp.at(layer), row["reference"])
        ordinary = acts[layer][norms <= 10 * row["median_norm"]]
        assert float(meter.distance(ordinary).median()) == pytest.approx(1, rel=0.2)
        noise = torch.randn(tiny.WIDTH, generator=torch.Generator().manual_seed(0)).expand_as(ordinary)
        errors = reference.denoising_error(ordinary, 0.5, noise, layer)
        typical = (errors / meter.reference.median_error).sqrt()
        torch.testing.assert_close(meter.distance(ordinary), typical, rtol=1e-3, atol=1e-4)
    assert report["0"]["validation_loss"] != report["3"]["validation_loss"]
