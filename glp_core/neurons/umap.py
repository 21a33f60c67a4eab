"""UMAP in a process of its own: two of them in one process's threads can abort it (numba's workqueue layer), and a child stops at once.

Knows rows of numbers; knows nothing of what they are.
"""

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glp_core.errors import GlpError
from glp_core.files import scratch_prefix, sweep
from glp_core.progress import Progress, quiet

Floats = NDArray[np.float32]
FEWEST = 10
LOOK = 0.05
"""Seconds between two looks whether to stop."""
SCRATCH = "glp-umap"
"""Begins the name of the folder that the two processes share, among all temporary ones."""


@dataclass(frozen=True)
class UmapConfig:
    """UMAP's parameters."""

    neighbours: int = 15
    min_dist: float = 0.1
    metric: str = "cosine"
    seed: int = 0
    epochs: int = 300

    def __post_init__(self) -> None:
        if self.neighbours < 2 or not 0 <= self.min_dist <= 1:
            raise GlpError(f"neighbours {self.neighbours}, min_dist {self.min_dist}: wanted at least 2, and 0 to 1.")


class Layout(NamedTuple):
    """Where rows fall on the plane."""

    rows: Floats
    """Those that the plane was fitted on (n, 2)."""
    others: Floats
    """Those that were placed on it afterwards (m, 2)."""


def run_umap(
    rows: np.ndarray,
    config: UmapConfig,
    *,
    others: np.ndarray | None = None,
    progress: Progress = quiet,
    cancelled: Callable[[], bool] = lambda: False,
) -> Layout:
    """Fit the plane on rows (n, m), then place others (k, m) on it, in a child process that is killed when cancelled.

    Raises:
        GlpError: too few rows, cancelled, or the child failed.
    """
    if len(rows) < max(FEWEST, config.neighbours + 1):
        raise GlpError(f"Got {len(rows)} points for {config.neighbours} neighbours: wanted more points, or fewer neighbours.")
    sweep(Path(tempfile.gettempdir()), SCRATCH)
    with tempfile.TemporaryDirectory(prefix=scratch_prefix(SCRATCH)) as scratch:
        folder = Path(scratch)
        np.save(folder / "rows.npy", rows.astype(np.float32))
        if others is not None and len(others):
            np.save(folder / "others.npy", others.astype(np.float32))
        (folder / "config.json").write_text(json.dumps(asdict(config)))
        _run_child(folder, config.epochs, progress, cancelled)
        return Layout(*(_read(folder / name) for name in ("layout.npy", "others_layout.npy")))


def _run_child(folder: Path, epochs: int, progress: Progress, cancelled: Callable[[], bool]) -> None:
    command = [sys.executable, "-m", "glp_core.neurons.umap_child", str(folder)]
    root = Path(__file__).resolve().parents[2]
    # errors go to a file: a pipe that nobody empties would stop a talkative child
    with (folder / "errors").open("w") as errors:
        child = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        _follow(child, epochs, progress, cancelled)
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
    if child.returncode or not (folder / "layout.npy").is_file():
        last = (folder / "errors").read_text().strip().splitlines()[-1:] or ["no message"]
        raise GlpError(f"UMAP failed: {last[0]}.")


def _read(path: Path) -> Floats:
    return np.load(path, allow_pickle=False) if path.is_file() else np.empty((0, 2), np.float32)


def _follow(child: subprocess.Popen[str], epochs: int, progress: Progress, cancelled: Callable[[], bool]) -> None:
    """Pass on the child's progress lines until it ends; ask `cancelled` many times a second, whatever the child says."""
    lines: SimpleQueue[str | None] = SimpleQueue()

    def read() -> None:
        assert child.stdout is not None
        with child.stdout as said:
            for line in said:
                lines.put(line)
        lines.put(None)

    threading.Thread(target=read, name="umap", daemon=True).start()
    while True:
        if cancelled():
            raise GlpError("Stopped.")
        try:
            line = lines.get(timeout=LOOK)
        except Empty:
            continue
        if line is None:
            return
        done, _, words = line.strip().partition(" ")
        if done.isdigit():
            progress(min(int(done), epochs), epochs, words)
