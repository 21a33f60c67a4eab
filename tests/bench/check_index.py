"""`python -m tests.bench.check_index`: the index against a brute-force scan, and the shipped index against the models.

First 2,000 documents are indexed in float32 by the command's own code, and scanned one by one with the plain public calls; 50 random
neurons must have the same top and bottom texts and values, and histograms that count every token. Then the shipped index: all
histograms sum to the tokens seen, and texts listed for the neurons are read again. Writes reports/index_check.json; status 1 on failure.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from glp_core.cli.console import reporter
from glp_core.data.corpus import documents
from glp_core.data.store import DOCUMENTS_PER_BLOCK, TOKENS_PER_DOCUMENT
from glp_core.llm.loading import load_llm
from glp_core.neuron_index.corpus_pass import TextSource, first_of_text, index_part
from glp_core.neuron_index.format import KEPT
from glp_core.neuron_index.reader import NeuronIndex
from glp_core.neuron_index.reading import read_neurons
from glp_core.neuron_index.writer import finish
from glp_core.neurons.over_text import read_text
from glp_core.prior.checkpoint import load_glp
from glp_core.workspace import DEMO, Workspace

SAME = 1e-4
"""Relative difference that float32 arithmetic in batches of another shape may make."""
REREAD = 3
"""Texts of each sign that are read again for each neuron of the shipped index."""
NEAR = 0.03
"""Share of a neuron's scale by which bfloat16 values may differ when read in another batch."""


def scan(llm, glp, workspace, reading, texts, neurons):
    """Return the neurons' highest and negated lowest values (documents, neurons), -inf for repeated texts, and the tokens."""
    highs, lows = np.full((2, len(texts), len(neurons)), -np.inf, np.float32)
    seen, tokens, report = set(), 0, reporter("scan")
    for number, document in enumerate(texts):
        report(number + 1, len(texts), "documents one by one")
        ids = llm.encode(document.text, max_tokens=TOKENS_PER_DOCUMENT)
        if len(ids) < 2:
            continue
        acts = llm.activations([ids], workspace.layer)[0][1:]
        acts = acts[~workspace.site(llm).is_massive(acts)]
        tokens += len(acts)
        key = " ".join(document.text.split()).casefold()[:300]
        repeated = key in seen
        seen.add(key)
        if repeated or not len(acts):
            continue
        values = read_neurons(glp, acts, reading)[:, neurons]
        highs[number], lows[number] = values.amax(0), (-values).amax(0)
    return highs, lows, tokens


def differences(index, neuron, highs, lows):
    """Return in words what one neuron's lists have that the scan has not; nothing when they agree."""
    wrong = []
    for side, listed, values in (("top", neuron.top, highs), ("bottom", neuron.bottom, lows)):
        sign = 1 if side == "top" else -1
        order = np.argsort(-values, kind="stable")[:KEPT]
        least = SAME * float(np.abs(values[order]).max())
        got = np.array([sign * s.value for s in listed])
        if len(got) != KEPT or np.abs(got - values[order]).max() > least:
            wrong.append(f"L{neuron.layer}/{neuron.neuron} {side}: values {got[:3]} against {values[order[:3]]}")
        strays = [s.document for s in listed if abs(values[s.document] - sign * s.value) > least]
        missing = [n for n in order if values[n] > got.min() + least and n not in {s.document for s in listed}]
        if strays or missing:
            wrong.append(f"L{neuron.layer}/{neuron.neuron} {side}: documents {strays} do not belong, {missing} are missing")
    if int(neuron.counts.sum()) != index.n_tokens:
        wrong.append(f"L{neuron.layer}/{neuron.neuron}: the histogram counts {neuron.counts.sum()} of {index.n_tokens} tokens")
    return wrong


def check_scan(llm, glp, workspace, reading, texts, n_neurons):
    """Index documents and compare with the scan; return facts and what is wrong."""
    source = TextSource(workspace.site(llm), texts, first_of_text(texts))
    blocks = range(-(-len(texts) // DOCUMENTS_PER_BLOCK))
    flat = np.sort(np.random.default_rng(0).choice(glp.n_layers * glp.d_mlp, n_neurons, replace=False))
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part.safetensors"
        statistics = index_part(glp, reading, source, blocks, part, identity={}, progress=reporter("index"))
        finish(statistics, glp, llm, reading, texts, Path(folder), facts={}, progress=reporter("finish"))
        index = NeuronIndex.open(Path(folder))
        highs, lows, tokens = scan(llm, glp, workspace, reading, texts, flat)
        wrong = [] if tokens == index.n_tokens else [f"{index.n_tokens} tokens were indexed, {tokens} scanned"]
        for column, number in enumerate(flat.tolist()):
            wrong += differences(index, index.neuron(*divmod(number, glp.d_mlp)), highs[:, column], lows[:, column])
    return {"documents": len(texts), "tokens": tokens, "neurons": n_neurons}, wrong


def check_shipped(workspace, n_neurons):
    """Read texts of the shipped index again; return facts and what is wrong."""
    index = NeuronIndex.open(workspace.neurons)
    llm, glp = workspace.load_llm(), workspace.load_glp()
    short = [n for n in range(index.n_neurons) if int(index.neuron(*divmod(n, index.d_mlp)).counts.sum()) != index.n_tokens]
    wrong = [f"{len(short)} histograms do not count all {index.n_tokens} tokens"] if short else []
    corpus, off, foreign = documents("train"), [], 0
    for number in np.random.default_rng(1).choice(index.n_neurons, n_neurons, replace=False).tolist():
        neuron = index.neuron(*divmod(number, index.d_mlp))
        for listed in [*neuron.top[:REREAD], *neuron.bottom[:REREAD]]:
            words, longest = corpus[listed.document].text, TOKENS_PER_DOCUMENT - 1
            read = read_text(workspace.site(llm), glp, words, index.reading, max_tokens=longest)
            same = read.pieces == listed.pieces
            foreign += not same
            off.append(abs(float(read.values[listed.peak, number]) - listed.value) / neuron.scale if same else 0.0)
    if foreign:
        wrong.append(f"{foreign} listed texts are not the corpus's documents of their numbers")
    if np.quantile(off, 0.95) > NEAR:
        wrong.append(f"values read again differ by {np.quantile(off, 0.95):.3f} of the neuron's scale (95% quantile)")
    facts = {"neurons": n_neurons, "texts": len(off), "median_difference": float(np.median(off))}
    return facts | {"largest_difference": float(np.max(off)), "histograms": index.n_neurons, "tokens": index.n_tokens}, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=DEMO)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--neurons", "--units", type=int, default=50)
    args = parser.parse_args()
    workspace = Workspace.open(args.workspace)
    reading = NeuronIndex.open(workspace.neurons).reading
    exact = load_llm(workspace.llm, dtype=torch.float32), load_glp(workspace.folder / "glp")
    scanned, wrong = check_scan(*exact, workspace, reading, documents("train")[: args.documents], args.neurons)
    shipped, wrong_too = check_shipped(workspace, args.neurons)
    failures = wrong + wrong_too
    workspace.save_report("index_check", {"scan": scanned, "shipped": shipped, "failures": failures})
    sys.stdout.write("\n".join([f"scan: {scanned}", f"shipped: {shipped}", *failures, f"{len(failures)} failures"]) + "\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
