"""`python -m tests.bench.ten_concepts`: the neuron found for each of ten concepts, with the evidence and its top texts.

Five concepts are probing tasks (texts of their training rows), five are given by texts of our own in ten_concepts.json. They were
chosen before any result was seen; after a trial the negated sentences were made as long as the plain ones, as length gave them away.
Prints a Markdown table and writes reports/ten_concepts.json, failures included. With --compare other readings (without noise, means of
draws, other levels) and combinations of two and three neurons are tried on the same texts too; their table is printed and kept beside.
"""

import argparse
import json
import sys
from pathlib import Path

import torch

from glp_core.cli.console import reporter
from glp_core.data.corpus import task, task_rows
from glp_core.data.text_activations import TextReading
from glp_core.devices import choose_device
from glp_core.neuron_index.neuron_data import PAPER, Reading
from glp_core.neuron_index.reader import NeuronIndex
from glp_core.neuron_index.reading import read_neurons
from glp_core.neurons.search import find_neurons, held_out_auc
from glp_core.workspace import DEMO, Workspace

GIVEN = Path(__file__).with_name("ten_concepts.json")
TASK_TEXTS = 64
"""Texts of each class of a task."""
TOP_TEXTS = 3
COMBINED = (1, 2, 3)
CLEAR = 0.9
"""Cross-validated AUC from which on a concept counts as told apart."""
READINGS = [Reading(sigma, draws) for sigma in (0.02, 0.05, 0.1, 0.2, 0.4) for draws in (0, 8)] + [PAPER]
NEAR = 8
"""Tokens shown on either side of a text's peak."""


def concepts():
    """Yield name, question, positive and negative texts of each concept."""
    given = json.loads(GIVEN.read_text(encoding="utf-8"))
    for name in given["tasks"]:
        rows = task_rows(task(name), "train")
        positive, negative = (rows["text"][rows["label"] == label].head(TASK_TEXTS).tolist() for label in (1, 0))
        yield name, task(name).asks, positive, negative
    for own in given["own"]:
        yield own["name"], own["asks"], own["texts"], given["plain"]


def evidence(index, name, asks, found):
    """Return what is reported of one concept."""
    best = found.neurons[0]
    neuron = index.neuron(best.layer, best.neuron)
    side = neuron.top if best.sign > 0 else neuron.bottom
    return {
        "concept": name,
        "asks": asks,
        "n_positive": found.n_positive,
        "n_negative": found.n_negative,
        "layer": best.layer,
        "unit": best.neuron,
        "sign": best.sign,
        "auc": best.auc,
        "cross_validated_auc": found.cross_validated.value,
        "ci": found.cross_validated.ci,
        "p_value": found.p_value,
        "permutations": found.permutations,
        "description": neuron.description,
        "texts": [snippet_text(snippet) for snippet in side[:TOP_TEXTS]],
    }


def snippet_text(snippet):
    """Return the text around the peak on one line, the peak between two stars."""
    first, last = max(0, snippet.peak - NEAR), snippet.peak + NEAR + 1
    before, after = "".join(snippet.pieces[first : snippet.peak]), "".join(snippet.pieces[snippet.peak + 1 : last])
    peak = snippet.pieces[snippet.peak]
    return " ".join(f"{before}{' ' if peak[:1].isspace() else ''}**{peak.strip()}**{after}".split())


def markdown(rows):
    """Return the table; a cell cannot break it."""

    def cell(words):
        return str(words).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")

    lines = ["| concept | neuron | cross-validated AUC (95% CI) | p | top texts |", "|---|---|---|---|---|"]
    for row in rows:
        name = f"{'' if row['sign'] > 0 else '−'}L{row['layer']}/{row['unit']}"
        area = f"{row['cross_validated_auc']:.3f} ({row['ci'][0]:.2f} to {row['ci'][1]:.2f})"
        texts = "<br>".join(cell(text) for text in row["texts"])
        lines.append(f"| {cell(row['concept'])} | {name} | {area} | {row['p_value']:.3g} | {texts} |")
    return "\n".join(lines)


def compared(site, glp, labels, texts, readings):
    """Return for each reading the cross-validated AUC of one, two and three neurons on texts with labels."""
    acts = TextReading.of(site, texts).last
    rows = []
    for reading in readings:
        neurons = torch.cat([read_neurons(glp, part, reading).cpu() for part in acts.split(512)]).numpy()
        areas = {str(count): held_out_auc(neurons, labels, count).to_json() for count in COMBINED}
        rows.append({"reading": reading.to_json(), "title": reading.title, "auc": areas})
    return rows


def comparison_table(comparisons):
    """Return a Markdown table of the mean AUC over concepts of each reading and number of neurons, and how many are above CLEAR."""
    lines = ["| reading | " + " | ".join(f"{count} neuron{'s' * (count > 1)}" for count in COMBINED) + " |", "|---" * 4 + "|"]
    for rows in zip(*comparisons.values(), strict=True):
        cells = []
        for count in COMBINED:
            areas = [row["auc"][str(count)]["value"] for row in rows]
            cells.append(f"{sum(areas) / len(areas):.3f} ({sum(area >= CLEAR for area in areas)} of {len(areas)} clear)")
        lines.append(f"| {rows[0]['title']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=DEMO)
    parser.add_argument("--device", default=None, help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    parser.add_argument("--compare", action="store_true", help="try other readings and combinations of neurons too")
    args = parser.parse_args()
    workspace = Workspace.open(args.workspace, str(choose_device(args.device)))
    index = NeuronIndex.open(workspace.neurons)
    llm, glp = workspace.load_llm(), workspace.load_glp()
    site = workspace.site(llm)
    rows, comparisons, report = [], {}, reporter("concepts")
    for name, asks, positive, negative in concepts():
        found = find_neurons(site, glp, positive, negative, index.reading)
        rows.append(evidence(index, name, asks, found))
        if args.compare:
            comparisons[name] = compared(site, glp, found.labels, found.texts, READINGS)
        report(len(rows), 10, name)
    facts = {"reading": index.reading.to_json(), "glp": index.facts["glp"], "index_tokens": index.n_tokens}
    workspace.save_report("ten_concepts", {"rows": rows, "comparison": comparisons} | facts)
    tables = [markdown(rows)] + ([comparison_table(comparisons)] if args.compare else [])
    sys.stdout.write("\n\n".join(tables) + "\n")


if __name__ == "__main__":
    main()
