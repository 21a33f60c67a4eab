"""Make a direction of your own from a table of texts with labels (DiffMean), and store it in the workspace."""

import argparse
import re
from pathlib import Path

from glp_core.cli.console import add_workspace_arguments, open_workspace, reporter, say
from glp_core.errors import GlpError
from glp_core.steering.origins.fitting import diff_mean
from glp_core.steering.origins.labelled_texts import read_labelled_texts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser)
    words = "CSV with a header, JSON or JSON lines: a column of texts and one of two labels"
    parser.add_argument("table", type=Path, help=words)
    add_name_arguments(parser)
    parser.add_argument("--text", default="text", metavar="COLUMN", help="column of texts (default: text)")
    parser.add_argument("--label", default="label", metavar="COLUMN", help="column of labels (default: label)")
    words = "the label of texts with the concept, where labels do not say so themselves"
    parser.add_argument("--positive", default="", metavar="LABEL", help=words)
    parser.add_argument(
        "--pooling", choices=("last", "mean"), default="last", help="which activation of a text (default: last)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice of the held-out quarter (default: 0)")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    check_name(args)
    positive, negative = read_classes(args.table, args.text, args.label, args.positive)
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


def add_name_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --name and --title of a new direction."""
    parser.add_argument("--name", required=True, help="small letters, digits and hyphens; also the file's name")
    parser.add_argument("--title", default="", help="the name to show (default: from --name)")


def check_name(args: argparse.Namespace) -> None:
    """Raise GlpError when --name cannot be a direction's."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}", args.name):
        raise GlpError(f"--name is {args.name!r}, wanted small letters, digits and hyphens.")


def read_classes(path: Path, text: str, label: str, positive: str) -> tuple[list[str], list[str]]:
    """Return the distinct positive and negative texts of a table.

    Raises:
        GlpError: no such file, one that cannot be read, or labels of which nothing says which is positive.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise GlpError(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        texts = read_labelled_texts(data, text=text, label=label)
        classes = texts.of(positive)
    except GlpError as error:
        raise GlpError(f"{path}: {error}") from error
    first, second = (texts.in_words(name) for name in texts.labels)
    if not (texts.sure or positive):
        raise GlpError(f"{path} has the labels {first}; {second}. Say which has the concept: --positive {texts.labels[0]!r}.")
    return classes
