"""Training: learns what it is given, resumes to the same run after a kill, averages weights rightly, refuses what cannot be."""

import csv
import itertools
import math
import shutil
from argparse import Namespace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from glp_core import GlpError, load_glp
from glp_core.cli.training import train
from glp_core.data.resident import ResidentActivations, fits
from glp_core.data.store import TOKENS_PER_DOCUMENT, ActivationStore
from glp_core.files import read_json, write_json, write_tensors
from glp_core.prior.checkpoint import save_glp
from glp_core.prior.gaussian import GaussianPrior
from glp_core.training import supply
from glp_core.training import trainer as training
from glp_core.training.kept_weights import kept_checkpoints
from glp_core.training.loss import CompiledLoss, flow_loss, stratified_sigmas, validation_loss
from glp_core.training.plan import TrainConfig
from glp_core.training.publishing import install
from glp_core.training.ranks import Ranks
from glp_core.training.run_folder import COLUMNS
from glp_core.training.start import Start
from glp_core.training.supply import StoreSupply
from glp_core.training.trainer import Trainer
from tests.support import full_card, tiny

SMALL = {"d_model": 24, "d_mlp": 32, "n_layers": 2, "batch": 64, "sigma_groups": 16, "activations": 64 * 40, "warmup": 640}
SMALL |= {"learning_rate": 5e-3, "ema": 0.9, "first_checkpoint": 8, "log_every": 5, "validation": 128}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store of correlated normal activations in two shards, 640 of them, so that 40 steps are four epochs."""
    folder = tmp_path_factory.mktemp("store")
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(12, 12, generator=generator)
    acts = torch.randn(768, 12, generator=generator) @ mixing + 3
    parts = {"train-00000": acts[:320], "train-00001": acts[320:640], "validation": acts[640:]}
    for name, part in parts.items():
        write_tensors(folder / f"{name}.safetensors", {"acts": part.bfloat16()})
    covariance = acts.T.cov().contiguous()
    statistics = {"mean": acts.mean(0), "var": covariance.diagonal().clone(), "covariance": covariance}
    write_tensors(folder / "statistics.safetensors", statistics)
    shards = [{"file": f"train-0000{i}.safetensors", "activations": 320} for i in range(2)]
    write_json(folder / "manifest.json", {"llm": "random", "layer": 2, "median_norm": 10.0, "shards": shards})
    return ActivationStore(folder)


def trainer(store, folder, **changes):
    return Trainer(TrainConfig(**SMALL | changes), store, folder, dtype=torch.float32)


def rows(folder):
    with (folder / "train.csv").open() as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def killed_at(step, made):
    """Train until `step`, then die without saving; the last saved state is all that is left."""

    class Killed(BaseException):
        pass

    def stop():
        if made.step == step:
            raise Killed
        return False

    with pytest.raises(Killed):
        made.run(stop=stop, save_every=1e9)


@pytest.mark.parametrize(("stopped", "killed"), [(7, 9), (13, 22), (20, 21), (None, 12)])
def test_a_killed_run_goes_on_to_the_same_curve_and_weights(store, tmp_path, stopped, killed):
    whole = trainer(store, tmp_path / "whole").run()
    folder = tmp_path / "parts"
    if stopped:
        first = trainer(store, folder)
        first.run(stop=lambda: first.step == stopped)
    killed_at(killed, trainer(store, folder))
    again = trainer(store, folder)
    assert again.step == (stopped or 0)
    again.run()
    assert rows(folder) == rows(tmp_path / "whole")
    final = load_file(folder / "final.safetensors")
    for name, weight in whole.network.state_dict().items():
        assert torch.equal(final[name], weight), name


def test_a_state_that_takes_long_to_save_is_saved_less_often(store, tmp_path, monkeypatch):
    clock, made, at = itertools.count(), trainer(store, tmp_path), []

    def slow():
        next(clock)
        at.append(made.step)

    monkeypatch.setattr("glp_core.progress.time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(made, "_save", slow)
    made.run(save_every=3)
    assert at == [4, 40], "it took 2 seconds, so that the next would have been due 40 later"


def test_a_row_that_was_cut_off_by_the_kill_is_made_again(store, tmp_path):
    first = trainer(store, tmp_path)
    first.run(stop=lambda: first.step == 12)
    with (tmp_path / "train.csv").open("a") as file:
        file.write("15,960,1")
    trainer(store, tmp_path).run()
    trainer(store, tmp_path / "whole").run()
    assert rows(tmp_path) == rows(tmp_path / "whole")


def test_a_finished_run_stays_as_it_is(store, tmp_path):
    done = trainer(store, tmp_path).run()
    before = (tmp_path / "train.csv").read_text()
    again = trainer(store, tmp_path).run()
    assert (tmp_path / "train.csv").read_text() == before
    assert all(torch.equal(a, b) for a, b in zip(done.parameters(), again.parameters(), strict=True))


def test_the_log_and_what_is_kept(store, tmp_path):
    trainer(store, tmp_path).run()
    table = rows(tmp_path)
    assert tuple((tmp_path / "train.csv").read_text().splitlines()[0].split(",")) == COLUMNS
    assert [int(row["step"]) for row in table] == [5, 8, 10, 15, 16, 20, 25, 30, 32, 35, 40]
    assert [int(row["step"]) for row in table if row["validation_loss"]] == [8, 16, 32, 40]
    kept = sorted(path.stem for path in (tmp_path / "checkpoints").iterdir())
    assert kept == sorted(f"activations_{64 * step}" for step in (8, 16, 32))
    parameters = sum(p.numel() for p in load_glp(tmp_path).network.parameters())
    assert all(int(row["flops"]) == 6 * parameters * int(row["activations"]) for row in table)
    assert read_json(tmp_path / "config.json")["about"]["activations_seen"] == 64 * 40


def test_the_saved_validation_loss_is_that_of_the_saved_weights(store, tmp_path):
    trainer(store, tmp_path).run()
    loss = validation_loss(load_glp(tmp_path), store.validation(128))
    assert float(rows(tmp_path)[-1]["validation_loss"]) == pytest.approx(loss, abs=2e-5)


def test_the_average_is_an_exponential_one(store, tmp_path):
    made = trainer(store, tmp_path)
    name = "layers.1.down_proj.weight"
    history = [made.params[name].detach().clone()]

    def remember():
        if len(history) == made.step:
            history.append(made.params[name].detach().clone())
        return False

    made.run(stop=remember)
    history.append(made.params[name].detach())
    expected = history[0]
    for step in range(8, 41, 8):  # blended every eighth step, with a shorter memory at the start
        decay = min(0.9, (1 + step) / (10 + step)) ** 8
        expected = decay * expected + (1 - decay) * history[step]
    torch.testing.assert_close(made.average[name], expected)
    assert not torch.equal(made.average[name], history[-1])


def test_without_averaging_the_raw_weights_are_saved(store, tmp_path):
    made = trainer(store, tmp_path, ema=0.0)
    made.run()
    assert torch.equal(load_file(tmp_path / "final.safetensors")["ln.weight"], made.params["ln.weight"].detach())


def test_a_run_that_ends_before_the_average_begins_has_its_own_weights(store, tmp_path):
    made = trainer(store, tmp_path, activations=64 * 5)
    start = made.params["out_proj.weight"].detach().clone()
    made.run()
    saved = load_file(tmp_path / "final.safetensors")["out_proj.weight"]
    assert torch.equal(saved, made.params["out_proj.weight"].detach()) and not torch.equal(saved, start)


def test_it_learns(store, tmp_path):
    glp = trainer(store, tmp_path, activations=64 * 400, log_every=100).run()
    start = trainer(store, tmp_path / "untrained").averaged()
    held_out = store.validation()
    assert validation_loss(glp, held_out) < 0.75 * validation_loss(start, held_out)


def test_the_loss_is_the_mean_squared_velocity_error(store, tmp_path):
    glp = trainer(store, tmp_path).averaged()
    z, eps = torch.randn(8, 12), torch.randn(8, 12)
    sigmas = torch.tensor([0.2, 0.9])
    each = [
        (glp.velocity((1 - s) * z[i : i + 1] + s * eps[i : i + 1], s) - (eps - z)[i]).square().mean()
        for i, s in enumerate([0.2] * 4 + [0.9] * 4)
    ]
    torch.testing.assert_close(flow_loss(glp, z, sigmas, eps), torch.stack(each).mean())


def test_the_validation_loss_of_an_exact_gaussian_field_is_the_gaussian_loss():
    """The estimator itself, checked on data and a field that are known: normal latents, the perfect linear denoiser."""
    from glp_core.prior.gaussian import gaussian_loss

    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(6, 6, generator=generator)
    covariance = mixing @ mixing.T
    prior = GaussianPrior(torch.zeros(6), covariance)
    std = covariance.diagonal().sqrt()
    z = (torch.randn(60_000, 6, generator=generator) @ mixing.T) / std
    sigmas = stratified_sigmas(len(z), generator)
    eps = torch.randn(z.shape, generator=generator)
    total = 0.0
    levels = sigmas.sort().values
    for part in torch.arange(len(z)).split(500):  # neighbouring noise levels share one call
        s = levels[part].mean()
        noisy = (1 - s) * z[part] + s * eps[part]
        total += float((prior.velocity(noisy, float(s)) - (eps - z)[part]).square().mean()) * len(part)
    assert total / len(z) == pytest.approx(gaussian_loss(covariance / torch.outer(std, std)), rel=0.015)


def test_noise_levels_are_stratified():
    levels = stratified_sigmas(64, torch.Generator().manual_seed(0))
    assert torch.equal((levels * 64).floor().sort().values, torch.arange(64.0))
    assert not torch.equal(levels, levels.sort().values)


def test_the_rate_rises_stays_and_falls():
    config = TrainConfig(batch=1024, activations=1024 * 1000, warmup=1024 * 50, decay=0.3, learning_rate=1.0, final_factor=0.01)
    assert config.rate(0) < 0.05 and config.rate(50) == 1 and config.rate(690) == 1
    assert config.rate(850) == pytest.approx(0.505, abs=0.01)
    assert config.rate(999) == pytest.approx(0.01, abs=0.001)
    rates = [config.rate(step) for step in range(1000)]
    assert all(a <= b for a, b in zip(rates[:50], rates[1:51], strict=True))
    assert all(a >= b for a, b in zip(rates[700:], rates[701:], strict=False))


def test_another_configuration_is_refused_but_a_longer_run_is_not(store, tmp_path):
    first = trainer(store, tmp_path)
    first.run(stop=lambda: first.step == 10)
    with pytest.raises(GlpError, match="another configuration"):
        trainer(store, tmp_path, learning_rate=1e-4)
    longer = trainer(store, tmp_path, activations=64 * 48)
    longer.run()
    assert longer.step == 48 and math.isfinite(float(rows(tmp_path)[-1]["validation_loss"]))
    with pytest.raises(GlpError, match="48 steps already"):
        trainer(store, tmp_path, activations=64 * 30)


def test_a_finished_run_that_is_made_longer_warms_up_again(store, tmp_path):
    trainer(store, tmp_path, log_every=1).run()
    longer = trainer(store, tmp_path, log_every=1, activations=64 * 120)
    longer.run(stop=lambda: longer.step == 43)
    again = trainer(store, tmp_path, log_every=1, activations=64 * 120)
    again.run()
    rates = {int(row["step"]): float(row["learning_rate"]) for row in rows(tmp_path)}
    peak = SMALL["learning_rate"]
    assert rates[40] < 0.05 * peak
    assert rates[40] < rates[41] < rates[42] < 0.5 * peak
    assert rates[60] == peak and rates[120] < 0.02 * peak
    assert again.extension == longer.extension and again.extension.step == 40


def test_a_run_goes_on_in_its_own_latent_space_though_its_store_has_grown_since(store, tmp_path):
    begun = trainer(store, tmp_path / "run")
    begun.run(stop=lambda: begun.step == 20)
    mean = begun.glp.normalizer.mean.clone()
    grown = tmp_path / "grown"
    shutil.copytree(store.folder, grown)
    statistics = {name: 3 * tensor for name, tensor in store.statistics().items()}
    write_tensors(grown / "statistics.safetensors", statistics)
    before = load_glp(tmp_path / "run", "checkpoints/activations_512")
    longer = trainer(ActivationStore(grown), tmp_path / "run")
    assert longer.step == 20 and torch.equal(longer.glp.normalizer.mean, mean)
    longer.run()
    after = load_glp(tmp_path / "run", "checkpoints/activations_512")
    assert torch.equal(after.normalizer.mean, before.normalizer.mean)


def test_a_run_made_longer_before_its_decay_has_the_curve_of_one_planned_so(store, tmp_path):
    first = trainer(store, tmp_path / "parts", warmup=128)
    first.run(stop=lambda: first.step == 20)
    trainer(store, tmp_path / "parts", warmup=128, activations=64 * 60).run()
    trainer(store, tmp_path / "whole", warmup=128, activations=64 * 60).run()
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")


def test_a_refused_plan_leaves_the_folder_as_it_was(store, tmp_path):
    trainer(store, tmp_path).run()
    before = read_json(tmp_path / "run.json")
    with pytest.raises(GlpError, match="40 steps already"):
        trainer(store, tmp_path, activations=64 * 30)
    assert read_json(tmp_path / "run.json") == before


@pytest.mark.parametrize(("limit", "most"), [("WINDOW", 350), ("WINDOW_BYTES", 350 * 12 * 2)])
def test_a_store_larger_than_the_window_trains_and_resumes_to_the_same_curve(store, tmp_path, monkeypatch, limit, most):
    monkeypatch.setattr(supply, limit, most)  # one shard in memory at a time
    assert StoreSupply(store).window_bytes == 350 * 12 * 2
    whole = trainer(store, tmp_path / "whole").run()
    folder = tmp_path / "parts"
    first = trainer(store, folder)
    first.run(stop=lambda: first.step == 17)
    killed_at(23, trainer(store, folder))
    parts = trainer(store, folder).run()
    assert rows(folder) == rows(tmp_path / "whole")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters(), strict=True))


@pytest.mark.parametrize(("device", "windows"), [("cpu", 1), ("mps", 1), ("cuda", 0)])
def test_a_window_is_counted_where_the_device_computes_in_main_memory(store, monkeypatch, device, windows):
    needed = []
    monkeypatch.setattr(train, "tell_memory", lambda _what, bytes_, *_: needed.append(bytes_))
    workspace = SimpleNamespace(device=device, open_store=lambda _folder: store)
    args = Namespace(buffer=0, chat=0, tokens_per_document=TOKENS_PER_DOCUMENT, store=None, dtype="float32")
    config = TrainConfig(**SMALL)
    supplied = train.from_store(workspace, args, config, Ranks())
    assert needed == [config.memory(12, torch.float32) + windows * supplied.window_bytes]


def test_where_nothing_can_be_compiled_a_run_is_the_plain_one_and_says_why(store, tmp_path, monkeypatch):
    def compiled(_loss, **_options):
        def call(*_args):
            raise RuntimeError("Failed to find C compiler\nand a long story")

        return call

    config = TrainConfig(**SMALL | {"activations": 64 * 10})
    plain = Trainer(config, store, tmp_path / "plain", dtype=torch.float32, compiled=False).run()
    monkeypatch.setattr(torch, "compile", compiled)
    said = []
    again = Trainer(config, store, tmp_path / "again", dtype=torch.float32, compiled=True)
    again = again.run(progress=lambda *words: said.append(words[-1]))
    for name, weight in plain.network.state_dict().items():
        assert torch.equal(weight, again.network.state_dict()[name])
    assert "nothing can be compiled here (RuntimeError: Failed to find C compiler)" in said[0]


def test_an_error_of_a_loss_that_was_compiled_is_not_hidden(monkeypatch):
    answers = iter([torch.tensor(1.0)])
    monkeypatch.setattr(torch, "compile", lambda _loss, **_options: lambda *_args: next(answers))
    loss = CompiledLoss(lambda *_args: torch.tensor(2.0))
    nothing = torch.zeros(1)
    assert loss(nothing, nothing, nothing) == 1
    with pytest.raises(StopIteration):
        loss(nothing, nothing, nothing)


def test_divergence_is_reported(store, tmp_path):
    made = trainer(store, tmp_path)
    with torch.no_grad():
        made.params["ln.weight"].fill_(float("inf"))
    with pytest.raises(GlpError, match="diverged"):
        made.run()


def test_a_run_that_is_made_shorter_to_where_it_had_stopped_writes_the_weights_of_that_step(store, tmp_path):
    trainer(store, tmp_path, activations=64 * 8).run()
    longer = trainer(store, tmp_path, activations=64 * 30)
    longer.run(stop=lambda: longer.step >= 21)
    with pytest.raises(GlpError, match="no final weights of its last step"):
        install(longer.folder.path, tmp_path / "glp")
    shorter = trainer(store, tmp_path, activations=64 * 21)
    weights = shorter.run().network.state_dict()
    assert kept_checkpoints(shorter.folder.path)[64 * 21] == "final"
    install(shorter.folder.path, tmp_path / "glp")
    kept = load_glp(tmp_path / "glp").network.state_dict()
    assert all(torch.equal(kept[name], tensor.to(kept[name].dtype)) for name, tensor in weights.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 60}, "multiple of sigma_groups"),
        ({"activations": 10}, "less than one batch"),
        ({"sigma_groups": 0}, "sigma_groups is 0, wanted at least 1"),
        ({"batch": -64}, "batch is -64, wanted at least 1"),
        ({"log_every": 0}, "log_every is 0"),
        ({"validation": 0}, "validation is 0"),
        ({"seed": 2**40}, "seed is 1099511627776"),
        ({"learning_rate": float("nan")}, "learning_rate is nan, wanted a number from 1e-12 to 10"),
        ({"learning_rate": -1.0}, "learning_rate is -1"),
        ({"beta2": 2.0}, "beta2 is 2"),
        ({"weight_decay": float("nan")}, "weight_decay is nan"),
        ({"ema": 2.0}, "ema is 2"),
        ({"decay": 3.0}, "decay is 3"),
        ({"clip": -1.0}, "clip is -1"),
        ({"batch": 1024, "activations": 4096}, "fewer activations"),
    ],
)
def test_what_cannot_be_trained_is_refused(store, tmp_path, changes, message):
    with pytest.raises(GlpError, match=message):
        trainer(store, tmp_path, **changes).run()


def test_training_leaves_the_global_generator_alone(store, tmp_path):
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    trainer(store, tmp_path, activations=64 * 8).run()
    assert torch.equal(state, torch.random.get_rng_state())


# going on from given weights


@pytest.fixture
def given(store, tmp_path):
    trainer(store, tmp_path / "given").run()
    return tmp_path / "given"


@pytest.fixture
def other_store(store, tmp_path):
    """The same activations, moved and scaled: other statistics."""
    folder = tmp_path / "other"
    for path in (*store.shards, store.folder / "validation.safetensors"):
        write_tensors(folder / path.name, {"acts": (load_file(path)["acts"].float() * 2 + 1).bfloat16()})
    found = store.statistics()
    moved = {"mean": found["mean"] * 2 + 1, "var": found["var"] * 4, "covariance": found["covariance"] * 4}
    write_tensors(folder / "statistics.safetensors", moved)
    write_json(folder / "manifest.json", store.manifest)
    return ActivationStore(folder)


def going_on(store, folder, given, **changes):
    start = Start.read(given, layer=store.manifest["layer"])
    config = start.shaped(TrainConfig(**SMALL | {"d_model": 7, "learning_rate": 1e-3} | changes))
    return Trainer(config, store, folder, dtype=torch.float32, start=start)


def test_a_run_goes_on_from_given_weights_and_keeps_their_statistics(given, other_store, tmp_path):
    before, statistics = load_file(given / "final.safetensors"), load_file(given / "statistics.safetensors")
    made = going_on(other_store, tmp_path / "on", given, log_every=1, warmup=640)
    for name, weight in made.averaged().network.state_dict().items():
        assert torch.equal(weight, before[name])
    made.run()
    after = load_file(tmp_path / "on/statistics.safetensors")
    assert all(torch.equal(after[name], values) for name, values in statistics.items())
    assert not torch.equal(load_file(tmp_path / "on/final.safetensors")["ln.weight"], before["ln.weight"])
    rates = [float(row["learning_rate"]) for row in rows(tmp_path / "on")]
    assert rates[0] < rates[1] < rates[3] < rates[10] == 1e-3 and rates[-1] < 3e-5
    about = read_json(tmp_path / "on/config.json")["about"]
    assert about["activations_seen"] == 2 * 64 * 40
    assert about["went_on_from"]["about"]["activations_seen"] == 64 * 40


@pytest.mark.parametrize(("about", "kept"), [({"layer": 2}, True), ({"layers": [1, 2]}, False), ({"layer": 1}, False)])
def test_only_the_covariance_of_the_layer_is_taken_along(tmp_path, about, kept):
    save_glp(tiny.tiny_glp(16), tmp_path, about=about, covariance=torch.eye(16))
    assert ("covariance" in Start.read(tmp_path, layer=2).statistics) == kept


def test_going_on_starts_at_the_loss_that_was_reached(given, store, tmp_path):
    reached = float(rows(given)[-1]["validation_loss"])
    going_on(store, tmp_path / "on", given, first_checkpoint=1, learning_rate=1e-5).run(stop=lambda: True)
    assert float(rows(tmp_path / "on")[0]["validation_loss"]) == pytest.approx(reached, abs=0.01)


def test_going_on_is_resumed_to_the_same_curve_from_the_same_weights_only(given, store, tmp_path):
    going_on(store, tmp_path / "whole", given).run()
    first = going_on(store, tmp_path / "parts", given)
    first.run(stop=lambda: first.step == 13)
    killed_at(20, going_on(store, tmp_path / "parts", given))
    going_on(store, tmp_path / "parts", given).run()
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    assert (tmp_path / "parts/checks.csv").read_text() == (tmp_path / "whole/checks.csv").read_text()
    trainer(store, tmp_path / "another", seed=1).run()
    for start in (tmp_path / "another", None):
        with pytest.raises(GlpError, match="another configuration"):
            going_on(store, tmp_path / "parts", start) if start else trainer(store, tmp_path / "parts", learning_rate=1e-3)


def test_weights_of_another_width_or_shape_are_refused(given, store, tmp_path):
    start = Start.read(given)
    with pytest.raises(GlpError, match="another shape"):
        Trainer(TrainConfig(**SMALL | {"d_mlp": 40}), store, tmp_path / "x", start=start)
    wide = tmp_path / "wide"
    save_glp(tiny.tiny_glp(16), wide, about={})
    with pytest.raises(GlpError, match="width 16.*width 12"):
        going_on(store, tmp_path / "y", wide)
    with pytest.raises(GlpError, match="No config.json"):
        Start.read(tmp_path)


# on a device


def test_a_store_finds_room_where_freed_tensors_were(store, monkeypatch):
    needed = store.n_activations * store.acts(0)[:1].nbytes
    full_card.insert(monkeypatch, free=needed // 2, cached=needed)
    assert fits(store, torch.device("cuda"), beside=0)


def test_a_store_is_resident_only_where_training_finds_room_beside_it(store, tmp_path, monkeypatch):
    needed, config = store.n_activations * store.acts(0)[:1].nbytes, TrainConfig(**SMALL)
    beside = config.memory(12, torch.float32)
    full_card.insert(monkeypatch, free=2 * needed)
    assert fits(store, torch.device("cuda"), beside=needed // 2)
    assert not fits(store, torch.device("cuda"), beside=needed)
    asked, made, random_glp = [], [], training._random_glp
    monkeypatch.setattr(supply, "fits", lambda *given: asked.append((*given, len(made))) or False)
    monkeypatch.setattr(training, "_random_glp", lambda *given: made.append(1) or random_glp(*given))
    next(Trainer(config, store, tmp_path, dtype=torch.float32).supply.batches(64, 0, 0, Ranks()))
    assert asked == [(store, torch.device("cpu"), beside, 0)] and made, "before the weights take their room"


def test_a_run_keeps_its_order_whatever_there_is_room_for_when_it_goes_on(store, tmp_path, monkeypatch):
    for begun in (True, False):
        folder = tmp_path / str(begun)
        monkeypatch.setattr(supply, "fits", lambda *_, begun=begun: begun)
        trainer(store, folder / "whole").run()
        first = trainer(store, folder / "parts")
        first.run(stop=lambda first=first: first.step == 17)
        monkeypatch.setattr(supply, "fits", lambda *_: True)
        again = trainer(store, folder / "parts")
        again.run()
        assert again.supply.resident == begun and rows(folder / "parts") == rows(folder / "whole")


def test_a_run_from_before_the_order_was_kept_goes_on_and_another_device_has_its_own(store, tmp_path, monkeypatch):
    monkeypatch.setattr(supply, "fits", lambda *_: True)
    first = trainer(store, tmp_path)
    first.run(stop=lambda: first.step == 17)
    monkeypatch.undo()
    assert trainer(store, tmp_path).supply.resident is False  # a CPU's memory is not filled with what was on a card
    state = first.folder.state()
    del state["resident"]
    first.folder.save_state(state)
    old = trainer(store, tmp_path)
    assert old.supply.resident is False and old.step == 17
    old.run()


def test_a_store_that_is_resident_is_seen_whole_in_an_order_of_its_own(store):
    source = ResidentActivations(store, "cpu")
    first, again, other = (torch.cat(list(source.batches(64, epoch=epoch))) for epoch in (0, 0, 1))
    stored = torch.cat([store.acts(i) for i in range(2)])
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert sorted(first.sum(1).tolist()) == sorted(other.sum(1).tolist()) == sorted(stored.sum(1).tolist())
    rest = list(source.batches(64, epoch=1, skip=4))
    assert torch.equal(torch.cat(rest), other[4 * 64 :]) and source.n_batches(64) == 10


def test_training_on_a_resident_store_resumes_to_the_same_curve(store, tmp_path):
    def made(folder):
        return Trainer(TrainConfig(**SMALL), StoreSupply(store, "cpu", resident=True), folder, dtype=torch.float32)

    made(tmp_path / "whole").run()
    first = made(tmp_path / "parts")
    first.run(stop=lambda: first.step == 17)
    killed_at(25, made(tmp_path / "parts"))
    made(tmp_path / "parts").run()
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    trainer(store, tmp_path / "windows").run()
    ends = [float(rows(tmp_path / name)[-1]["validation_loss"]) for name in ("whole", "windows")]
    assert ends[0] == pytest.approx(ends[1], rel=0.05)


def test_checks_tell_conversations_apart_and_how_large_neurons_are(store, tmp_path, monkeypatch):
    user, template = torch.randn(50, 12) * 9, torch.randn(30, 12)
    monkeypatch.setattr(ActivationStore, "chat_validation", lambda self, n=None: {"user": user, "template": template})
    trainer(store, tmp_path).run()
    with (tmp_path / "checks.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [int(row["step"]) for row in table] == [8, 16, 32, 40]
    glp, last = load_glp(tmp_path), table[-1]
    assert float(last["user"]) == pytest.approx(validation_loss(glp, user), rel=1e-3)
    assert float(last["template"]) == pytest.approx(validation_loss(glp, template), rel=1e-3)
    assert float(last["text"]) == pytest.approx(float(rows(tmp_path)[-1]["validation_loss"]), abs=1e-4)
    assert last["answer"] == ""
    values = glp.neurons(store.validation(128), 0.1, generator=torch.Generator().manual_seed(0)).abs()
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)):
        assert float(last[name]) == pytest.approx(float(values.flatten().quantile(share)), rel=0.05)
