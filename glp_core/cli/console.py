"""What the commands share on the terminal: progress with rate and time to go, a clean stop, the workspace argument.

Everything goes to stderr; stdout is left for results.
"""

import argparse
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Protocol

from glp_core.cli.commands import for_workspace
from glp_core.errors import GlpError
from glp_core.files import expanded
from glp_core.progress import Progress
from glp_core.workspace import DEMO, Workspace

SECONDS_BETWEEN_LINES = 10.0
"""Between progress lines when stderr is no terminal but a log."""


class Listener(Protocol):
    """Who hears what a command says, in place of the terminal."""

    def said(self, words: str) -> None:
        """Hear a line."""

    def progressed(self, label: str, done: int, total: int, words: str) -> None:
        """Hear how far a step is."""


_listeners: list[Listener] = []
_workspaces: list[Path] = []
"""What the running commands work on, the innermost last."""


@contextmanager
def working_on(args: argparse.Namespace) -> Iterator[None]:
    """Let the commands that lines on the terminal name be for the workspace of `args` while the block runs."""
    _workspaces.append(getattr(args, "workspace", DEMO))
    try:
        yield
    finally:
        _workspaces.pop()


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Let a listener hear what commands say and how far they are, instead of the terminal, while the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.pop()


def say(words: str) -> None:
    """Write a line to stderr."""
    if _listeners:
        _listeners[-1].said(words)
    else:
        write_line(words)


def write_line(words: str, end: str = "\n") -> None:
    """Write a line to stderr, whoever listens; the commands in it name the workspace."""
    if _workspaces and _workspaces[-1].expanduser().resolve() != DEMO:  # who names none gets the demo
        words = for_workspace(words, _workspaces[-1])
    sys.stderr.write(words + end)
    sys.stderr.flush()


def add_workspace_arguments(
    parser: argparse.ArgumentParser, *, device: bool = True, store: bool | str = False, demo: bool = True
) -> None:
    """Add --workspace, --device for commands that compute, and --store for those that read collected activations.

    Args:
        store: what the activations are for, in words, where that is not what the command is about.
        demo: whether it is the demo when it is not named; else it must be.
    """
    words = "the workspace (default: the demo)" if demo else "the workspace to make, or to go on with"
    default = DEMO if demo else None
    parser.add_argument("--workspace", type=folder, default=default, required=not demo, metavar="FOLDER", help=words)
    if device:
        words = "auto, cpu, cuda, cuda:N or mps (default: auto, an accelerator that is there; $GLP_EXPLORER_DEVICE)"
        parser.add_argument("--device", metavar="DEVICE", help=words)
    if store:
        words = f"collected activations{f', {store}' if isinstance(store, str) else ''} (default: the workspace's)"
        parser.add_argument("--store", type=folder, metavar="FOLDER", help=words)


def folder(words: str) -> Path:
    """Return the path that an argument names, a home directory's sign spelt out; for argparse, which tells ValueErrors."""
    try:
        return expanded(words)
    except GlpError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def device_of(args: argparse.Namespace) -> str:
    """Return the device that --device names, as torch writes it; the CPU for commands without it.

    Raises:
        GlpError: a device that is not there.
    """
    if not hasattr(args, "device"):
        return "cpu"
    from glp_core.devices import choose_device

    return str(choose_device(args.device))


def part_of(words: str) -> tuple[int, int]:
    """Read --part, such as 2/4; raise GlpError for other words."""
    part, _, whole = words.partition("/")
    if not (part.isdigit() and whole.isdigit() and 1 <= int(part) <= int(whole) <= 999):
        raise GlpError(f"--part is {words!r}, wanted for example 2/4.")
    return int(part), int(whole)


def add_numbers(parser: argparse.ArgumentParser, defaults: object, **words: str) -> None:
    """Add a whole-number option for each field of `defaults` that `words` explains."""
    for name, explained in words.items():
        default = getattr(defaults, name)
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{explained} (default: {default:,})")


def open_workspace(args: argparse.Namespace) -> Workspace:
    """Return the workspace that --workspace names, on the device that --device names; what its models need is said as they load."""
    return replace(Workspace.open(args.workspace, device_of(args)), tell=say)


def check_counts(args: argparse.Namespace, names: Sequence[str], least: int) -> None:
    """Raise GlpError for the first of these arguments that is below `least`."""
    for name in names:
        if getattr(args, name) < least:
            raise GlpError(f"--{name.replace('_', '-')} is {getattr(args, name)}, wanted at least {least}.")


def duration(seconds: float) -> str:
    """Return h:mm:ss."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def reporter(label: str, *, clock: Callable[[], float] = time.monotonic) -> Progress:
    """Return a progress callback that shows what is done, the rate since its first call, and the time to go."""
    if _listeners:
        return partial(_listeners[-1].progressed, label)
    terminal = sys.stderr.isatty()
    start = math.nan
    done_before = 0
    shown = -SECONDS_BETWEEN_LINES

    def report(done: int, total: int, words: str) -> None:
        nonlocal start, done_before, shown
        now = clock()
        if math.isnan(start):
            start, done_before = now, done
        finished = done >= total
        if now - shown < (0.2 if terminal else SECONDS_BETWEEN_LINES) and not finished:
            return
        shown = now
        line = f"{label}  {done:,} of {total:,}  {done / max(1, total):.0%}"
        if done > done_before and now > start:
            rate = (done - done_before) / (now - start)
            line += f"  {rate:,.0f}/s" if rate >= 10 else f"  {rate:.2g}/s"
            line += "" if finished else f"  {duration((total - done) / rate)} to go"
        line += f"  {words}" if words else ""
        sys.stderr.write(f"\r{line}\033[K" + ("\n" if finished else "") if terminal else line + "\n")
        sys.stderr.flush()

    return report


class Stop:
    """Whether the person at the terminal, or the system, has asked to stop."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self) -> bool:
        return self.asked


@contextmanager
def stopping(*, at_once: bool) -> Iterator[Stop]:
    """Turn Ctrl-C and TERM into a clean stop while the block runs.

    Args:
        at_once: raise KeyboardInterrupt at the first signal; else set the flag, and raise at the second.
    """
    stop = Stop()

    def handle(_number: int, _frame: FrameType | None) -> None:
        if at_once or stop.asked:
            raise KeyboardInterrupt
        stop.asked = True
        say("\nStopping: the state is being saved. Once more to stop without saving.")

    old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
