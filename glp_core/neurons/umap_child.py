"""The child process of a layout: `python -m glp_core.neurons.umap_child FOLDER` fits UMAP on rows.npy and places others.npy.

Reads config.json; writes layout.npy, and others_layout.npy where there are others. Writes "<epochs done> <words>" lines to stdout, so that
the parent can show progress.
"""

import functools
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np


class _Progress:
    """Stands in for stdout while UMAP runs: turns its words and bars into progress lines."""

    def __init__(self, out: TextIO) -> None:
        self.out = out

    def write(self, text: str) -> int:
        epochs = re.search(r"(\d+)/\d+ \[", text)
        if epochs:
            self.say(f"{epochs[1]} epochs of the layout")
        elif "nearest neighbor" in text.lower():
            self.say("0 nearest neighbours")
        return len(text)

    def flush(self) -> None:
        self.out.flush()

    def say(self, line: str) -> None:
        self.out.write(line + "\n")
        self.out.flush()


def _keep_compiled() -> None:
    """Let numba keep all that it compiles for UMAP: only the first child compiles, for ten seconds and more."""
    import numba

    def keeping(compiler: Callable[..., Any]) -> Callable[..., Any]:
        return functools.wraps(compiler)(lambda *args, **options: compiler(*args, **options | {"cache": True}))

    numba.jit, numba.njit = keeping(numba.jit), keeping(numba.njit)


def main(folder: Path) -> None:
    """Lay out the rows in `folder`."""
    progress = _Progress(sys.stdout)
    sys.stdout = progress
    progress.say("0 loading UMAP")
    _keep_compiled()
    from umap import UMAP

    config = json.loads((folder / "config.json").read_text())
    reducer = UMAP(
        n_neighbors=config["neighbours"],
        min_dist=config["min_dist"],
        metric=config["metric"],
        n_epochs=config["epochs"],
        random_state=config["seed"],
        n_jobs=1,
        verbose=True,
        tqdm_kwds={"disable": False, "file": progress, "mininterval": 0.3},
    )
    layout = reducer.fit_transform(np.load(folder / "rows.npy", allow_pickle=False))
    if (folder / "others.npy").is_file():
        progress.say(f"{config['epochs']} placing the others")
        others = reducer.transform(np.load(folder / "others.npy", allow_pickle=False))
        np.save(folder / "others_layout.npy", others.astype(np.float32))
    np.save(folder / "layout.npy", layout.astype(np.float32))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
