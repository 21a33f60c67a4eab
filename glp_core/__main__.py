"""`python -m glp_core <command>`: collect, train, measure, rebuild; each says with --help what it does."""

import errno
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from glp_core.cli.commands import parse
from glp_core.errors import GlpError
from glp_core.memory import keep_few_kernels, keep_freed_memory, told_full
from glp_core.threads import end_with, give_way

FULL = (errno.ENOSPC, errno.EDQUOT)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 1 for bad input or a full disk, 130 when stopped."""
    module, args = parse(sys.argv[1:] if argv is None else argv)
    from glp_core.cli.console import working_on, write_line  # --help needs none of what it brings along

    with working_on(args):
        try:
            with _term_as_ctrl_c():
                return module.run(args) or 0
        except GlpError as error:
            write_line(str(error))
            return 1
        except OSError as error:
            if error.errno not in FULL:
                raise
            where = f" ({error.filename})" if error.filename else ""
            write_line(f"{error.strerror}{where}. Free some space and start the same command again: it goes on where it was.")
            return 1
        except KeyboardInterrupt:
            write_line("\nStopped.")
            return 130
        except RuntimeError as error:
            if not (words := told_full(error)):
                raise
            write_line(words)
            return 1


@contextmanager
def _term_as_ctrl_c() -> Iterator[None]:
    """Let TERM stop the block as Ctrl-C does, so that what is half done is cleared away."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


if __name__ == "__main__":
    give_way()
    keep_few_kernels()
    keep_freed_memory()
    end_with(main)
