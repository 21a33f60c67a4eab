"""What it costs on a quiet machine that threads give way (`glp_core.threads`): two processes decode in turn, with and without it.

`python -m tests.load.quiet yes` or `no` is one of the two: for every line that it reads, it decodes once and answers with the seconds.
"""

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from statistics import median

from glp_core import threads
from tests.support.serving import ROOT

WANTED = 1.10


def quiet(times, tokens):
    """Return how many times longer a decode takes with threads that give way: the median over pairs, one after the other."""
    with ExitStack() as both:
        with_it, without = (both.enter_context(decoder(give_way)) for give_way in ("yes", "no"))
        ratios = []
        for i in range(times + 1):
            first, second = (with_it, without) if i % 2 else (without, with_it)
            seconds = {one: asked(one, tokens) for one in (first, second)}
            ratios.append(seconds[with_it] / seconds[without])
        return median(ratios[1:])  # the first pair warms them up


def decoder(give_way):
    """Begin one of the two processes, which the environment does not settle anything for."""
    free = {name: value for name, value in os.environ.items() if name not in threads.OWN_SETTINGS}
    command = [sys.executable, "-m", "tests.load.quiet", give_way]
    return subprocess.Popen(command, cwd=ROOT, env=free, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def asked(process, tokens):
    process.stdin.write(f"{tokens}\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def serve():
    """Answer each line of stdin, a number of tokens, with the seconds that three columns with a walk take."""
    if sys.argv[1] == "yes":
        assert threads.give_way()
    import torch

    from glp_core.prior.projection import make_projector
    from glp_core.steering.generation import Arm, Sampling, generate
    from glp_core.workspace import DEMO, Workspace

    workspace = Workspace.open(DEMO)
    site = workspace.site(workspace.load_llm())
    site.llm.stop_ids = frozenset()  # every column writes all its tokens
    ids = site.llm.encode("The weather this week has been")
    direction = torch.nn.functional.normalize(torch.ones(site.llm.d_model), dim=0)
    walk = make_projector("walk", glp=workspace.load_glp())
    arms = [Arm("unsteered"), Arm("raw", direction, 0.6), Arm("walk", direction, 0.6, walk)]
    for line in sys.stdin:
        start = time.perf_counter()
        with torch.inference_mode():
            for _ in generate(site, ids, arms, Sampling(max_tokens=int(line))):
                pass
        sys.stdout.write(f"{time.perf_counter() - start}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
