"""The commands of `python -m glp_core`: their names, what each does, how a command line is read, and how messages name one."""

import argparse
import re
import shlex
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

ROOMS = {
    "building": {
        "build": "Make a whole workspace of a model: activations, prior, directions, index and all that the pages show.",
    },
    "data": {
        "setup": "Check the data files and convert the demo's language model.",
        "collect": "Run the LLM over the corpus and store a layer's activations.",
        "bank": "Put real held-out activations into the workspace and measure how far off they are.",
    },
    "training": {
        "train": "Train a GLP on stored activations, or with --stream on those of an LLM that reads texts meanwhile.",
        "install": "Make a GLP from a folder or from the hub the workspace's prior.",
        "export": "Write the workspace's GLP as a released folder, which the paper's code reads; push it to the hub if asked.",
        "blend": "Blend the weights of further training with those that it went on from.",
        "sae": "Train the sparse autoencoder that meta-neurons are compared with.",
        "sweep": "Train several sizes one after another, score their checkpoints, publish their logs.",
    },
    "steering": {
        "direction": "Make a direction of your own from a table of texts with labels.",
        "directions": "Make all shipped directions again from their recipes.",
        "import-direction": "Take a direction from another tool's file: GGUF control vector, persona vectors, SAE latent.",
        "export-direction": "Write a direction as a control vector (GGUF) for llama.cpp and repeng, or as safetensors.",
        "steer-sentiment": "Steer 100 prefixes towards positive sentiment with every projector; write reports/steering_sentiment.json.",
        "tune-walk": "Try forms of the walk on validation prefixes along every direction; write reports/walk_tuning.json.",
        "steer": "Steer 100 prefixes along every direction with every arm; write reports/steering_<direction>.json.",
        "sweep-steering": "Write and measure a sweep that the Lab page exported, again or to its end; say what it finds.",
        "pareto": "Compare what steering arms trade of concept against fluency; write reports/pareto.json.",
        "strengths": "Find the strength to recommend along every direction, and its zones; write reports/strengths.json.",
        "first-press": "Choose the example that the Steering page opens with, by its measured effect.",
    },
    "serving": {
        "serve": "Answer OpenAI-style chat and completion requests with steered texts, streamed, on this machine.",
    },
    "neurons": {
        "index": "Index what every meta-neuron responds to, in one pass over the corpus.",
        "probe": "Probe 113 concepts with single meta-neurons and three baselines; write reports/probing.json.",
        "describe": "Describe meta-neurons, automatically or by asking an OpenAI-compatible server.",
        "map": "Lay out all meta-neurons on UMAP maps.",
    },
    "evaluation": {
        "evaluate": "Measure the GLP: held-out loss, Frechet distance, what projection costs the LLM.",
        "solvers": "Fit the two-call solver to the GLP and measure the error of every solver.",
        "detect": "Measure which off-manifold activations each measure detects.",
        "scorecard": "Compare the GLP with PCA, a Gaussian and a sparse autoencoder; test samples against real activations.",
        "zones": "Find the manifold distances at which steered text drifts and breaks.",
        "scaling": "Fit the scaling law to the runs; write reports/scaling.json.",
    },
}
"""Folder of glp_core/cli to the commands in it, each with a line of help; a file is named after its command."""
COMMANDS = {name: words for commands in ROOMS.values() for name, words in commands.items()}
MODULES = {name: f"glp_core.cli.{room}.{name.replace('-', '_')}" for room, names in ROOMS.items() for name in names}
OF_NO_WORKSPACE = {"blend"}
"""Commands that work on none."""
PROGRAM = "python -m glp_core"
_ARGUMENTS = r" (?P<name>[a-z][a-z-]*)(?P<rest>[^`\n]*?)"
NAMED = re.compile("(?P<begin>`?)" + PROGRAM + _ARGUMENTS + "(?P<end>`|$|(?=" + PROGRAM + "))", re.MULTILINE)
"""A command in a message: its name, its arguments (without backticks, whatever follows), and the backticks around it."""


def parse(argv: Sequence[str]) -> tuple[ModuleType, argparse.Namespace]:
    """Return the module of the command that a command line names, and its arguments; only that module is imported."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description="The commands of GLP Explorer.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    modules = {}
    for name, words in COMMANDS.items():
        command = commands.add_parser(name, help=words, description=words)
        if name in argv[:1]:
            modules[name] = import_module(MODULES[name])
            modules[name].add_arguments(command)
    args = parser.parse_args(argv)
    return modules[args.command], args


def for_workspace(words: str, workspace: Path | str) -> str:
    """Return a message whose commands name this workspace, where they name none and can; pasted as it is, one would go to the demo."""
    return NAMED.sub(partial(_completed, f" --workspace {shlex.quote(str(workspace))}"), words)


def _completed(argument: str, command: re.Match[str]) -> str:
    begin, name, rest, end = command.groups()
    if name not in COMMANDS.keys() - OF_NO_WORKSPACE or "--workspace" in rest or "--help" in rest:
        return command[0]
    return f"{begin}{PROGRAM} {name}" + (f"{rest}{argument}" if begin and end else f"{argument}{rest}") + end
