"""`python -m tests.bench.ten_concepts`: the neuron found for each of ten concepts, with the evidence and its top texts.

Five concepts are probing tasks (texts of their training rows), five are given by texts of our own in ten_concepts.json. They were
chosen before any result was seen; after a trial the negated sentences were made as long as the plain ones, as length gave them away.
Prints a Markdown table and writes reports/ten_concepts.json, failures included.
"""

import argparse
import json
import sys
from pathlib import Path

from glp_core.cli.console import reporter
from glp_core.data.corpus import task, task_rows
from glp_core.neuron_index.reader import NeuronIndex
from glp_core.neurons.search import find_neurons
from glp_core.workspace import DEMO, Workspace

GIVEN = Path(__file__).with_name("ten_concepts.json")
TASK_TEXTS = 64
"""Texts of each class of a task."""
TOP_TEXTS = 3
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=DEMO)
    args = parser.parse_args()
    workspace = Workspace.open(args.workspace)
    index = NeuronIndex.open(workspace.neurons)
    llm, glp = workspace.load_llm(), workspace.load_glp()
    rows, report = [], reporter("concepts")
    for name, asks, positive, negative in concepts():
        found = find_neurons(workspace.site(llm), glp, positive, negative, index.reading)
        rows.append(evidence(index, name, asks, found))
        report(len(rows), 10, name)
    facts = {"reading": index.reading.to_json(), "glp": index.facts["glp"], "index_tokens": index.n_tokens}
    workspace.save_report("ten_concepts", {"rows": rows} | facts)
    sys.stdout.write(markdown(rows) + "\n")


if __name__ == "__main__":
    main()
