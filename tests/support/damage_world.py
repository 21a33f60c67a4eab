"""A folder with one small file of every kind that a workspace or a foreign model has."""

import gzip
import json
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
import yaml
from gguf import GGUFWriter

from glp_core.data.bank import Bank
from glp_core.data.corpus import Document
from glp_core.data.texts.source import OwnTexts
from glp_core.files import write_json, write_tensors
from glp_core.llm.site import Site
from glp_core.llm.sources import LlmSource
from glp_core.neuron_index.corpus_pass import TextSource, first_of_text, index_part, merge_parts
from glp_core.neuron_index.neuron_data import Reading
from glp_core.neuron_index.reader import NeuronIndex
from glp_core.neuron_index.writer import finish
from glp_core.neurons.description_server import subject_of
from glp_core.prior.checkpoint import read_statistics, save_fitted_steps
from glp_core.prior.flow import TwoCalls
from glp_core.steering.sweeps.cells import Cell
from glp_core.steering.sweeps.config import Along, Scorer, SweepConfig
from glp_core.steering.sweeps.runs import RunFacts, Runs
from glp_core.steering.sweeps.scores import Judge
from glp_core.steering.sweeps.store import NUMBERS, Entry
from glp_core.training.run_folder import CHECKS
from glp_core.training.sae import Sae, save_sae
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
        "conversations",
        "detection",
    ),
    *("zones", "measures", "scaling", "steering_sentiment", "sae", "solvers"),
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
    save_fitted_steps(folder / "glp", [TwoCalls(0.2), TwoCalls(0.5)])
    run_fakes.write_run(folder / "runs", steps=4)
    write_json(folder / "runs" / "run1000000" / "evals.json", {"frechet": {"n": 2000, "solver": "euler", "layers": [1, 2]}})
    _training(folder)
    _foreign(folder, workspace)
    _llm(folder)
    _texts(folder / "texts")
    _own_texts(folder)
    _sweep(folder / "sweeps")
    stages = [{"name": "bank", "title": "bank", "page": "Manifold", "state": "done", "percent": 100, "seconds": 2.0}]
    write_json(folder / "build.json", {"name": "Tiny", "effort": "quick", "state": "done", "stages": stages})
    for name in ("prefixes", "validation_prefixes"):
        write_json(folder / f"{name}.json", TEXTS[:4])
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
    write_json(folder / "neurons" / "maps.json", {"parameters": {"writes": {"neighbours": 15, "seed": 0}}})
    said = {"explanation": "cats", "consistency": 4.0, "complexity": 1.0, "model": "m"}
    subject = subject_of(NeuronIndex.open(folder / "neurons"))
    answers = [{"unit": i, "of": subject} | said for i in range(3)]
    (folder / "neurons" / "answers.jsonl").write_text("".join(json.dumps(one) + "\n" for one in answers))
    values = {"task": ["1_a"] * 4, "value": np.arange(4, dtype=np.float32), "label": np.array([0, 1, 0, 1], np.int8)}
    pd.DataFrame(values).to_parquet(folder / "neurons" / "task_scores.parquet", index=False)


def _training(folder):
    run = folder / "training"
    shutil.copytree(folder / "glp", run)
    shutil.copy(folder / "runs" / "run1000000" / "train.csv", run / "train.csv")
    shutil.copy(folder / "runs" / "run1000000" / "evals.json", run / "evals.json")
    write_json(run / "run.json", {"train": {"activations": 1000, "first_checkpoint": 500}, "dtype": "float32"})
    write_tensors(run / "supply-0-step-3.safetensors", {"place": torch.tensor(3)})
    (run / "checks.csv").write_text(",".join(CHECKS) + "\n1,64,2.5,,,,0.1,0.2,0.3,0.4,0.5\n3,192,2.4,,,,0.1,0.2,0.3,0.4,0.5\n")
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
    with pa.CompressedOutputStream(str(folder / "a.jsonl.zst"), "zstd") as stream:
        stream.write(lines)
    for name, data in {
        "a.jsonl": lines,
        "a.jsonl.gz": gzip.compress(lines),
        "a.csv.gz": gzip.compress(CSV.encode()),
        "a.csv": CSV.encode(),
        "a.txt": b"One.\n\nTwo.\n",
    }.items():
        (folder / name).write_bytes(data)
    pd.DataFrame({"text": TEXTS, "id": range(len(TEXTS))}).to_parquet(folder / "a.parquet", index=False)
    (folder / "labelled.csv").write_text(CSV)
    (folder / "labelled.json").write_text(json.dumps([{"text": "a", "label": 1}, {"text": "b", "label": 0}]))


def _own_texts(folder):
    """Write a workspace whose texts are its own."""
    own = folder / "own"
    (own / "texts").mkdir(parents=True)
    (own / "texts" / "all.jsonl").write_text("".join(json.dumps({"text": f"{i}: rain {i * i}"}) + "\n" for i in range(60)))
    source = LlmSource("folder", str(folder / "llm"))
    Workspace(own, "Own", source, layer=2, median_norm=5.0, texts=OwnTexts(str(own / "texts"), "text")).save()


def _llm(folder):
    """Write a language model of a stranger, whole and as a GGUF."""
    tiny.keep_llm(folder / "llm")
    (folder / "gguf").mkdir()
    write_llm(folder / "gguf" / "tiny.gguf")


def write_llm(path):
    """Write a tiny language model as a GGUF: one block of Llama, and a tokenizer of its bytes."""
    writer, width, hidden, generator = GGUFWriter(path, "llama"), 32, 64, np.random.default_rng(0)
    words = [*(chr(65 + i) for i in range(60)), "ab", "cd", "<|endoftext|>"]
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e4)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_merges(["a b", "c d"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    square, up = (width, width), (hidden, width)
    shapes = {"attn_q": square, "attn_k": square, "attn_v": square, "attn_output": square, "ffn_gate": up, "ffn_up": up}
    shapes |= {"ffn_down": up[::-1], "attn_norm": (width,), "ffn_norm": (width,)}
    tensors = {f"blk.0.{name}": shape for name, shape in shapes.items()}
    tensors |= {"token_embd": (len(words), width), "output": (len(words), width), "output_norm": (width,)}
    for name, shape in tensors.items():
        writer.add_tensor(f"{name}.weight", generator.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _sweep(folder):
    runs, config = Runs(folder), SweepConfig(prompts=("A", "B"), directions=(Along("up", "upwards", (0.5,)),), tokens=5)
    entry = Entry("more", *[0.5] * len(NUMBERS), 5).to_json()
    lines = [Cell("up", arm, 0.5, None)._asdict() | {"seed": 0, "prompt": "A"} | entry for arm in ("raw", "walk")]
    runs.begin(config, 2)
    runs.save(RUN, [line | {"marks": {"concept": 1.0, "fluency": 2.0}} for line in lines], {"summary": {}})
    shutil.move(folder / "runs" / runs.listed()[0].id / "config.json", folder / "runs" / RUN / "config.json")
    runs.tell(RunFacts(RUN, "up", "done", "2026-01-01 10:00", 2, 2, 1.5))
    write_json(folder / "cells" / "one.json", {"texts": {"a": entry}})
    write_json(folder / "speed.json", {"tokens_per_second": 12.5})
    write_json(judge(folder).path, {"concept": "cats", "model": "m", "marks": {"a": {"concept": 1.0, "fluency": 2.0}}})


def judge(sweeps):
    """Return the judge whose marks are in a folder of sweeps."""
    return Judge(sweeps, Scorer("server", concept="cats", endpoint="http://127.0.0.1:9/v1", model="m"))
