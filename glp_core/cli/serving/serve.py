"""Answer OpenAI-style requests with steered texts of the workspace's model, on this machine unless told otherwise; limits no client."""

import argparse
import socket

from glp_core import memory
from glp_core.cli.console import add_workspace_arguments, open_workspace, say
from glp_core.errors import GlpError
from glp_core.serving.addresses import HOST, LOCAL_NAMES, shown

PORT = 8601
SECONDS_TO_END = 3
"""That answers have when the server is told to stop."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser)
    parser.add_argument("--port", type=int, default=PORT, help=f"(default: {PORT})")
    parser.add_argument("--host", default=HOST, help=f"address to listen at (default: {HOST}, this machine only; 0.0.0.0: all)")
    words = "a name, other than localhost, by which clients may call the server; may be given again"
    parser.add_argument("--allow-host", action="append", default=[], metavar="NAME", help=words)


def run(args: argparse.Namespace) -> None:
    """Run the command until it is told to stop."""
    if args.host not in LOCAL_NAMES and not args.allow_host:
        raise GlpError(
            f"--host {args.host} opens the server to others: say by which name they call it, with --allow-host NAME."
        )
    listening = _listen(args.host, args.port)
    workspace = open_workspace(args)

    import torch
    import uvicorn

    from glp_core.jobs.runner import JobRunner
    from glp_core.serving.app import make_app
    from glp_core.serving.writing import Host
    from glp_core.speed.cores import Cores

    say(f"Loading {workspace.llm.label} …")
    host = Host(workspace)
    runner = JobRunner(context=torch.inference_mode, before=Cores().settle, told=memory.told)
    app = make_app(host, runner, [*LOCAL_NAMES, *(name.lower() for name in args.allow_host)])
    directions = ", ".join(workspace.direction_names()) or "none"
    for name in args.allow_host or [shown(args.host)]:
        say(f"{host.name} answers at http://{name}:{listening.getsockname()[1]}/v1 (Ctrl-C stops it). Directions: {directions}")
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=SECONDS_TO_END)
    uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound before anything is loaded, so that a busy port is said at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        raise GlpError(f"Nothing can listen at {host}:{port}: {error}. Choose another with --port.") from error
    return listening
