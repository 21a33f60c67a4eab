"""The sparse autoencoder: k active latents, features of planted data found again, a file that reads back."""

import pytest
import torch

from glp_core.data.store import ActivationStore
from glp_core.errors import GlpError
from glp_core.files import write_json, write_tensors
from glp_core.training.sae import Sae, SaeConfig, load_sae, save_sae
from glp_core.training.sae_training import train_sae

D, TRUE, ACTIVE = 16, 24, 2


def sparse_acts(n, seed):
    """Sums of ACTIVE of TRUE fixed directions, around a mean."""
    directions = torch.nn.functional.normalize(torch.randn(TRUE, D, generator=torch.Generator().manual_seed(99)), dim=1)
    generator = torch.Generator().manual_seed(seed)
    which = torch.rand(n, TRUE, generator=generator).topk(ACTIVE).indices
    strengths = torch.zeros(n, TRUE).scatter_(1, which, 5 + 5 * torch.rand(n, ACTIVE, generator=generator))
    return strengths @ directions + 3.0, directions


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    acts, _ = sparse_acts(16_384, 0)
    write_tensors(folder / "train-00000.safetensors", {"acts": acts})
    write_tensors(folder / "validation.safetensors", {"acts": sparse_acts(2000, 1)[0]})
    centred = acts - acts.mean(0)
    covariance = centred.T @ centred / len(acts)
    write_tensors(folder / "statistics.safetensors", {"mean": acts.mean(0), "var": acts.var(0), "covariance": covariance})
    shards = [{"file": "train-00000.safetensors", "activations": len(acts), "documents": 1, "massive_left_out": 0}]
    write_json(folder / "manifest.json", {"llm": "tiny", "layer": 2, "median_norm": 1.0, "shards": shards})
    return ActivationStore(folder)


@pytest.fixture(scope="module")
def trained(store):
    config = SaeConfig(expansion=3, k=ACTIVE, activations=200_000, batch=512, learning_rate=3e-3, dead_after=5000)
    return train_sae(store, config)


def test_it_finds_the_planted_directions_again(trained):
    sae, facts = trained
    _, directions = sparse_acts(1, 0)
    cosines = (directions @ sae.decoder.detach().T).max(1).values
    assert (cosines > 0.95).float().mean() > 0.8
    assert facts["unexplained_variance"] < 0.15
    assert facts["n_latents"] == 48 and facts["config"]["k"] == ACTIVE


def test_latents_are_sparse_not_negative_and_decode_to_what_they_should(trained, store):
    sae, facts = trained
    acts = store.validation(300)
    latents = sae.latents(acts)
    assert ((latents > 0).sum(1) <= ACTIVE).all() and (latents >= 0).all()
    back = (latents @ sae.decoder.detach() + sae.bias.detach()) * sae.scale + sae.mean
    centred = acts - acts.mean(0)
    share = float((acts - back).square().sum() / centred.square().sum())
    assert share == pytest.approx(sae.unexplained(acts), rel=1e-3)


def test_training_repeats_and_can_be_stopped(store):
    config = SaeConfig(expansion=2, k=2, activations=4096, batch=512)
    one, two = train_sae(store, config), train_sae(store, config)
    assert torch.equal(one[0].decoder, two[0].decoder)
    assert train_sae(store, config, cancelled=lambda: True) is None
    with pytest.raises(GlpError, match="fewer than one batch"):
        train_sae(store, SaeConfig(activations=40_000, batch=20_000))


def test_a_killed_training_goes_on_to_the_same_weights(store, tmp_path, monkeypatch):
    monkeypatch.setattr("glp_core.training.sae_training.SECONDS_BETWEEN_SAVES", -1.0)
    config, state = SaeConfig(expansion=2, k=2, activations=40_960, batch=512, dead_after=2000), tmp_path / "sae.state"
    whole, _ = train_sae(store, config)

    def die(done, _total, _words):
        if done == 50 * 512:  # in the second round through the store
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_sae(store, config, state=state, progress=die)
    steps = []
    again, facts = train_sae(store, config, state=state, progress=lambda done, _t, _w: steps.append(done // 512))
    assert steps[0] == 50
    at_its_end, same_facts = train_sae(store, config, state=state, progress=lambda *_: pytest.fail("it had come to its end"))
    assert torch.equal(at_its_end.decoder, again.decoder) and same_facts == facts
    state.unlink()
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert train_sae(store, config, state=state, cancelled=lambda: len(steps) > 80 or steps.append(0)) is None
    with pytest.raises(GlpError, match="another training"):
        train_sae(store, SaeConfig(expansion=2, k=2, activations=4096, batch=512), state=state)


def test_it_reads_back_and_damage_is_named(trained, store, tmp_path):
    sae, facts = trained
    save_sae(sae, tmp_path / "sae.safetensors", facts)
    again, read = load_sae(tmp_path / "sae.safetensors")
    assert read["unexplained_variance"] == facts["unexplained_variance"]
    acts = store.validation(50)
    torch.testing.assert_close(again.latents(acts), sae.latents(acts), atol=0.02, rtol=0.02)
    load_sae(tmp_path / "sae.safetensors", layer=facts["layer"], width=acts.shape[1])
    with pytest.raises(GlpError, match=r"is of layer \d, the workspace models layer 9.*python -m glp_core sae"):
        load_sae(tmp_path / "sae.safetensors", layer=9)
    with pytest.raises(GlpError, match="the workspace's have width 5"):
        load_sae(tmp_path / "sae.safetensors", width=5)
    with pytest.raises(GlpError, match="python -m glp_core sae"):
        load_sae(tmp_path / "none.safetensors")
    write_tensors(tmp_path / "other.safetensors", {"x": torch.zeros(2)})
    with pytest.raises(GlpError, match="other.safetensors has no encoder"):
        load_sae(tmp_path / "other.safetensors")
    with pytest.raises(GlpError, match="only 4 latents"):
        Sae(2, 4, 5, torch.zeros(2), 1.0)
