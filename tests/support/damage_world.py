"""A folder with one small file of every kind that a workspace or a foreign model has, and how each is read and used."""

import gzip
import json
import shutil
from itertools import islice

import numpy as np
import pandas as pd
import torch
import yaml
from fsspec.implementations.local import LocalFileSystem

from dashboard.concepts import tables
from dashboard.manifold import figures, frontier, pareto, reports, strength_view, zones
from dashboard.scaling import figures as scaling_figures
from dashboard.scaling import law
from dashboard.steering import strength
from glp_core import workspace_list
from glp_core.building.plan import made_with
from glp_core.building.state import BuildState
from glp_core.data.bank import Bank
from glp_core.data.corpus import Document
from glp_core.data.probe_activations import ProbeActivations
from glp_core.data.store import ActivationStore
from glp_core.data.texts.documents import _stored_states
from glp_core.data.texts.files import TextFile
from glp_core.data.texts.formats import columns_of, rows_of
from glp_core.evaluation.checkpoint_scores import _read as read_scored
from glp_core.evaluation.runs import fit_points, points, read_run
from glp_core.files import read_object, write_json, write_tensors
from glp_core.llm.site import Site
from glp_core.llm.sources import check_shards
from glp_core.neuron_index.corpus_pass import TextSource, first_of_text, index_part, merge_parts
from glp_core.neuron_index.reader import NeuronIndex
from glp_core.neuron_index.reading import Reading
from glp_core.neuron_index.writer import finish
from glp_core.neurons.probing import task_scores
from glp_core.prior.checkpoint import load_glp, read_statistics
from glp_core.prior.facts import GlpFacts
from glp_core.prior.reference import Reference
from glp_core.reports import read_report
from glp_core.steering.direction_facts import DirectionFacts
from glp_core.steering.directions import Direction
from glp_core.steering.origins.labelled_texts import read_labelled_texts
from glp_core.steering.sweeps.cells import Cell
from glp_core.steering.sweeps.config import Along, SweepConfig
from glp_core.steering.sweeps.runs import RunFacts, Runs, found_in, rows
from glp_core.steering.sweeps.store import NUMBERS, Entry
from glp_core.steering.sweeps.store import _entries as stored_entries
from glp_core.training.kept_weights import kept_checkpoints
from glp_core.training.run_folder import RunFolder
from glp_core.training.sae import Sae, load_sae, save_sae
from glp_core.workspace import DEMO, Workspace
from tests.support import pages, run_fakes, tiny

RUN = "a-run"
TEXTS = [f"{i}: the cat saw rain {i * i} times, and the film was seen again by number {i % 5}." for i in range(14)]
REPORTS = (
    *(
        "reference",
        "evaluate",
        "bench",
        "first_press",
        "walk_tuning",
        "probing",
        "strengths",
        "pareto",
        "scorecard",
        "detection",
    ),
    *("zones", "measures", "scaling", "steering_sentiment"),
)
CSV = 'text,label\n"a cat, seen",1\nrain,0\nmore rain,0\na film,1\n'


def make(folder):
    """Write all files below `folder`."""
    workspace = pages.make_workspace(folder)
    _activations(folder)
    _index(folder)
    for name in REPORTS:
        write_json(folder / "reports" / f"{name}.json", _few(json.loads((DEMO / "reports" / f"{name}.json").read_text())))
    reference = json.loads(workspace.report_path("reference").read_text())
    write_json(workspace.report_path("layers"), {"layers": {"1": {"median_norm": 2.0, "reference": reference}}})
    run_fakes.write_run(folder / "runs", steps=4)
    _training(folder)
    _foreign(folder, workspace)
    _texts(folder / "texts")
    _sweep(folder / "sweeps")
    stages = [{"name": "bank", "title": "bank", "page": "Manifold", "state": "done", "percent": 100, "seconds": 2.0}]
    write_json(folder / "build.json", {"name": "Tiny", "effort": "quick", "state": "done", "stages": stages})
    write_json(folder / "prefixes.json", TEXTS[:4])
    write_json(folder / "cache" / "workspaces.json", {"workspaces": [str(folder)]})
    write_json(folder / "marks.json", {"8": {"open": [[0, 12], [1, 0]], "next": 2, "turn": 1}})


def _few(value):
    """Return a JSON value whose lists and objects are cut to a few entries."""
    if isinstance(value, dict):
        keys = list(value) if len(value) <= 24 else list(value)[:3]
        return {key: _few(value[key]) for key in keys}
    return (
        [_few(one) for one in value[: 2 if value and isinstance(value[0], dict | str) else 5]]
        if isinstance(value, list)
        else value
    )


def _activations(folder):
    acts = torch.randn(12, tiny.WIDTH, generator=torch.Generator().manual_seed(0))
    Bank(acts, torch.arange(12) // 3, [("a ", "b", " c")] * 12, {"layer": 2}, torch.rand(12, 2)).save(folder / "bank")
    rows = {
        "acts": acts.half(),
        "tokens": torch.arange(12),
        "documents": torch.arange(12) // 3,
        "positions": torch.arange(12) % 3,
    }
    store = folder / "store"
    for name in ("train-00000", "validation"):
        write_tensors(store / f"{name}.safetensors", rows)
    statistics = {"mean": acts.mean(0), "var": acts.var(0), "covariance": acts.T.cov()}
    write_tensors(store / "statistics.safetensors", statistics)
    shard = {"file": "train-00000.safetensors", "documents": 4, "activations": 12, "massive_left_out": 0}
    facts = {"llm": "tiny", "layer": 2, "dtype": "float16", "median_norm": 5.0, "shards": [shard]}
    write_json(store / "manifest.json", facts)
    parts = {"layer": acts, "mlp": acts[:, :8].clone(), "keys": torch.arange(12)}
    write_tensors(folder / "probes" / "part-00000.safetensors", parts, {"made_by": "tiny, layer 2"})


def _index(folder):
    llm, glp, reading = tiny.make_tiny_llm(), tiny.tiny_glp(), Reading(sigma=0.2)
    documents = [Document(text, "made up") for text in TEXTS]
    source = TextSource(Site(llm, 2, 1e9), documents, first_of_text(documents))
    part = folder / "part.safetensors"
    index_part(glp, reading, source, range(source.blocks), part, identity={"glp": "tiny"})
    statistics, facts = merge_parts([part])
    finish(statistics, glp, llm, reading, documents, folder / "neurons", facts=facts)
    n = glp.n_layers * glp.d_mlp
    side = {"words": "“x”", "keys": ["x"], "precision": 0.5, "recall": 0.25, "named": 8, "firing": 16}
    write_json(folder / "neurons" / "descriptions.json", {"units": [["a", "automatic"]] * n, "sides": [[side, None]] * n})
    scores = {"test": torch.rand(2, n).half(), "profile": torch.rand(2, n).half(), "best_auc": torch.rand(n)}
    scores["best_task"] = torch.zeros(n, dtype=torch.int16)
    write_tensors(folder / "neurons" / "concepts.safetensors", scores, {"tasks": json.dumps(["1_a", "2_b"])})
    places = np.divmod(np.arange(n), glp.d_mlp)
    points_of = {"layer": places[0], "unit": places[1], "x": np.arange(n) / n, "y": np.arange(n) / n, "kind": "writes"}
    pd.DataFrame(points_of).to_parquet(folder / "neurons" / "maps.parquet", index=False)
    write_json(folder / "neurons" / "maps.json", {"neighbours": 15, "seed": 0})
    values = {"task": ["1_a"] * 4, "value": np.arange(4, dtype=np.float32), "label": np.array([0, 1, 0, 1], np.int8)}
    pd.DataFrame(values).to_parquet(folder / "neurons" / "task_scores.parquet", index=False)


def _training(folder):
    run = folder / "training"
    shutil.copytree(folder / "glp", run)
    shutil.copy(folder / "runs" / "run1000000" / "train.csv", run / "train.csv")
    write_json(run / "run.json", {"train": {"activations": 1000}, "dtype": "float32"})
    write_tensors(run / "state.safetensors", {"step": torch.tensor(3), "seconds": torch.tensor(1.5), "losses": torch.ones(2)})
    sae = Sae(tiny.WIDTH, 16, 2, torch.zeros(tiny.WIDTH), 1.0)
    save_sae(sae, folder / "sae.safetensors", {"n_latents": 16})


def _foreign(folder, workspace):
    from glp_core.steering.origins.foreign import write_control_vector

    foreign = folder / "foreign"
    foreign.mkdir()
    write_control_vector(workspace.direction("up"), foreign / "joy.gguf", model_type="llama")
    torch.save(torch.randn(4, tiny.WIDTH), foreign / "persona.pt")
    write_tensors(foreign / "sae.safetensors", {"W_dec": torch.randn(4, tiny.WIDTH)})
    statistics = read_statistics(folder / "glp")
    released = folder / "released"
    released.mkdir()
    torch.save({"mean": statistics["mean"], "var": statistics["var"].numpy()}, released / "rep_statistics.pt")
    shape = json.loads((folder / "glp" / "config.json").read_text())["denoiser"]
    whole = {
        "model_name": "org/model",
        "glp_kwargs": {"denoiser_config": shape, "tracedict_config": {"layers": ["model.layers.2"]}},
    }
    (released / "config.yaml").write_text(yaml.safe_dump(whole))
    shutil.copy(folder / "glp" / "final.safetensors", released / "final.safetensors")
    write_json(folder / "shards" / "model.safetensors.index.json", {"weight_map": {"a": "model-1.safetensors"}})


def _texts(folder):
    folder.mkdir()
    lines = "".join(json.dumps({"text": text, "id": i}) + "\n" for i, text in enumerate(TEXTS)).encode()
    for name, data in {
        "a.jsonl": lines,
        "a.jsonl.gz": gzip.compress(lines),
        "a.csv": CSV.encode(),
        "a.txt": b"One.\n\nTwo.\n",
    }.items():
        (folder / name).write_bytes(data)
    pd.DataFrame({"text": TEXTS, "id": range(len(TEXTS))}).to_parquet(folder / "a.parquet", index=False)
    (folder / "labelled.csv").write_text(CSV)
    (folder / "labelled.json").write_text(json.dumps([{"text": "a", "label": 1}, {"text": "b", "label": 0}]))


def _sweep(folder):
    runs, config = Runs(folder), SweepConfig(prompts=("A", "B"), directions=(Along("up", "upwards", (0.5,)),), tokens=5)
    entry = Entry("more", *[0.5] * len(NUMBERS), 5).to_json()
    lines = [Cell("up", arm, 0.5, None)._asdict() | {"seed": 0, "prompt": "A"} | entry for arm in ("raw", "walk")]
    runs.begin(config, 2)
    runs.save(RUN, [line | {"marks": {"concept": 1.0, "fluency": 2.0}} for line in lines], {"summary": {}})
    shutil.move(folder / "runs" / runs.listed()[0].id / "config.json", folder / "runs" / RUN / "config.json")
    runs.tell(RunFacts(RUN, "up", "done", "2026-01-01 10:00", 2, 2, 1.5))
    write_json(folder / "cells" / "one.json", {"texts": {"a": entry}})


# how each is read, and used as pages and commands use it


def open_workspace(folder):
    workspace = Workspace.open(folder)
    assert workspace.name and workspace.prefixes()
    assert all(isinstance(one, str) for one in workspace.llm.to_json().values())


def use_glp(folder):
    GlpFacts.read(folder).shape  # noqa: B018 - the sidebar's words
    glp = load_glp(folder)
    assert glp.project(torch.zeros(1, glp.d_input), steps=2).shape == (1, glp.d_input)
    kept_checkpoints(folder)


def use_facts(folder):
    facts = GlpFacts.read(folder)
    assert (
        f"{facts.parameters / 1e6:.1f}" and facts.shape is not None and facts.llm is not None and list(facts.layers) is not None
    )
    assert f"{facts.activations_seen or 0:,.1f}" and f"{facts.validation_loss or 0:.3f}"


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
    index.map_facts.get("seed")


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
    law.export([run])
    law.how_measured([run], "frechet")
    read_scored(run.folder / "evals.csv")


def use_training(folder):
    run = RunFolder(folder / "training")
    run.configuration({"train": {"activations": 1000}, "dtype": "float32"})
    run.state()
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
    "scorecard": lambda report: [reports._scores(row) for row in report["rows"]],
    "reference": lambda report: Reference(report).quantiles(201),
    "measures": lambda report: [f"{one['n']:,}" for one in report["measures"].values()],
    "strengths": lambda report: [strength._zone(one["arms"]["raw"]) for one in report["directions"].values()],
}
"""Name of a report to what pages draw of it."""


def use_sweep(folder):
    runs = Runs(folder / "sweeps")
    assert all(f"{one.done:,} of {one.total:,} in {one.seconds:.0f}" for one in runs.listed())
    found, judged = found_in(runs.texts(RUN))
    assert all(0 <= mark.both <= 2 for mark in judged.values()) and all(isinstance(one, Cell) for one in found)
    list(rows(runs.config(RUN), found, judged))


def use_build(folder):
    assert 0 <= BuildState.read(folder).percent <= 100


def use_list(folder):
    assert workspace_list._remembered() is not None and list(map(str, workspace_list.listed())) is not None


READERS = {
    "workspace.json": (open_workspace, ["workspace.json", "prefixes.json"]),
    "GLP": (lambda folder: use_glp(folder / "glp"), ["glp/config.json", "glp/statistics.safetensors", "glp/final.safetensors"]),
    "GLP facts": (lambda folder: use_facts(folder / "glp"), ["glp/config.json", "glp/final.safetensors"]),
    "released GLP": (
        lambda folder: use_glp(folder / "released"),
        ["released/config.yaml", "released/config.yaml", "released/rep_statistics.pt", "released/final.safetensors"],
    ),
    "direction": (lambda folder: use_direction(folder / "directions" / "up.safetensors"), ["directions/up.safetensors"]),
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
    "run": (use_run, [*["runs/run1000000/train.csv"] * 2, "runs/run1000000/config.json", "runs/run1000000/evals.csv"]),
    "training": (
        use_training,
        ["training/run.json", "training/state.safetensors", "training/train.csv", "training/config.json"],
    ),
    "SAE": (use_sae, ["sae.safetensors"]),
    "control vector": (foreign_reader("joy.gguf"), ["foreign/joy.gguf"]),
    "persona vectors": (foreign_reader("persona.pt"), ["foreign/persona.pt"]),
    "foreign SAE": (foreign_reader("sae.safetensors", latent=1), ["foreign/sae.safetensors"]),
    **{
        f"texts, {name}": (texts_reader(name), [f"texts/{name}"])
        for name in ("a.jsonl", "a.jsonl.gz", "a.csv", "a.txt", "a.parquet")
    },
    **{name: (labelled_reader(name), [f"texts/{name}"]) for name in ("labelled.csv", "labelled.json")},
    **{f"report {name}": (report_reader(name), [f"reports/{name}.json"]) for name in (*REPORTS, "layers")},
    "sweep": (
        use_sweep,
        [*[f"sweeps/runs/{RUN}/{name}" for name in ("config.json", "state.json")], *[f"sweeps/runs/{RUN}/texts.jsonl"] * 2],
    ),
    "cells of sweeps": (lambda folder: stored_entries(folder / "sweeps" / "cells" / "one.json"), ["sweeps/cells/one.json"]),
    "build.json": (use_build, ["build.json"]),
    "list of workspaces": (use_list, ["cache/workspaces.json"]),
    "marks in texts": (lambda folder: _stored_states(folder / "marks.json", 2), ["marks.json"]),
    "shards of an LLM": (lambda folder: check_shards(folder / "shards"), ["shards/model.safetensors.index.json"]),
    "any JSON": (lambda folder: read_object(folder / "build.json"), ["build.json"]),
}
"""Name to how it is read, given the folder, and the files in it that are damaged, one at a time."""
