"""Check the demo's data files by their digests and convert its language model, so that every later start is quick and offline."""

import argparse

from glp_core.cli.console import add_workspace_arguments, open_workspace, say
from glp_core.data.corpus import check_files
from glp_core.llm.gguf import converted_gguf


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser, device=False)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    workspace = open_workspace(args)
    n_tables = check_files()
    if workspace.llm.kind == "wheel":
        folder = converted_gguf(workspace.llm)
        say(f"Ready: {workspace.llm.title} in {folder}, {n_tables} tables of texts.")
