"""Start the dashboard's server, on this machine unless told otherwise: find a free port, print the address, and run the server.

Streamlit is imported after the address is printed, so that a busy port is said at once.
"""

import argparse
import errno
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from glp_core.serving.addresses import HOST, LOCAL_NAMES, shown
from glp_core.threads import end_with

FIRST_PORT, PORTS_TRIED = 8501, 100
LIMITS = {"runs-a-minute": "runs a minute", "tokens-a-day": "tokens a day"}
"""Options that limit what one visitor may ask for; each sets the variable of its name, which the server reads."""
APP = Path(__file__).resolve().parent / "server.py"


def is_free(port: int, host: str = HOST) -> bool:
    """Say whether nothing listens on the port and it can be bound; exit with a message for an address that is not this machine's."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # as the server does, so that a port in TIME_WAIT after the last run counts as free
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            if error.errno == errno.EACCES:
                sys.exit(
                    f"Port {port} may not be used by this user: most systems keep those below 1024. Choose one with PORT=..."
                )
            sys.exit(f"Cannot listen at {host}: {error.strerror or error}. Give an address of this machine with --host.")
        return True


def free_port(first: int, host: str = HOST) -> int:
    """Return the first free port from `first` on; exit with a message when there is none."""
    last = min(first + PORTS_TRIED, 65_536)
    for port in range(first, last):
        if is_free(port, host):
            return port
    sys.exit(f"Ports {first} to {last - 1} are all in use. Choose another with PORT=...")


def wanted_port(words: str) -> int:
    """Read a port number."""
    if not words.isdigit() or not 1 <= int(words) <= 65_535:
        raise argparse.ArgumentTypeError(f"{words!r} is not a port: give a number from 1 to 65535")
    return int(words)


def wanted_limit(words: str) -> int:
    """Read a limit; 0 for none."""
    if not words.isdecimal() or len(words) > 15:
        raise argparse.ArgumentTypeError(f"{words!r} is no limit: give a whole number, or 0 for none")
    return int(words)


def set_limits(args: argparse.Namespace) -> None:
    """Put the limits that were given where the server reads them."""
    for option in LIMITS:
        name = option.replace("-", "_")
        if (limit := getattr(args, name)) is not None:
            os.environ[f"GLP_EXPLORER_{name.upper()}"] = str(limit)


def serve(options: list[str]) -> None:
    """Run the server in this process until it is told to stop."""
    import click
    from streamlit.web import cli

    try:
        cli.main(["run", str(APP), *options], prog_name="streamlit", standalone_mode=False)
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)


def arguments() -> tuple[argparse.Namespace, list[str]]:
    """Return the launcher's arguments, and those that are left for `streamlit run`."""
    parser = argparse.ArgumentParser(description="Start the dashboard; other options go to `streamlit run`.")
    default = os.environ.get("PORT") or str(FIRST_PORT)
    parser.add_argument("--port", type=wanted_port, default=default, help=f"first port to try (default: {default})")
    parser.add_argument("--host", default=HOST, help=f"address to listen at (default: {HOST}, this machine only; 0.0.0.0: all)")
    words = "a name, other than localhost, by which browsers may call the server; may be given again"
    parser.add_argument("--allow-host", action="append", default=[], metavar="NAME", help=words)
    parser.add_argument(
        "--base-path", default="", metavar="PATH", help="path under which a proxy shows the dashboard, such as /glp"
    )
    for option, what in LIMITS.items():
        parser.add_argument(f"--{option}", type=wanted_limit, metavar="N", help=f"{what} of one visitor (default: no limit)")
    args, more = parser.parse_known_args()
    if args.host not in LOCAL_NAMES and not args.allow_host:
        parser.error(f"--host {args.host} opens the server to others: say by which name they call it, with --allow-host NAME.")
    return args, more


def server_options(args: argparse.Namespace, port: int) -> list[str]:
    """Return the options of `streamlit run` that these arguments stand for."""
    named = {"port": port, "address": args.host, "baseUrlPath": args.base_path.strip("/")}
    options = [f"--server.{name}={value}" for name, value in named.items() if value]
    hosts = [f"--server.allowedHosts={name}" for name in (*LOCAL_NAMES, *args.allow_host)]
    # a page is of its own name also where a proxy calls this server by another one
    origins = [f"--server.corsAllowedOrigins={name}" for name in args.allow_host]
    return [*options, *hosts, *origins, f"--browser.serverAddress={(args.allow_host or [args.host])[0]}"]


def main() -> int:
    """Print the address and run the server in this process, so that Ctrl-C and TERM reach it directly; return the exit status."""
    args, more = arguments()
    port = free_port(args.port, args.host)
    if port != args.port:
        sys.stderr.write(f"Port {args.port} is in use; taking {port}.\n")
    path = args.base_path.strip("/")
    for name in args.allow_host or [shown(args.host)]:
        sys.stderr.write(f"GLP Explorer: http://{name}:{port}{f'/{path}' if path else ''}  (Ctrl-C stops it)\n")
    sys.stderr.flush()
    set_limits(args)
    os.chdir(APP.parents[1])  # where .streamlit/config.toml lies
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the server stops, then raises the signal once more
    with suppress(KeyboardInterrupt):  # a way to end it, not an error
        serve([*server_options(args, port), *more])
    sys.stderr.write("Stopped.\n")
    return 0


if __name__ == "__main__":
    end_with(main)
