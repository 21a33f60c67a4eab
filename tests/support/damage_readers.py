"""How each file of `damage_world` is read, and used as pages and commands use it."""

import re
import shutil
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pytest
import torch
from fsspec.implementations.local import LocalFileSystem

from dashboard.concepts import tables
from dashboard.lab.sweeps import running
from dashboard.lab.sweeps.form import read_upload
from dashboard.manifold import figures, frontier, pareto, reports, strength_view, zones
from dashboard.scaling import figures as scaling_figures
from dashboard.scaling import law, run_files
from dashboard.service.directions import zones as push_zones
from dashboard.steering import strength
from glp_core import workspace_list
from glp_core.building.plan import made_with
from glp_core.building.state import BuildState
from glp_core.cli.training import sweep
from glp_core.data.bank import Bank
from glp_core.data.probe_activations import ProbeActivations
from glp_core.data.store import ActivationStore
from glp_core.data.texts.documents import _stored_states
from glp_core.data.texts.files import TextFile
from glp_core.data.texts.formats import columns_of, rows_of
from glp_core.evaluation.checkpoint_scores import _read as read_scored
from glp_core.evaluation.runs import fit_points, points, read_run
from glp_core.files import read_object
from glp_core.llm import gguf
from glp_core.llm.loading import load_llm
from glp_core.llm.sources import LlmSource, check_shards
from glp_core.neuron_index.corpus_pass import merge_parts
from glp_core.neuron_index.reader import NeuronIndex
from glp_core.neurons.description_server import read_answers
from glp_core.neurons.probing import task_scores
from glp_core.prior.checkpoint import load_glp
from glp_core.prior.facts import GlpFacts
from glp_core.prior.reference import Reference
from glp_core.reports import read_report
from glp_core.steering.direction_facts import DirectionFacts
from glp_core.steering.directions import Direction
from glp_core.steering.origins.foreign import own_direction
from glp_core.steering.origins.labelled_texts import read_labelled_texts
from glp_core.steering.sweeps.cells import Cell
from glp_core.steering.sweeps.config import SweepConfig
from glp_core.steering.sweeps.runs import Runs, found_in, rows
from glp_core.steering.sweeps.store import _entries as stored_entries
from glp_core.training.kept_weights import keep_final, kept_checkpoints
from glp_core.training.publishing import publish
from glp_core.training.run_folder import RunFolder
from glp_core.training.sae import load_sae
from glp_core.workspace import Workspace
from tests.support import tiny
from tests.support.damage_world import REPORTS, RUN, judge


def open_workspace(folder):
    workspace = Workspace.open(folder)
    assert workspace.name and workspace.prefixes() and workspace.prefixes("validation_prefixes")
    assert all(isinstance(one, str) for one in workspace.llm.to_json().values())


def open_own(folder):
    workspace = Workspace.open(folder / "own")
    for documents in (workspace.documents("validation"), workspace.documents("train")[0:50]):
        assert all(isinstance(document.text, str) for document in documents)


def use_glp(folder):
    GlpFacts.read(folder).shape  # noqa: B018 - the sidebar's words
    glp = load_glp(folder)
    assert glp.project(torch.zeros(1, glp.d_input), steps=2).shape == (1, glp.d_input)
    if glp.fitted_steps:
        glp.project(torch.zeros(1, glp.d_input), solver="fitted")
    kept_checkpoints(folder)


def use_facts(folder):
    facts = GlpFacts.read(folder)
    assert (
        f"{facts.parameters / 1e6:.1f}" and facts.shape is not None and facts.llm is not None and list(facts.layers) is not None
    )
    assert f"{facts.activations_seen or 0:,.1f}" and f"{facts.validation_loss or 0:.3f}"


def use_vector(folder):
    """As the Lab reads what is uploaded."""
    path = folder / "directions" / "up.safetensors"
    own = own_direction(path, name="new", title="New", layer=2, width=tiny.WIDTH)
    if own is None:  # it says no more that it is one
        foreign_reader("../directions/up.safetensors", latent=0)(folder)
    else:
        assert own.title == "New"


def use_direction(path):
    direction = Direction.load(path)
    assert torch.isfinite(direction.vector).all() and f"{direction.auroc:.2f}"
    assert DirectionFacts.read(path).title == direction.title


def use_bank(folder):
    bank = Bank.load(folder / "bank")
    assert len(bank.contexts) == len(bank) and torch.isfinite(bank.acts).all()


def use_store(folder):
    store = ActivationStore(folder / "store")
    assert store.n_activations >= 0 and store.n_documents >= 0 and store.median_norm > 0
    assert torch.isfinite(store.validation(4)).all() and torch.isfinite(store.statistics()["mean"]).all()
    for number in range(len(store.shards)):
        assert store.rows(number)["acts"].ndim == 2


def use_probes(folder):
    ProbeActivations(folder / "probes", "tiny, layer 2")


def use_index(folder):
    index = NeuronIndex.open(folder / "neurons")
    assert len(index.table()) == index.n_neurons and index.search("cat") is not None and index.most_readable(3) is not None
    for neuron in (0, index.d_mlp - 1):
        assert index.neuron(index.n_layers - 1, neuron).counts.sum() is not None
        index.firing(neuron)
    index.held_out()
    index.map("writes")
    index.map_facts("writes").get("seed")


def use_scores(folder):
    scores = task_scores(Workspace.open(folder), "1_a")
    assert np.isfinite(scores.values).all()


def use_part(folder):
    merge_parts([folder / "part.safetensors"])


def use_run(folder):
    run = read_run(folder / "runs" / "run1000000")
    assert run.parameters > 0 and run.finished in (True, False) and f"{run.flops_per_second:.2g}"
    assert len(points([run])) == len(run.checkpoints) and fit_points([run], "frontier") is not None
    scaling_figures.curves([run], [], x="compute", y="loss", fit=None, gaussian=None, paper=False)
    run_files.export([run])
    law.how_measured([run], "frechet")
    read_scored(run.folder / "evals.csv")


class Sent(NamedTuple):
    """A file that a browser sent."""

    name: str
    data: bytes

    def getvalue(self):
        return self.data


def use_uploaded_run(folder):
    run = folder / "runs" / "run1000000"
    ours = run_files._uploaded([Sent(path.name, path.read_bytes()) for path in run.iterdir()])
    figures_of = scaling_figures.curves([], [ours], x="compute", y="loss", fit=None, gaussian=None, paper=False)
    assert figures_of is not None and law.how_measured([ours], "frechet")


def use_training(folder):
    run = RunFolder(folder / "training")
    run.configuration({"train": {"activations": 1000, "first_checkpoint": 500}, "dtype": "float32"})
    run.state()
    run.supply(0, 3)
    sweep.plan("small", 4096, run.path)
    publish(run.path, folder / "runs" / "published")
    keep_final(run.path, folder / "runs" / "published")
    shutil.rmtree(folder / "runs" / "published")
    run.drop_rows_after(10**6)
    kept_checkpoints(folder / "training")


def use_sae(folder):
    sae, _ = load_sae(folder / "sae.safetensors")
    sae.latents(torch.zeros(1, tiny.WIDTH))


def foreign_reader(name, **options):
    def read(folder):
        from glp_core.steering.origins.foreign import read_foreign

        assert torch.isfinite(read_foreign(folder / "foreign" / name, layer=2, n_layers=4, **options).vector).all()

    return read


def texts_reader(name):
    def read(folder):
        path = folder / "texts" / name
        file = TextFile(LocalFileSystem(), str(path), name, "now")
        columns = columns_of(file)
        field = "text" if columns else ""
        first = list(islice(rows_of(file, field), 500))
        assert all(text is None or isinstance(text, str) for _, text in first)
        if first and file.kind != ".txt":
            assert [text for _, text in islice(rows_of(file, field, first[0][0]), 499)] == [text for _, text in first[1:]]

    return read


def prompts_reader(path):
    """As the Lab reads prompts, or a sweep, that are uploaded."""

    def read(folder):
        found = read_upload(path.rpartition("/")[2], (folder / path).read_bytes())
        assert isinstance(found, SweepConfig) or all(isinstance(text, str) for text in found)

    return read


def labelled_reader(name):
    def read(folder):
        found = read_labelled_texts((folder / "texts" / name).read_bytes())
        assert len(found.labels) == 2 and all(map(found.in_words, found.labels))

    return read


def report_reader(name):
    def read(folder):
        path = folder / "reports" / f"{name}.json"
        made_with(path)
        report = read_report(path)
        USES.get(name, lambda one: None)(report)

    return read


def _use_probing(report):
    table = tables.task_table(report)
    tables.verdict(report)
    tables.dots_figure(table)
    tables.matching(table, "a")


def _use_pareto(report):
    pareto.param(report)
    pareto.table(report)
    for entry in list(report["directions"].values())[:1]:
        pareto.frontiers(entry)
        pareto.hypervolumes(entry)


def _use_zones(report):
    zones.broken(report)
    zones.lowered(report["projection"])
    zones.lowered_words(report["projection"])
    strength_view.zone_words(report)
    figures.zone_edges(report)


def _use_steering(report):
    if shown := frontier.lines([report]):
        frontier.concept_against(shown, "log_probability")
    frontier.matched_words(report["rows"], "walk", "walk")
    strength._near(report, "positive-sentiment", 0.4)
    points = [{"strength": cost["strength"], "gain": 0.5} for cost in report.get("elsewhere", [])]
    pareto.rises({"arms": {"raw": {"points": points}}}, report.get("elsewhere", []), gained=True)


def _use_detection(report):
    for row in report["rows"]:
        reports._with_interval(row["auroc"], row["ci"], 2)
        if "rates" in report and "roc" in row:
            reports.roc(report, row["kind"])


USES = {
    "probing": _use_probing,
    "pareto": _use_pareto,
    "zones": _use_zones,
    "steering_sentiment": _use_steering,
    "detection": _use_detection,
    "conversations": reports.conversation_words,
    "scorecard": lambda report: [reports._scores(row) for row in report["rows"]],
    "reference": lambda report: Reference(report).quantiles(201),
    "measures": lambda report: [f"{one['n']:,}" for one in report["measures"].values()],
    "strengths": lambda report: [push_zones._zone(one["arms"]["raw"]) for one in report["directions"].values()],
}
"""Name of a report to what pages draw of it."""


def use_sweep(folder):
    runs = Runs(folder / "sweeps")
    assert all(f"{one.done:,} of {one.total:,} in {one.seconds:.0f}" for one in runs.listed())
    found, judged = found_in(runs.texts(RUN))
    assert all(0 <= mark.both <= 2 for mark in judged.values()) and all(isinstance(one, Cell) for one in found)
    list(rows(runs.config(RUN), found, judged))


def use_speed(folder):
    assert running.rate(folder) >= 0


def use_marks(folder):
    assert all(0 <= one.both <= 2 for one in judge(folder / "sweeps").marks().values())


def use_answers(folder):
    index = NeuronIndex.open(folder / "neurons")
    for answer in read_answers(folder / "neurons" / "answers.jsonl", index).values():
        assert f"{answer['explanation']} {answer['consistency']:g} {answer['complexity']:g} {answer['model']}"


def use_llm(folder):
    source = LlmSource("folder", str(folder / "llm"))
    llm = load_llm(source, dtype=torch.float32)
    assert llm.n_layers > 0 and llm.context_length and llm.stop_ids is not None and llm.first_id is not None
    assert all(isinstance(one, int) for one in llm.encode("The cat"))
    assert llm.chat.takes_system in (True, False)
    llm.chat.encode([[{"role": "user", "content": "The cat"}]])


def use_gguf(folder):
    with TemporaryDirectory() as cache, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLP_EXPLORER_CACHE", cache)
        patch.setattr(gguf, "wheel_file", lambda *_: folder / "gguf" / "tiny.gguf")
        load_llm(LlmSource("wheel", "llm-tiny", "tiny.gguf"), dtype=torch.float32)


def use_build(folder):
    assert 0 <= BuildState.read(folder).percent <= 100


def use_list(folder):
    assert workspace_list._remembered() is not None and list(map(str, workspace_list.listed())) is not None


RUN_FILES = [
    *["runs/run1000000/train.csv"] * 2,
    *(f"runs/run1000000/{name}" for name in ("config.json", "evals.csv", "evals.json")),
]
TRAINING = (
    *("run.json", "config.json", "evals.json", "train.csv", "checks.csv"),
    *("state.safetensors", "supply-0-step-3.safetensors", "statistics.safetensors", "final.safetensors"),
)
LLM_FILES = (
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors",
)
SLOW = {"LLM": (use_llm, [f"llm/{name}" for name in LLM_FILES]), "LLM, GGUF": (use_gguf, ["gguf/tiny.gguf"])}
"""Those that take long: they read a language model."""
READERS = {
    "workspace.json": (open_workspace, ["workspace.json", "prefixes.json", "validation_prefixes.json"]),
    "workspace.json, own texts": (open_own, ["own/workspace.json", "own/texts/all.jsonl"]),
    "GLP": (lambda folder: use_glp(folder / "glp"), ["glp/config.json", "glp/statistics.safetensors", "glp/final.safetensors"]),
    "GLP facts": (lambda folder: use_facts(folder / "glp"), ["glp/config.json", "glp/final.safetensors"]),
    "released GLP": (
        lambda folder: use_glp(folder / "released"),
        ["released/config.yaml", "released/config.yaml", "released/rep_statistics.pt", "released/final.safetensors"],
    ),
    "direction": (lambda folder: use_direction(folder / "directions" / "up.safetensors"), ["directions/up.safetensors"]),
    "direction, uploaded": (use_vector, ["directions/up.safetensors"]),
    "bank": (use_bank, ["bank/bank.json", "bank/bank.safetensors"]),
    "store": (
        use_store,
        [
            "store/manifest.json",
            "store/train-00000.safetensors",
            "store/validation.safetensors",
            "store/statistics.safetensors",
        ],
    ),
    "probe activations": (use_probes, ["probes/part-00000.safetensors"]),
    "index": (use_index, ["neurons/index.json", *["neurons/units.safetensors"] * 3, *["neurons/texts.safetensors"] * 2]),
    "index, annotations": (
        use_index,
        ["neurons/concepts.safetensors", "neurons/descriptions.json", "neurons/maps.parquet", "neurons/maps.json"],
    ),
    "task scores": (use_scores, ["neurons/task_scores.parquet"]),
    "part of an index": (use_part, ["part.safetensors"]),
    "run": (use_run, RUN_FILES),
    "run, uploaded": (use_uploaded_run, RUN_FILES),
    "training": (
        use_training,
        [f"training/{name}" for name in TRAINING],
    ),
    "SAE": (use_sae, ["sae.safetensors"]),
    "control vector": (foreign_reader("joy.gguf"), ["foreign/joy.gguf"]),
    "persona vectors": (foreign_reader("persona.pt"), ["foreign/persona.pt"]),
    "foreign SAE": (foreign_reader("sae.safetensors", latent=1), ["foreign/sae.safetensors"]),
    **{
        f"texts, {name}": (texts_reader(name), [f"texts/{name}"])
        for name in ("a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.csv.gz", "a.csv", "a.txt", "a.parquet")
    },
    **{name: (labelled_reader(name), [f"texts/{name}"]) for name in ("labelled.csv", "labelled.json")},
    **{
        f"prompts, {path}": (prompts_reader(path), [path])
        for path in ("texts/labelled.csv", "texts/a.jsonl", "texts/a.txt", f"sweeps/runs/{RUN}/config.json")
    },
    **{f"report {name}": (report_reader(name), [f"reports/{name}.json"]) for name in (*REPORTS, "layers")},
    "sweep": (
        use_sweep,
        [*[f"sweeps/runs/{RUN}/{name}" for name in ("config.json", "state.json")], *[f"sweeps/runs/{RUN}/texts.jsonl"] * 2],
    ),
    "cells of sweeps": (lambda folder: stored_entries(folder / "sweeps" / "cells" / "one.json"), ["sweeps/cells/one.json"]),
    "speed of sweeps": (use_speed, ["sweeps/speed.json"]),
    "marks of a judge": (use_marks, [f"sweeps/judged/{judge(Path()).path.name}"]),
    "answers of a server": (use_answers, ["neurons/answers.jsonl"]),
    "build.json": (use_build, ["build.json"]),
    "list of workspaces": (use_list, ["cache/workspaces.json"]),
    "marks in texts": (lambda folder: _stored_states(folder / "marks.json", 2), ["marks.json"]),
    "shards of an LLM": (lambda folder: check_shards(folder / "shards"), ["shards/model.safetensors.index.json"]),
    "any JSON": (lambda folder: read_object(folder / "build.json"), ["build.json"]),
}
"""Name to how it is read, given the folder, and the files in it that are damaged, one at a time."""


NOT_READ = {("sweeps", "report.json"), ("runs", "checks.csv")}
"""Kinds of files that are written for people; what a run goes on from is read in `training`."""


def kind(file):
    """Return what kind of file of a workspace that is: its first folder, and its name without what differs between files alike."""
    room, name = file.partition("/")[0], file.rpartition("/")[2]
    if room == "directions":
        return room, name.rpartition(".")[2]
    return room if "/" in file else "", re.sub(r"\d+", "0", re.sub(r"^steering_\w+", "steering_", name))


def unknown(folder):
    """Return the files of a workspace that are of no kind that is damaged here."""
    known = NOT_READ | {kind(file) for _, files in (READERS | SLOW).values() for file in files}
    kept = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".build.lock"]
    return sorted(file for file in kept if kind(file) not in known)
