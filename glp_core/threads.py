"""How the threads of a computation wait for one another on a CPU: it must be settled before torch is loaded. Needs Python alone."""

import os
import sys

SPINS = "2000"
"""Looks at a lock before a thread sleeps (GCC's OpenMP, which torch brings for Linux; by itself 300,000). What it costs depends on the
processor. Three columns with a walk on two cores, quiet against no limit, and beside another torch process against quiet: on an Intel with
300 1.07 and 2.5 times (10 without a limit); on an AMD with AVX512 with 300 about 1.3 and 1.5, with 1,500 1.27 and 1.9, with 4,000 1.04
and 2.9; this number lies between, and was not measured itself."""
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
