"""Describe neurons: automatically from their texts, or with --endpoint by asking an OpenAI-compatible server."""

import argparse
import os
from dataclasses import replace

from glp_core.chat_server import Server
from glp_core.cli.console import add_workspace_arguments, open_workspace, reporter, say, stopping
from glp_core.errors import GlpError
from glp_core.neuron_index.reader import NeuronIndex
from glp_core.neurons.description_server import describe_by_server
from glp_core.neurons.descriptions import describe_automatically, save_descriptions

KEY = "GLP_DESCRIBE_KEY"


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
    workspace = open_workspace(args)
    index = NeuronIndex.open(workspace.neurons)
    described = describe_automatically(index, progress=reporter("describe"))
    if args.endpoint:
        if not args.model:
            raise GlpError("--endpoint needs --model: the name that the server knows it by.")
        server = Server(args.endpoint, args.model, os.environ.get(KEY, ""), args.per_minute, args.timeout)
        answers = workspace.neurons / "answers.jsonl"
        with stopping(at_once=False) as stop:
            replies = describe_by_server(
                index, server, index.interesting(args.neurons), answers, progress=reporter("ask"), cancelled=stop
            )
        for number, answer in replies.items():
            marks = f"(consistency {answer['consistency']:g}, complexity {answer['complexity']:g} of 5)"
            described[number] = replace(described[number], words=f"{answer['explanation']} {marks}", by=answer["model"])
    save_descriptions(workspace.neurons, described)
    say(f"{index.n_neurons:,} descriptions are in {workspace.neurons / 'descriptions.json'}.")
