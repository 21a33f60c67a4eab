"""`python -m tests.bench.bench_index`: the one-pass index against a plain two-pass reference; adds index_speedup to reports/bench.json.

The reference does what the published script does: float32, hooks, pass 1 finds each neuron's extreme documents, pass 2 runs these
again and gathers their token values. Same texts, same weights, same process. It gathers less: no distributions, no samples.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from glp_core.data.corpus import documents
from glp_core.llm.hooks import record
from glp_core.llm.loading import load_llm
from glp_core.neuron_index.corpus_pass import TextSource, first_of_text, index_part
from glp_core.neuron_index.format import KEPT
from glp_core.neuron_index.neuron_data import NOISE_FREE
from glp_core.prior.checkpoint import load_glp
from glp_core.prior.glp import GLP
from glp_core.workspace import DEMO, Workspace

PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::_addmm_activation", "mkldnn::_linear_pointwise"}
BATCH = 32


@torch.no_grad()
def read_plainly(llm, glp, layer, rows):
    """Return each row's neurons (tokens, neurons), float32, through hooks on the plain network."""
    ids, mask = llm.pad(rows)
    with record(llm.model, [layer], stop=True) as acts:
        llm.model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=1)
    flat = torch.cat([acts[layer][i, 1 : len(row)] for i, row in enumerate(rows)])
    seen = []
    handles = [b.down_proj.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0])) for b in glp.network.layers]
    try:
        glp.velocity((1 - NOISE_FREE.sigma) * glp.normalize(flat), NOISE_FREE.sigma)
    finally:
        for handle in handles:
            handle.remove()
    neurons = torch.cat([h.flatten(0, 1) for h in seen], dim=1)
    return neurons.split([len(row) - 1 for row in rows])


def two_passes(llm, glp, layer, rows):
    """Return values and numbers (neurons, 2, KEPT) of the extreme documents, and their token values by (document, side, neuron)."""
    n_neurons = glp.n_layers * glp.d_mlp
    best = torch.full((n_neurons, 2, KEPT), -torch.inf)
    which = torch.full((n_neurons, 2, KEPT), -1)
    for first in range(0, len(rows), BATCH):
        each = read_plainly(llm, glp, layer, rows[first : first + BATCH])
        extremes = torch.stack([torch.stack([u.amax(0), -u.amin(0)], 1) for u in each], 2)
        numbers = torch.arange(first, first + len(each)).expand(n_neurons, 2, -1)
        best, chosen = torch.cat([best, extremes], 2).topk(KEPT, dim=2)
        which = torch.cat([which, numbers], 2).gather(2, chosen)
    wanted = {n: (which == n).nonzero() for n in which.unique().tolist() if n >= 0}
    values = {}
    todo = list(wanted)
    for first in range(0, len(todo), BATCH):
        some = todo[first : first + BATCH]
        for n, neurons in zip(some, read_plainly(llm, glp, layer, [rows[n] for n in some]), strict=True):
            values[n] = neurons[:, wanted[n][:, 0]].clone()
    return best, which, values


def one_pass(llm, glp, source, folder):
    """Run the index as the command does."""
    return index_part(glp, NOISE_FREE, source, range(source.blocks), Path(folder) / "part.safetensors", identity={})


def share_of_products(llm, glp, source, folder):
    """Return the share of the pass's time inside matrix products."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        begun = time.perf_counter()
        one_pass(llm, glp, source, folder)
        total = time.perf_counter() - begun
    return sum(e.self_cpu_time_total for e in seen.key_averages() if e.key in PRODUCTS) / 1e6 / total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", default=DEMO)
    parser.add_argument("--documents", type=int, default=2048)
    args = parser.parse_args()
    workspace = Workspace.open(args.workspace)
    texts = documents("train")[: args.documents]
    listed = first_of_text(texts)
    native_llm, native_glp = workspace.load_llm(), workspace.load_glp()
    source = TextSource(workspace.site(native_llm), texts, listed)
    warm = TextSource(workspace.site(native_llm), texts[:64], listed[:64])
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two, tempfile.TemporaryDirectory() as three:
        one_pass(native_llm, native_glp, warm, one)
        begun = time.perf_counter()
        statistics = one_pass(native_llm, native_glp, source, two)
        ours = time.perf_counter() - begun
        share = share_of_products(native_llm, native_glp, source, three)
    exact = load_glp(workspace.folder / "glp")
    plain = GLP(exact.config, exact.normalizer.mean, exact.normalizer.var)
    plain.network.load_state_dict(exact.network.state_dict())
    llm = load_llm(workspace.llm, dtype=torch.float32)
    rows = [llm.encode(document.text, max_tokens=128) for document in texts]
    begun = time.perf_counter()
    best, _, _ = two_passes(llm, plain.eval(), workspace.layer, [row for row in rows if len(row) > 1])
    reference = time.perf_counter() - begun
    # repeated texts and massive tokens are only left out of ours, so compare medians of the best values, which agree to bfloat16
    agreement = float((statistics.values[..., 0] - best[..., 0]).abs().median() / best[..., 0].abs().median())
    found = {
        "index_speedup": round(reference / ours, 2),
        "index_share_of_products": round(share, 3),
        "index": {
            "documents": len(texts),
            "tokens": statistics.n_tokens,
            "tokens_per_second": round(statistics.n_tokens / ours),
            "reference_tokens_per_second": round(statistics.n_tokens / reference),
            "median_difference_of_best_values": round(agreement, 4),
        },
    }
    bench = workspace.report("bench") or {}
    bench.pop("made_by", None)
    workspace.save_report("bench", bench | found)
    sys.stdout.write("\n".join(f"{key}: {value}" for key, value in found.items()) + "\n")


if __name__ == "__main__":
    main()
