"""Describe neurons: automatically from their texts, or with --endpoint by asking an OpenAI-compatible server."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace

from glp_core.chat_server import Server
from glp_core.cli.console import add_workspace_arguments, open_workspace, reporter, say, stopping
from glp_core.errors import GlpError
from glp_core.neuron_index.reader import NeuronIndex
from glp_core.neurons.description_server import describe_by_server, read_answers
from glp_core.neurons.descriptions import Description, describe_automatically, save_descriptions
from glp_core.workspace import Workspace

KEY = "GLP_DESCRIBE_KEY"
ANSWERS = "answers.jsonl"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser, device=False)
    parser.add_argument(
        "--endpoint", metavar="URL", help=f"base URL of a server, such as http://localhost:8000/v1; its key in ${KEY}"
    )
    parser.add_argument("--model", metavar="NAME", help="the model to ask for")
    parser.add_argument(
        "--neurons", "--units", type=int, default=200, metavar="N", help="to ask about, the most readable first (default: 200)"
    )
    parser.add_argument("--per-minute", type=float, default=60.0, metavar="N", help="requests at most (default: 60)")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="S", help="seconds for one answer (default: 60)")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    server = server_of(args)
    workspace = open_workspace(args)
    index = NeuronIndex.open(workspace.neurons)
    described = describe_automatically(index, progress=reporter("describe"))
    try:
        if server:
            ask(server, index, args.neurons)
    finally:  # whatever the server does, what there is is kept
        save_descriptions(workspace.neurons, with_answers(described, index) if server else described)
    say(f"{index.n_neurons:,} descriptions are in {workspace.neurons / 'descriptions.json'}.")


def describe_all(workspace: Workspace) -> NeuronIndex:
    """Describe every neuron of the index automatically, by a server's words where it answered; return the index."""
    index = NeuronIndex.open(workspace.neurons)
    described = describe_automatically(index, progress=reporter("describe"))
    save_descriptions(workspace.neurons, with_answers(described, index))
    return index


def server_of(args: argparse.Namespace) -> Server | None:
    """Return the server that --endpoint names, None without it; raise GlpError when it cannot be asked as the arguments say."""
    if args.endpoint is None:
        return None
    if not args.model:
        raise GlpError("--endpoint needs --model: the name that the server knows it by.")
    return Server(args.endpoint, args.model, os.environ.get(KEY, ""), args.per_minute, args.timeout)


def ask(server: Server, index: NeuronIndex, n: int) -> None:
    """Ask about the most readable neurons; the answers are kept in the index's folder."""
    with stopping(at_once=False) as stop:
        describe_by_server(
            index, server, index.interesting(n), index.folder / ANSWERS, progress=reporter("ask"), cancelled=stop
        )


def with_answers(described: Sequence[Description], index: NeuronIndex) -> list[Description]:
    """Return the descriptions with the words of a server for those neurons that it answered about."""
    described = list(described)
    for number, answer in read_answers(index.folder / ANSWERS, index).items():
        marks = f"(consistency {answer['consistency']:g}, complexity {answer['complexity']:g} of 5)"
        described[number] = replace(described[number], words=f"{answer['explanation']} {marks}", by=answer["model"])
    return described
