"""A GLP from elsewhere as a workspace's prior: it fits, or it is refused before anything is copied; what it lacks is added."""

import pytest
import torch

from glp_core.building.prior import check_prior, install_from
from glp_core.errors import GlpError
from glp_core.files import read_object, write_json, write_tensors
from glp_core.prior.checkpoint import load_glp, read_statistics, save_glp
from tests.support.reference import write_released_folder
from tests.support.tiny import WIDTH, tiny_glp


@pytest.fixture
def elsewhere(tmp_path):
    save_glp(tiny_glp(), tmp_path / "elsewhere", about={"llm": "another", "layer": 2})
    return tmp_path / "elsewhere"


@pytest.fixture
def store(tmp_path):
    covariance = torch.eye(WIDTH) * 3
    write_tensors(
        tmp_path / "store" / "statistics.safetensors",
        {"mean": torch.zeros(WIDTH), "var": torch.ones(WIDTH), "covariance": covariance},
    )
    return tmp_path / "store"


def test_it_is_the_same_glp_with_the_covariance_of_the_workspaces_own_activations(elsewhere, store, tmp_path):
    facts = install_from(str(elsewhere), tmp_path / "glp", store, WIDTH, 2)
    before, after = load_glp(elsewhere), load_glp(tmp_path / "glp")
    z = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(0))
    assert facts.llm == "another" and torch.equal(before.velocity(z, 0.3), after.velocity(z, 0.3))
    assert torch.equal(read_statistics(tmp_path / "glp")["covariance"], torch.eye(WIDTH) * 3)
    assert torch.equal(read_statistics(tmp_path / "glp")["mean"], read_statistics(elsewhere)["mean"])


@pytest.mark.parametrize(("multi", "statistics"), [(None, "broad"), (4, "layered")])
def test_a_released_one_serves_its_layer_as_it_does_in_its_own_folder(multi, statistics, store, tmp_path):
    released = write_released_folder(tmp_path / "released", d_input=WIDTH, multi=multi, statistics=statistics)
    install_from(str(released), tmp_path / "glp", store, WIDTH, 3 if multi else 7)
    layer = 3 if multi else None
    before, after = load_glp(released), load_glp(tmp_path / "glp")
    acts = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(0))
    assert torch.equal(before.velocity(acts, 0.3, layer=layer), after.velocity(acts, 0.3, layer=layer))
    assert torch.equal(before.normalize(acts, layer=layer), after.normalize(acts, layer=layer))


def test_of_several_layers_the_covariance_is_never_that_of_another_layer(store, tmp_path):
    released = write_released_folder(tmp_path / "released", d_input=WIDTH, multi=4, statistics="layered")
    statistics = read_statistics(released) | {"covariance": torch.eye(WIDTH) * 7}  # as `export` writes one of training
    (released / "rep_statistics.pt").unlink()
    write_tensors(released / "statistics.safetensors", statistics)
    install_from(str(released), tmp_path / "glp", store, WIDTH, 3)
    assert torch.equal(read_statistics(tmp_path / "glp")["covariance"], torch.eye(WIDTH) * 3)


def test_what_an_other_format_left_goes(elsewhere, store, tmp_path):
    write_json(tmp_path / "glp" / "config.yaml", {})
    install_from(str(elsewhere), tmp_path / "glp", store, WIDTH, 2)
    assert not (tmp_path / "glp" / "config.yaml").exists()
    assert read_object(tmp_path / "glp" / "config.json")["about"]["layer"] == 2


@pytest.mark.parametrize(
    ("width", "layer", "words"),
    [(WIDTH + 1, 2, f"of width {WIDTH}, the LLM's have {WIDTH + 1}"), (WIDTH, 3, "serves layer 2, not 3")],
)
def test_one_that_does_not_fit_is_refused(elsewhere, store, tmp_path, width, layer, words):
    with pytest.raises(GlpError, match=words):
        install_from(str(elsewhere), tmp_path / "glp", store, width, layer)
    assert not (tmp_path / "glp").exists()


def test_a_layer_that_is_not_known_yet_is_not_compared(elsewhere):
    assert check_prior(str(elsewhere), WIDTH).layers == (2,)


def test_a_damaged_one_is_not_installed(elsewhere, store, tmp_path):
    (elsewhere / "final.safetensors").write_bytes(b"not tensors at all")
    with pytest.raises(GlpError, match="final.safetensors"):
        install_from(str(elsewhere), tmp_path / "glp", store, WIDTH, 2)
    assert not (tmp_path / "glp").exists()
