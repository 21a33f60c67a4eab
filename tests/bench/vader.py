"""`python -m tests.bench.vader TEXTS`: judge steered texts by VADER, which shares nothing with the model or its probes.

TEXTS is what `python -m glp_core steer-sentiment --texts TEXTS` wrote, or `steer`. Prints a Markdown table and writes
reports/steering_vader.json, or the report that --report names.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from glp_core.stats import bootstrap_mean
from glp_core.workspace import DEMO, Workspace

DIRECTION = "positive-sentiment"


def judged(texts):
    """Return rows of the mean compound score (-1 to 1) by arm and strength, and every arm against raw, with 95% intervals."""
    judge, cells = SentimentIntensityAnalyzer(), {}
    for one in sorted(texts, key=lambda one: one["prefix"]):
        if one["direction"] == DIRECTION:
            score = judge.polarity_scores(one["text"])["compound"]
            cells.setdefault((one["arm"], one["strength"]), []).append(score)
    rows = []
    for (arm, strength), scores in cells.items():
        mean = bootstrap_mean(scores)
        rows.append({"arm": arm, "strength": strength, "vader": mean.value, "vader_ci": mean.ci, "n": len(scores)})
        if arm != "raw" and ("raw", strength) in cells:
            difference = bootstrap_mean(np.subtract(scores, cells["raw", strength]))
            rows[-1] |= {"over_raw": difference.value, "over_raw_ci": difference.ci}
    return rows


def markdown(rows):
    """Return a table with a line for each strength and a column for each arm."""
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    by_cell = {(row["arm"], row["strength"]): f"{row['vader']:.2f}" for row in rows}
    lines = ["| strength | " + " | ".join(arms) + " |", "|---" * (len(arms) + 1) + "|"]
    for strength in sorted({row["strength"] for row in rows}):
        lines.append(f"| {strength:g} | " + " | ".join(by_cell.get((arm, strength), "") for arm in arms) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--workspace", type=Path, default=DEMO)
    parser.add_argument("--report", default="steering_vader", metavar="NAME", help="(default: steering_vader)")
    args = parser.parse_args()
    rows = judged(json.loads(args.texts.read_text(encoding="utf-8")))
    Workspace.open(args.workspace).save_report(args.report, {"rows": rows, "judge": "VADER 3.3.2, compound score"})
    sys.stdout.write(markdown(rows) + "\n")


if __name__ == "__main__":
    main()
