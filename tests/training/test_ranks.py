"""Two processes that train together: the curve of one process with the same batch, and what happens when one of them dies."""

import csv
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch

from glp_core import GlpError
from glp_core.training.ranks import Ranks
from tests.training.test_trainer import SMALL, rows, store, trainer  # noqa: F401 - store is a fixture

WORKER = """
import sys, torch
from pathlib import Path
from glp_core import GlpError
from glp_core.data.store import ActivationStore
from glp_core.training.plan import TrainConfig
from glp_core.training.ranks import Ranks
from glp_core.training.trainer import Trainer
from tests.training.test_trainer import SMALL

torch.set_num_threads(1)
store, folder, steps = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
ranks = Ranks.join(torch.device("cpu"))
config = TrainConfig(**SMALL | {"activations": 64 * steps})
try:
    trainer = Trainer(config, ActivationStore(store), folder, dtype=torch.float32, ranks=ranks)
    trainer.run(save_every=float(sys.argv[4]))
except GlpError as error:
    sys.exit(f"rank {ranks.rank}: {error}")
"""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start(store, folder, steps=40, save_every=1e9, size=2):  # noqa: F811
    common = os.environ | {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    common |= {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-c", WORKER, str(store.folder), str(folder), str(steps), str(save_every)]
    return [
        subprocess.Popen(command, env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
        for rank in range(size)
    ]


def losses(folder):
    return [float(row["train_loss"]) for row in rows(folder)]


def test_two_processes_have_the_curve_of_one(store, tmp_path):  # noqa: F811
    for process in start(store, tmp_path / "two"):
        said = process.communicate(timeout=200)[1]
        assert process.returncode == 0, said
    trainer(store, tmp_path / "one").run()
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-4)
    ends = [float(rows(tmp_path / name)[-1]["validation_loss"]) for name in ("one", "two")]
    assert ends[0] == pytest.approx(ends[1], abs=1e-4)
    assert len(rows(tmp_path / "two")) == len(rows(tmp_path / "one"))


def test_one_process_killed_the_others_say_so_and_the_run_goes_on(store, tmp_path):  # noqa: F811
    folder = tmp_path / "two"
    processes = start(store, folder, steps=4000, save_every=0.2)
    deadline = time.monotonic() + 200
    while not ((folder / "train.csv").is_file() and len(losses(folder)) > 5 and (folder / "state.safetensors").is_file()):
        assert all(process.poll() is None for process in processes) and time.monotonic() < deadline
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGKILL)
    said = processes[0].communicate(timeout=100)[1]
    processes[1].communicate()
    assert processes[0].returncode == 1 and "rank 0: Another process of this run has ended" in said
    done = len(losses(folder))
    assert done < 800
    again = trainer(store, folder, activations=64 * 4000)
    assert 0 < again.step < 4000
    again.run(stop=lambda: again.step >= 5 * done + 100)
    with (folder / "train.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == sorted(set(steps)) and steps[-1] >= 5 * done + 95


def test_a_process_alone_shares_with_nobody():
    ranks = Ranks.join(torch.device("cpu"))
    batch = torch.randn(4, 3)
    assert ranks == Ranks() and ranks.first and ranks.share(batch) is batch
    assert ranks.any(True) and not ranks.any(False)


def test_rows_are_shared_evenly_and_what_cannot_be_is_refused():
    batch = torch.arange(12).reshape(6, 2)
    assert torch.equal(torch.cat([Ranks(rank, 3).share(batch) for rank in range(3)]), batch)
    with pytest.raises(GlpError, match="sigma_groups is 16, wanted a multiple of the 3 processes"):
        Ranks(0, 3).check(batch=66, sigma_groups=16)
