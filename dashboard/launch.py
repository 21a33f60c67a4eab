"""Start the dashboard's server on this machine: find a free port, print the address, and run the server.

Streamlit is imported after the address is printed, so that a busy port is said at once.
"""

import argparse
import os
import socket
import sys
from pathlib import Path

HOST = "127.0.0.1"
FIRST_PORT, PORTS_TRIED = 8501, 100
APP = Path(__file__).resolve().parent / "server.py"


def is_free(port: int) -> bool:
    """Say whether nothing listens on the port and it can be bound."""
    with socket.socket() as probe:
        # as the server does, so that a port in TIME_WAIT after the last run counts as free
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def free_port(first: int) -> int:
    """Return the first free port from `first` on; exit with a message when there is none."""
    last = min(first + PORTS_TRIED, 65_536)
    for port in range(first, last):
        if is_free(port):
            return port
    sys.exit(f"Ports {first} to {last - 1} are all in use. Choose another with PORT=...")


def wanted_port(words: str) -> int:
    """Read a port number."""
    if not words.isdigit() or not 1 <= int(words) <= 65_535:
        raise argparse.ArgumentTypeError(f"{words!r} is no port: give a number from 1 to 65535")
    return int(words)


def serve(port: int, more: list[str]) -> None:
    """Run the server in this process until it is told to stop."""
    import click
    from streamlit.web import cli

    options = [f"--server.port={port}", f"--server.address={HOST}", f"--browser.serverAddress={HOST}"]
    try:
        cli.main(["run", str(APP), *options, *more], prog_name="streamlit", standalone_mode=False)
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)


def main() -> None:
    """Print the address and run the server in this process, so that Ctrl-C and TERM reach it directly."""
    parser = argparse.ArgumentParser(description="Start the dashboard; other options go to `streamlit run`.")
    default = os.environ.get("PORT") or str(FIRST_PORT)
    parser.add_argument("--port", type=wanted_port, default=default, help=f"first port to try (default: {default})")
    args, more = parser.parse_known_args()
    port = free_port(args.port)
    if port != args.port:
        sys.stderr.write(f"Port {args.port} is in use; taking {port}.\n")
    sys.stderr.write(f"GLP Explorer: http://{HOST}:{port}  (Ctrl-C stops it)\n")
    sys.stderr.flush()
    os.chdir(APP.parents[1])  # where .streamlit/config.toml lies
    try:
        serve(port, more)
    except KeyboardInterrupt:  # a way to end it, not an error
        sys.stderr.write("Stopped.\n")


if __name__ == "__main__":
    main()
