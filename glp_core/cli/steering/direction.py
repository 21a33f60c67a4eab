"""Make a direction of your own from a CSV of texts with labels (DiffMean), and store it in the workspace."""

import argparse
import re
from pathlib import Path

import pandas as pd

from glp_core.cli.console import add_workspace_arguments, open_workspace, reporter, say
from glp_core.errors import GlpError
from glp_core.steering.directions import diff_mean

POSITIVE, NEGATIVE = {"1", "1.0", "true", "yes", "positive", "+"}, {"0", "0.0", "false", "no", "negative", "-", "-1"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser)
    parser.add_argument("csv", type=Path, help="a CSV file with a header, a column of texts and one of labels")
    parser.add_argument("--name", required=True, help="small letters, digits and hyphens; also the file's name")
    parser.add_argument("--title", default="", help="the name to show (default: from --name)")
    parser.add_argument("--text", default="text", metavar="COLUMN", help="column of texts (default: text)")
    parser.add_argument("--label", default="label", metavar="COLUMN", help="column of labels, 1 or 0 (default: label)")
    parser.add_argument(
        "--pooling", choices=("last", "mean"), default="last", help="which activation of a text (default: last)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice of the held-out quarter (default: 0)")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}", args.name):
        raise GlpError(f"--name is {args.name!r}, wanted small letters, digits and hyphens.")
    positive, negative = read_classes(args.csv, args.text, args.label)
    workspace = open_workspace(args)
    direction = diff_mean(
        workspace.site(workspace.load_llm()),
        positive,
        negative,
        name=args.name,
        title=args.title,
        pooling=args.pooling,
        seed=args.seed,
        progress=reporter("read"),
    )
    path = direction.save(workspace.folder / "directions")
    say(f"{path}: AUROC {direction.auroc:.3f} on {direction.n_test} held-out texts, made from {direction.n_train}.")


def read_classes(path: Path, text: str, label: str) -> tuple[list[str], list[str]]:
    """Return the distinct positive and negative texts of a CSV.

    Raises:
        GlpError: no such file or column, a label that is neither, or a text with both labels.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise GlpError(f"{path} cannot be read as CSV: {error}.") from error
    for column in (text, label):
        if column not in table:
            raise GlpError(f"{path} has no column {column!r}: it has {', '.join(map(repr, table.columns))}.")
    table = table[table[text].str.strip() != ""].drop_duplicates([text, label])
    values = table[label].str.strip().str.lower()
    odd = sorted(set(values) - POSITIVE - NEGATIVE)
    if odd:
        raise GlpError(f"{path} has the labels {odd[:5]}, wanted 1 for positive and 0 for negative.")
    both = table[text][table[text].duplicated()]
    if len(both):
        raise GlpError(f"{path} gives both labels to {len(both)} texts, the first {both.iloc[0][:60]!r}.")
    return list(table[text][values.isin(POSITIVE)]), list(table[text][values.isin(NEGATIVE)])
