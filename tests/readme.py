"""`python -m tests.readme` writes the README's measured numbers from the demo's reports, its pages and folders from docstrings.

A test checks that they are up to date, so no number in the README is typed by hand.
"""

import ast
import re
from pathlib import Path

from glp_core.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
ROOMS = (
    ("pages", "one short script a page: it calls a page folder's functions in order"),
    ("dashboard/steering, neurons, concepts, manifold, scaling", "what one page shows, a folder each; none imports another"),
    ("dashboard/service", None),
    ("dashboard/widgets", None),
    ("dashboard", "the app, its server and launcher, the sidebar, the Overview"),
    *((f"glp_core/{room}", None) for room in ("llm", "prior", "data", "steering", "training", "neuron_index")),
    *((f"glp_core/{room}", None) for room in ("neurons", "evaluation", "cli")),
    ("glp_core", "the front door and what all rooms share: errors, files, statistics, workspaces"),
    ("tests", "tests in the folders of the code they test; fakes in support/, timings in bench/"),
    ("assets/demo", "the demo workspace: GLP, directions, index, runs, reports, and where they come from"),
)
"""Folders of the map with a phrase each; None takes the phrase from the folder's docstring."""


def numbers(workspace):
    """Return the table of measured numbers in Markdown; a report that is missing leaves its command."""
    lines = ["| What | Measured | Made by |", "|---|---|---|"]
    for name, command, rows in REPORTS:
        report = workspace.report(name)
        if report is None:
            lines.append(f"| {name.replace('_', ' ')} | not measured yet | `{command}` |")
            continue
        for words, value in rows(report):
            lines.append(f"| {words} | {value} | `{command}` |")
    return "\n".join(lines)


def evaluate_rows(r):
    delta, frechet = r["delta_lm"], r["frechet"]
    yield "activations that the GLP was trained on", f"{r['n_activations_trained']:,}"
    yield "validation loss (best linear denoiser)", f"{r['validation_loss']:.3f} ({r['gaussian_loss']:.3f})"
    yield (
        "rise of the LLM's loss when the layer is noised to 0.5 and denoised: GLP, Gaussian, mean ablation",
        f"+{delta['glp']:.3f}, +{delta['gaussian_mean']:.3f}, +{delta['mean_ablation']:.2f} nats",
    )
    yield (
        f"Frechet distance, generated-real (real-real), n = {frechet['n']:,}",
        f"{frechet['generated_real']:.1f} ({frechet['real_real']:.1f})",
    )


def bench_rows(r):
    solver = "{solver}, {calls} calls".format_map(r["fast_solver"])
    for kind, words in (("bf16", "same calls, native dtype"), ("fp32", "same calls, fp32"), ("fast", solver)):
        times = r["projection"][kind]
        sizes = ", ".join(f"{float(times[n]):.1f}x" for n in ("1", "16", "128", "1024"))
        yield f"projection against a plain reference, batch 1, 16, 128, 1024: {words}", sizes
    yield (
        f"error of {solver} (of the reference's 10-call Euler), share of the correction",
        f"{r['fast_error']:.3f} ({r['euler10_error']:.3f})",
    )
    if "compare_vs_generate" in r:
        yield "three steered columns against one plain `generate`, 64 tokens", f"{r['compare_vs_generate']:.2f}x the time"
    if "train_fraction_of_gemm" in r:
        yield "training, share of the machine's own matrix-product rate", f"{r['train_fraction_of_gemm']:.0%}"
    if "index_speedup" in r:
        yield "indexing all meta-neurons against two plain passes", f"{float(r['index_speedup']):.1f}x"
        yield "... share of that time in the models' matrix products", f"{float(r['index_share_of_products']):.0%}"


def steering_rows(r):
    rows = r["rows"]
    strengths = sorted({row["strength"] for row in rows if row["strength"] >= 1.0})
    for strength in (strengths[0], strengths[-1]) if strengths else ():
        arms = {row["arm"]: row for row in rows if row["strength"] == strength}
        if {"raw", "glp"} <= arms.keys():
            raw, glp = arms["raw"], arms["glp"]
            yield (
                f"positive sentiment at strength {strength:g}, {glp['n']} prefixes: concept score raw, GLP",
                f"{raw['concept']:.2f}, {glp['concept']:.2f}",
            )
            yield "... share of repeated tokens raw, GLP", f"{raw['repetition']:.0%}, {glp['repetition']:.0%}"


def probing_rows(r):
    auc = r["mean_auc"]
    order = [name for name in ("glp", "layer", "mlp", "sae") if name in auc]
    names = {"glp": "meta-neuron", "layer": "layer output", "mlp": "MLP neuron", "sae": "SAE latent"}
    yield (
        f"mean test AUC of the best single {', '.join(names[n] for n in order)} over {r['n_tasks']} probing tasks",
        ", ".join(f"{auc[n]:.3f}" for n in order),
    )
    low, high = r["paired_difference_ci"]
    words = f"... meta-neuron minus {names[r['best_baseline']]}, paired over tasks, with its 95% interval"
    yield words, f"{r['paired_difference']:+.3f} [{low:+.3f}, {high:+.3f}]"


def zones_rows(r):
    borders = [r["borders"][name] for name in ("drifting", "broken")]
    yield (
        f"manifold distance beyond which 25%, 75% of {r['n_texts']} steered texts break",
        ", ".join(f"{one['value']:.2f} [{one['ci'][0]:.2f}, {one['ci'][1]:.2f}]" for one in borders),
    )


def detection_rows(r):
    found = {row["kind"]: row["auroc"] for row in r["rows"] if row["measure"] == "error"}
    kinds = [f"steered, strength {strength}" for strength in ("0.25", "0.5", "1")]
    if all(kind in found for kind in kinds):
        words = "AUROC of the denoising error for activations steered at 0.25, 0.5, 1 against real ones"
        yield words, ", ".join(f"{found[kind]:.2f}" for kind in kinds)


def scorecard_rows(r):
    rows = {(row["method"].split(",")[0], row["way"]): row for row in r["rows"]}
    shown = {
        "GLP": ("GLP", "noised to 0.5 and denoised"),
        "PCA": ("PCA", "projected on them"),
        "Gaussian": ("Gaussian", "noised to 0.5, posterior mean"),
        "SAE": ("SAE", "reconstructed"),
    }
    found = {name: rows[key] for name, key in shown.items() if key in rows}
    for measure, words, form in (("delta_lm", "rise of the LLM's loss", "+.3f"), ("frechet", "Frechet distance", ".0f")):
        yield (
            f"{words} when the layer is rebuilt by {', '.join(found)}",
            ", ".join(f"{row[measure]['value']:{form}}" for row in found.values()),
        )


def scaling_rows(r):
    law = [f"{name} {r[name]['value']:.3g} [{r[name]['ci'][0]:.2g}, {r[name]['ci'][1]:.2g}]" for name in ("E", "A", "alpha")]
    yield f"loss = E + A C^-alpha in FLOPs C, {r['n_runs']} runs, {r['n_checkpoints']} checkpoints", ", ".join(law)
    for name, words in SCORES.items():
        if found := r.get("correlations", {}).get(name):
            low, high = found["ci"]
            yield f"... rank correlation of loss and {words}", f"{found['value']:.2f} [{low:.2f}, {high:.2f}], n = {found['n']}"


SCORES = {
    "probing": "mean 1-D probing AUC",
    "steering": "steering score",
    "delta_lm": "Delta LM loss",
    "frechet": "Frechet distance",
}

REPORTS = (
    ("evaluate", "python -m glp_core evaluate", evaluate_rows),
    ("bench", "make bench", bench_rows),
    ("steering_sentiment", "python -m glp_core steer-sentiment", steering_rows),
    ("probing", "python -m glp_core probe", probing_rows),
    ("zones", "python -m glp_core zones", zones_rows),
    ("detection", "python -m glp_core detect", detection_rows),
    ("scorecard", "python -m glp_core scorecard", scorecard_rows),
    ("scaling", "python -m glp_core scaling", scaling_rows),
)
"""Report, the command that makes it, and its rows."""


def phrase(path):
    """Return what a file is, from the first sentence of its docstring."""
    words = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]
    return re.split(r"(?<=[\w)`])[.;] ", words + " ")[0].strip().rstrip(".")


def rooms():
    """Return the map of folders, one phrase each."""
    lines = ["| Folder | What is in it |", "|---|---|"]
    for name, words in ROOMS:
        words = words or phrase(ROOT / name / "__init__.py")
        lines.append(f"| `{name}` | {words[0].upper()}{words[1:]} |")
    return "\n".join(lines)


def pages():
    """Return the table of pages, each with what its docstring says after the title."""
    lines = ["| Page | What it answers |", "|---|---|"]
    order = ("overview", "steering", "neurons", "concepts", "manifold", "scaling")
    known = {path.stem: path for path in sorted((ROOT / "pages").glob("*.py"))}
    for name in sorted(known, key=lambda n: (order.index(n) if n in order else len(order), n)):
        title, _, words = ast.get_docstring(ast.parse(known[name].read_text())).split("\n")[0].partition(": ")
        lines.append(f"| {title} | {words[0].upper()}{words[1:]} |")
    return "\n".join(lines)


def renewed(text, name, body):
    """Return the README's text with the part between a pair of markers replaced."""
    begin, end = f"<!-- {name}: made by python -m tests.readme -->", f"<!-- end of {name} -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"README.md lacks the markers of {name}")
    return f"{before}{begin}\n{body}\n{end}{after}"


def wanted():
    """Return the README as it should be."""
    text = renewed(README.read_text(), "numbers", numbers(Workspace.open()))
    return renewed(renewed(text, "pages", pages()), "rooms", rooms())


if __name__ == "__main__":
    README.write_text(wanted())
