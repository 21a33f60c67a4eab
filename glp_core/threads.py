"""How the threads of a computation wait for one another on a CPU, which must be settled before torch is loaded, and how a program ends
while some are at work. Needs Python alone."""

import atexit
import os
import sys
from collections.abc import Callable
from typing import NoReturn

SPINS = "4000"
"""Looks at a lock before a thread sleeps (GCC's OpenMP, which torch brings for Linux; by itself 300,000). What it costs depends on the
processor. Three columns with a walk on two threads, quiet against no limit, and beside another torch process against quiet: on an AMD with
AVX512 with 2,000 1.21 and 1.7 times, with 4,000 1.09 and 2.2, with 8,000 .98 and 3.3; on an Intel with 300 1.07 and 2.5 (10 without a
limit), where a look takes several times as long. Servers take one thread beside others then (`speed.cores`): 1.9 on that AMD."""
OWN_SETTINGS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
"""What a person may have set instead."""


def give_way() -> bool:
    """Let threads that wait sleep soon, so that a machine with other work on it is shared; say whether that could still be settled.

    Spinning threads hold the cores that the threads waited for need. What the environment says already stays.
    """
    if "torch" in sys.modules or any(name in os.environ for name in OWN_SETTINGS):
        return False
    os.environ["GOMP_SPINCOUNT"] = SPINS
    return True


def end_with(main: Callable[[], int]) -> NoReturn:
    """Run a program's `main` and end the process with its status, whatever daemon threads are at.

    Python ends such a thread where it next asks for the interpreter; inside torch that aborts the process (SIGABRT).
    """
    status = 1

    def leave() -> None:
        sys.stdout.flush()
        os._exit(status)

    atexit.register(leave)  # what is registered first is called last
    try:
        status = main()
    except BaseException:
        atexit.unregister(leave)
        raise
    sys.exit(status)
