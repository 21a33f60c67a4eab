"""Make a direction of your own, from labelled texts, two system prompts or a meta-neuron, with the evidence for it; store it."""

import argparse
import math
import re
from dataclasses import replace
from pathlib import Path

import torch

from glp_core.cli.console import add_workspace_arguments, check_counts, open_workspace, reporter, say
from glp_core.errors import GlpError
from glp_core.llm.site import Site
from glp_core.neuron_index.write_directions import write_direction
from glp_core.steering.direction_facts import METHODS, OF_NEURON
from glp_core.steering.directions import Direction
from glp_core.steering.origins.evidence import Made, measured_on
from glp_core.steering.origins.fitting import Classes
from glp_core.steering.origins.from_texts import check_enough, direction_of_texts, read_classes
from glp_core.steering.origins.labelled_texts import LabelledTexts, read_labelled_texts
from glp_core.steering.origins.personas import direction_of_instructions
from glp_core.steering.origins.questions import ANSWER_TOKENS, QUESTIONS
from glp_core.steering.origins.shelf import NAME
from glp_core.workspace import Workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser)
    words = "CSV with a header, JSON or JSON lines: a column of texts and one of two labels"
    parser.add_argument("table", type=Path, nargs="?", help=f"{words}; with --neuron, only measures")
    add_name_arguments(parser)
    add_table_arguments(parser)
    parser.add_argument("--method", choices=tuple(METHODS), default="diffmean", help="(default: diffmean)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split into four held-out quarters (default: 0)")
    parser.add_argument("--system", metavar="WORDS", help="a system prompt that asks for the concept, instead of a table")
    parser.add_argument("--opposite", metavar="WORDS", help="the system prompt that asks for its opposite")
    words = f"questions to answer, one a line (default: {len(QUESTIONS)} everyday ones)"
    parser.add_argument("--questions", type=Path, metavar="FILE", help=words)
    words = f"of an answer, at most (default: {ANSWER_TOKENS})"
    parser.add_argument("--tokens", type=int, default=ANSWER_TOKENS, metavar="N", help=words)
    parser.add_argument("--neuron", metavar="L/N", help="a meta-neuron instead of a table, for example 1/314")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    check_name(args)
    check_counts(args, ("seed",), 0)
    check_counts(args, ("tokens",), 1)
    workspace = open_workspace(args)
    if args.neuron:
        store(workspace, _of_neuron(workspace, args))
    else:
        store(workspace, _of_instructions(workspace, args) if args.system or args.opposite else _of_texts(workspace, args))


def _of_texts(workspace: Workspace, args: argparse.Namespace) -> Made:
    if args.table is None:
        raise GlpError("Say what to make it from: a table of texts, --system and --opposite, or --neuron.")
    table = read_table(args.table, args)
    positive, negative = table.of(args.positive)
    check_enough(positive, negative)  # before the model is loaded
    return direction_of_texts(
        workspace.site(workspace.load_llm()),
        positive,
        negative,
        name=args.name,
        title=args.title,
        method=args.method,
        pooling=args.pooling,
        seed=args.seed,
        labels=table.named(args.positive),
        progress=reporter("read"),
    )


def _of_instructions(workspace: Workspace, args: argparse.Namespace) -> Made:
    if args.table is not None or not (args.system and args.opposite):
        raise GlpError("Give both --system and --opposite, and no table.")
    return direction_of_instructions(
        workspace.site(workspace.load_llm()),
        args.system,
        args.opposite,
        _questions(args.questions) if args.questions else QUESTIONS,
        name=args.name,
        title=args.title,
        method=args.method,
        seed=args.seed,
        tokens=args.tokens,
        progress=reporter("answer"),
    )


def _questions(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise GlpError(f"--questions {path} cannot be read: {error}. Give a text file with a question on each line.") from error
    return [line.strip() for line in lines if line.strip()]


def _of_neuron(workspace: Workspace, args: argparse.Namespace) -> Made | Direction:
    found = re.fullmatch(r"L?(\d{1,4})/(\d{1,6})", args.neuron)
    if not found or args.system or args.opposite:
        raise GlpError(f"--neuron is {args.neuron!r}, wanted layer/neuron such as 1/314, and no system prompts.")
    title = args.title or args.name.replace("-", " ")
    layer, neuron = int(found[1]), int(found[2])
    vector = torch.as_tensor(write_direction(workspace.load_glp(), layer, neuron))
    about = {"source": "neuron", "neuron": f"{layer}/{neuron}"}
    direction = Direction.unmeasured(
        vector,
        name=args.name,
        title=title,
        layer=workspace.layer,
        median_norm=workspace.median_norm,
        how=OF_NEURON,
        about=about,
    )
    if args.table is None:
        return direction
    return measured_on(direction, classes_of(workspace.site(workspace.load_llm()), args.table, args))


def add_name_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --name and --title of a new direction."""
    parser.add_argument("--name", required=True, help="small letters, digits and hyphens; also the file's name")
    parser.add_argument("--title", default="", help="the name to show (default: from --name)")


def add_table_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says how a table of labelled texts is read: --text, --label, --positive and --pooling."""
    parser.add_argument("--text", default="text", metavar="COLUMN", help="column of texts (default: text)")
    parser.add_argument("--label", default="label", metavar="COLUMN", help="column of labels (default: label)")
    words = "the label of texts with the concept, where labels do not say so themselves"
    parser.add_argument("--positive", default="", metavar="LABEL", help=words)
    words = "which activation of a text (default: last)"
    parser.add_argument("--pooling", choices=("last", "mean"), default="last", help=words)


def check_name(args: argparse.Namespace) -> None:
    """Raise GlpError when --name cannot be a direction's."""
    if not NAME.fullmatch(args.name):
        raise GlpError(f"--name is {args.name!r}, wanted small letters, digits and hyphens.")


def store(workspace: Workspace, made: Made | Direction) -> None:
    """Write a direction into the workspace, and say how well it tells its texts apart."""
    direction = made.direction if isinstance(made, Made) else made
    stamped = replace(direction, about={**direction.about, "made_by": workspace.stamp()})
    path = stamped.save(workspace.folder / "directions")
    if not isinstance(made, Made):
        known = not math.isnan(direction.auroc)
        found = (
            f"AUROC {direction.auroc:.3f} on {direction.n_test} texts, as its file says" if known else "Not measured on texts"
        )
        say(f"{path}: {direction.how}. {found}.")
        return
    auroc = made.evidence.auroc
    words = f"AUROC {auroc.value:.3f} [{auroc.low:.3f}, {auroc.high:.3f}] on {direction.n_test} texts that it was not made from"
    say(f"{path}: {words}.{' No better than chance: there is no evidence that it is one.' if made.evidence.is_chance else ''}")


def classes_of(site: Site, path: Path, args: argparse.Namespace) -> Classes:
    """Return the activations of a table's two classes."""
    positive, negative = read_table(path, args).of(args.positive)
    return read_classes(site, positive, negative, pooling=args.pooling, progress=reporter("read"))


def read_table(path: Path, args: argparse.Namespace) -> LabelledTexts:
    """Return a table's two classes of texts.

    Raises:
        GlpError: no such file, one that cannot be read, or labels of which nothing says which is positive.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise GlpError(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        texts = read_labelled_texts(data, text=args.text, label=args.label)
        texts.of(args.positive)
    except GlpError as error:
        raise GlpError(f"{path}: {error}") from error
    first, second = (texts.in_words(name) for name in texts.labels)
    if not (texts.sure or args.positive):
        raise GlpError(f"{path} has the labels {first}; {second}. Say which has the concept: --positive {texts.labels[0]!r}.")
    return texts
