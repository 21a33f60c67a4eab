"""How the threads of a computation wait for one another on a CPU: it must be settled before torch is loaded. Needs Python alone."""

import os
import sys

SPINS = "300"
"""Looks at a lock before a thread sleeps (GCC's OpenMP, which torch brings for Linux; by itself 300,000). Three columns with a walk on
two cores: 7% slower when the machine is quiet, and 2.5 times beside another torch process instead of 10."""
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
