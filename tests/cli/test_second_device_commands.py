"""Every command that computes, on a device that is not the CPU: nothing mixes devices, and the numbers are the CPU's."""

import json
import re
import shlex
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from glp_core import devices
from glp_core.__main__ import main
from glp_core.cli.neurons import probe
from glp_core.cli.steering import directions
from glp_core.cli.training import sweep
from glp_core.data import collecting, conversations, corpus
from glp_core.data.probe_activations import last_token_activations
from glp_core.data.store import ActivationStore
from glp_core.evaluation import solver_error, zones
from glp_core.evaluation.checkpoint_scores import Scorer
from glp_core.neuron_index.reader import NeuronIndex
from glp_core.steering.origins import recipes
from glp_core.steering.origins.from_texts import direction_of_texts
from glp_core.steering.origins.questions import QUESTIONS
from glp_core.steering.trials import elsewhere
from glp_core.training.plan import TrainConfig
from glp_core.training.sae import SaeConfig, save_sae
from glp_core.training.sae_training import train_sae
from glp_core.workspace import Workspace
from tests.cli.conftest import SMALL_RUN
from tests.support import pages, tiny
from tests.support.second_device import NAME, second_device


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny workspace whose LLM lies in its folder, and a store of its activations."""
    home = tmp_path_factory.mktemp("second")
    workspace, _, store, documents = pages.make_store(home, train=120, held_out=100, activations=2000)
    tiny.keep_llm(workspace.folder / "llm")
    return workspace, store, documents, home


@pytest.fixture
def second(made, monkeypatch):
    """The command line on the second device, over the tiny corpus."""
    workspace, store, documents, home = made
    chosen = devices.choose_device
    monkeypatch.setattr(devices, "choose_device", lambda name=None: torch.device(NAME) if name == NAME else chosen(name))
    monkeypatch.setenv("GLP_EXPLORER_CACHE", str(home / "cache"))
    texts = {"train": documents[:120], "validation": documents[120:]}
    monkeypatch.setattr(type(workspace), "documents", lambda _self, split: texts[split])

    def run(*words, device=NAME):
        with second_device():
            return main([words[0], "--workspace", str(workspace.folder), "--device", device, *map(str, words[1:])])

    return run


def same(one, other):
    """Compare two reports, number by number."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one.keys() - {"made_by", "date", "seconds"}:
            same(one[key], other[key])
    elif isinstance(one, Tensor):
        same(one.tolist(), other.tolist())
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same(a, b)
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-5, nan_ok=True)
    else:
        assert one == other


def test_a_sparse_autoencoder_trains_stops_and_goes_on_there(made, tmp_path):
    store = made[1]
    expected, facts = train_sae(store, SAE)
    with second_device():
        asked = iter([False] * 5 + [True])
        state = tmp_path / "state"
        assert train_sae(store, SAE, device=NAME, state=state, cancelled=lambda: next(asked)) is None
        sae, ours = train_sae(store, SAE, device=NAME, state=state)
        assert sae.encoder.device.type == "cpu"
        latents = sae.to(NAME).latents(store.validation(32)).cpu()
    close = (latents - expected.latents(store.validation(32))).abs() < 2e-2  # there is no bfloat16 on the second device
    assert close.float().mean() > 0.99
    assert ours["unexplained_variance"] == pytest.approx(facts["unexplained_variance"], rel=1e-2)


def test_scores_directions_and_text_readings_are_the_cpu_s_there(made, monkeypatch):
    workspace, store, documents, home = made
    monkeypatch.setattr(type(workspace), "documents", lambda _self, _split: documents[120:])
    texts = [document.text for document in documents[:24]]

    def scores(device):
        on = Workspace.open(workspace.folder, device)
        scorer = Scorer(on, store, samples=100, n_documents=3, tokens=12, direction="up", prefixes=3, strengths=(1.5,))
        glp = on.load_glp()
        read = last_token_activations(scorer.site, texts, max_tokens=16)
        direction = direction_of_texts(scorer.site, texts[:12], texts[12:]).direction
        return [scorer.frechet(glp), scorer.delta_lm(glp), scorer.steering(glp), direction.vector.tolist(), direction.probe_auroc,
                read["layer"].tolist(), read["mlp"].tolist()]  # fmt: skip

    expected = scores("cpu")
    with second_device():
        same(scores(NAME), expected)


SAE = SaeConfig(expansion=2, k=4, activations=256 * 12, batch=256)
COMMANDS = {
    "evaluate": "--activations 100 --samples 100 --documents 4 --tokens 12",
    "solvers": "--training 8 --held-out 8",
    "bank": "--activations 300 --reference 60",
    "detect": "--activations 50 --likelihood 0",
    "scorecard": "--samples 200 --tested 100 --documents 4 --tokens 12",
    "zones": "--prefixes {prefixes} --steered 3 --tokens 5",
    "tune-walk": "--directions up --prefixes {prefixes} --limit 2 --strengths 0.5 --tokens 3 "
    "--forms raw norm gaussian fresh 'part 3' 'enough 0.3'",
    "steer": "--directions up --prefixes {prefixes} --limit 3 --strengths 0.5 --tokens 4 --documents 2",
    "strengths": "--directions up --prefixes {prefixes} --limit 4 --strengths 0.5 1 --tokens 4",
    "first-press": "--prefixes {prefixes} --limit 2 --tokens 4",
    "steer-sentiment": "--direction up --prefixes {prefixes} --limit 4 --strengths 0.5 1.5 --tokens 5",
}
"""Commands with a report, in an order in which each has what it needs."""
REPORTS = {
    "steer-sentiment": "steering_sentiment",
    "bank": "measures",
    "tune-walk": "walk_tuning",
    "steer": "steering_up",
    "first-press": "first_press",
    "detect": "detection",
}
STORED = ("evaluate", "solvers", "bank", "scorecard")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_report_made_on_the_second_device_is_the_cpu_s(command, made, second, monkeypatch, capsys):
    monkeypatch.setattr(solver_error, "LEVELS", solver_error.LEVELS[2:4])
    monkeypatch.setattr(solver_error, "EXACT_CALLS", 60)
    monkeypatch.setattr(conversations, "ANSWER_TOKENS", 6)
    monkeypatch.setattr(zones, "report", partial(zones.report, draws=20))
    monkeypatch.setattr(elsewhere, "loss_rises", partial(elsewhere.loss_rises, tokens=12))
    workspace, store, _, home = made
    prefixes = home / "prefixes.json"
    prefixes.write_text(json.dumps([f"the cat number {i}" for i in range(12)]))
    monkeypatch.setattr("glp_core.cli.data.bank.umap_plane", lambda rows, *_args, **_options: SimpleNamespace(real=rows[:, :2]))
    words = shlex.split(COMMANDS[command].format(prefixes=prefixes))
    words += ["--store", str(store.folder)] if command in STORED else []
    reports = []
    for device in ("cpu", NAME):
        assert second(command, *words, device=device) == 0
        reports.append(workspace.report(REPORTS.get(command, command)))
        assert re.search(r"^(The GLP takes|.* needs) .*[GM]B.*; .* free", capsys.readouterr().err, re.MULTILINE), (
            "memory is told"
        )
    same(*reports)


def test_an_index_made_on_the_second_device_is_the_cpu_s(made, second):
    workspace, _, _, home = made
    tables, texts = [], []
    for device in ("cpu", NAME):
        parts = home / f"parts-{device}"
        assert second("index", "--documents", 120, "--sigma", 0.3, "--draws", 1, "--parts", parts, device=device) == 0
        tables.append(load_file(workspace.neurons / "units.safetensors"))
        index = NeuronIndex.open(workspace.neurons)
        neurons = [index.neuron(*divmod(number, index.d_mlp)) for number in range(index.n_neurons)]
        texts.append([end for neuron in neurons for end in (neuron.top, neuron.bottom)])
    assert tables[0].keys() == tables[1].keys()
    for name in tables[0].keys() - {"top_documents", "top_peaks", "top_windows"}:  # those are the texts below
        close = torch.isclose(tables[0][name].double(), tables[1][name].double(), rtol=2e-2, atol=1e-3, equal_nan=True)
        assert close.double().mean() > 0.98, name
    pairs = [pair for lists in zip(*texts, strict=True) for pair in untied(*lists)]
    assert len(pairs) > 0.5 * sum(map(len, texts[0]))
    for one, other in pairs:
        assert (one.document, one.peak, one.pieces) == (other.document, other.peak, other.pieces)
        np.testing.assert_allclose(one.values, other.values, rtol=2e-2, atol=1e-3)


def untied(these, those):
    """Pair the texts of two lists by rank, but for those that begin alike: their values are equal but for rounding, in any order."""
    values = np.array([one.value for one in these])
    apart = np.abs(values[:, None] - values) + np.diag(np.full(len(values), np.inf))
    apart[:, -1] = np.abs(values - values[-1])  # equal ones may lie beyond the list's end
    alone = apart.min(1) > 1e-5 * np.abs(values)
    return [pair for pair, is_alone in zip(zip(these, those, strict=True), alone, strict=True) if is_alone]


def test_what_is_collected_on_the_second_device_is_what_the_cpu_collects(made, second, monkeypatch):
    monkeypatch.setattr(collecting, "HELD_OUT_CONVERSATIONS", 8)
    monkeypatch.setattr(conversations, "ANSWER_TOKENS", 6)
    home, stores = made[3], []
    for device in ("cpu", NAME):
        folder = home / f"collected-{device}"
        words = ("--activations", 700, "--chat", 0.2, "--tokens-per-document", 9, "--out", folder)
        assert second("collect", *words, device=device) == 0
        store = ActivationStore(folder)
        shards = [store.rows(number) for number in range(len(store.shards))]
        places = [zip(rows["documents"].tolist(), rows["positions"].tolist(), strict=True) for rows in shards]
        acts = torch.cat([rows["acts"] for rows in shards]).tolist()
        stores.append((store.n_chat, dict(zip(chain(*places), acts, strict=True)), store.statistics()["var"].tolist()))
    same(*stores)


@pytest.mark.parametrize("stream", [False, True], ids=["from a store", "from texts"])
def test_a_prior_trained_on_the_second_device_has_the_cpu_s_losses(stream, made, second):
    workspace, store, _, _ = made
    words = ("--stream", "--buffer", 640) if stream else ("--store", store.folder)
    words += (*SMALL_RUN, "--activations", 640, "--validation", 64, "--log-every", 2, "--first-checkpoint", 4)
    logs = []
    for device in ("cpu", NAME):
        run = f"stream-{stream}-{device}"
        assert second("train", *words, "--run", run, device=device) == 0
        logs.append(pd.read_csv(workspace.folder / "runs" / run / "train.csv").drop(columns="seconds").to_dict("list"))
    same(*logs)


def test_a_sweep_on_the_second_device_has_the_cpu_s_losses_and_scores(made, second, monkeypatch):
    workspace, store, _, home = made
    monkeypatch.setattr(sweep, "SIZES", {"small": (48, 64, 1)})
    monkeypatch.setattr(sweep, "TrainConfig", partial(TrainConfig, batch=64, sigma_groups=16, validation=64))
    words = ("--store", store.folder, "--activations", 512, "--dtype", "float32", "--scores", "frechet", "--samples", 100)
    logs = []
    for device in ("cpu", NAME):
        assert second("sweep", *words, "--out", home / f"sweep-{device}", device=device) == 0
        tables = [pd.read_csv(workspace.folder / "runs" / "small" / name) for name in ("train.csv", "evals.csv")]
        logs.append([table.drop(columns="seconds", errors="ignore").to_dict("list") for table in tables])
    same(*logs)


def test_shipped_directions_made_on_the_second_device_are_the_cpu_s(made, second, monkeypatch):
    workspace = made[0]
    monkeypatch.setattr(recipes, "RECIPES", tuple(replace(one, n_train=12, n_test=8) for one in recipes.RECIPES[:1]))
    monkeypatch.setattr(directions, "RECIPES", recipes.RECIPES)
    monkeypatch.setattr(directions, "make_persona", partial(directions.make_persona, questions=QUESTIONS[:6]))
    found = []
    for device in ("cpu", NAME):
        assert second("directions", "--only", "positive-sentiment", "pirate", device=device) == 0
        found.append([asdict(workspace.direction(name)) for name in ("positive-sentiment", "pirate")])
    same(*found)


def test_concepts_probed_on_the_second_device_are_the_cpu_s(made, second, monkeypatch):
    workspace, store, _, home = made
    few = tuple(task for task in corpus.tasks() if task.name in ("92_glue_sst2", "105_click_bait"))
    monkeypatch.setattr(probe, "tasks", lambda: few)
    monkeypatch.setattr(probe, "READINGS", probe.READINGS[:2])
    sae, reports = home / "sae.safetensors", []
    trained, facts = train_sae(store, SAE)
    save_sae(trained, sae, facts)
    for device in ("cpu", NAME):
        words = ("--sae", sae, "--activations", home / f"probing-{device}", "--train", 16, "--validation", 12, "--test", 16)
        assert second("probe", *words, device=device) == 0
        reports.append(workspace.report("probing"))
    same(*reports)
