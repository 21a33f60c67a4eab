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
from safetensors.torch import load_file

from glp_core import GlpError, load_glp
from glp_core.files import read_json
from glp_core.training.ranks import Ranks
from tests.data.test_store import TRAIN
from tests.support.tiny import make_tiny_llm
from tests.training.test_trainer import SMALL, rows, store, trainer  # noqa: F401 - store is a fixture

KILLED = """
import sys, torch
from pathlib import Path
from glp_core import GlpError
from glp_core.data.store import ActivationStore
from glp_core.training.plan import TrainConfig
from glp_core.training.ranks import Ranks
from glp_core.training.trainer import Trainer
from tests.training.test_trainer import SMALL

torch.set_num_threads(1)
ranks = Ranks.join(torch.device("cpu"))
config = TrainConfig(**SMALL | {"activations": 64 * 4000})
try:
    trainer = Trainer(config, ActivationStore(Path(sys.argv[1])), Path(sys.argv[2]), dtype=torch.float32, ranks=ranks)
    trainer.run(save_every=0.2)
except GlpError as error:
    sys.exit(f"rank {ranks.rank}: {error}")
"""
TOGETHER = """
import shutil, sys, torch
from pathlib import Path
from glp_core import GlpError
from glp_core.data.store import ActivationStore
from glp_core.files import write_tensors
from glp_core.llm.site import Site
from glp_core.training import stream
from glp_core.training.plan import TrainConfig
from glp_core.training.ranks import Ranks
from glp_core.training.stream import StreamConfig, StreamSupply
from glp_core.training.trainer import Trainer
from tests.data.test_store import TRAIN, VALIDATION
from tests.support.tiny import make_tiny_llm
from tests.training.test_trainer import SMALL, killed_at

torch.set_num_threads(1)
stream.DOCUMENTS_PER_READ = {"cpu": 4}
store, home, ranks = ActivationStore(Path(sys.argv[1])), Path(sys.argv[2]), Ranks.join(torch.device("cpu"))
site = Site(make_tiny_llm(), 1, median_norm=1e9)

def made(name, supply=None):
    supply = supply or StreamSupply(site, TRAIN, VALIDATION, StreamConfig(320), ranks)
    return Trainer(TrainConfig(**SMALL), supply, home / name, dtype=torch.float32, ranks=ranks)

def refused(name):
    try:
        made(name)
    except GlpError as error:
        return str(error)

made("store", store).run()
whole = made("whole")
write_tensors(home / f"found-{ranks.rank}.safetensors", whole.statistics | {"buffer": whole.supply.buffer})
whole.run()
first = made("parts")
first.run(stop=lambda: first.step == 17)
killed_at(23, made("parts"))
again = made("parts")
assert again.step == 17
again.run()
if ranks.first:
    shutil.copytree(home / "parts", home / "own-0")
words = [refused(f"own-{ranks.rank}")]
if not ranks.first:
    (home / "parts/supply-1-step-40.safetensors").unlink()
words.append(refused("parts"))
(home / f"said-{ranks.rank}").write_text("\\n".join(map(str, words)))
"""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start(worker, *arguments, size=2):
    common = os.environ | {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    common |= {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-c", worker, *map(str, arguments)]
    return [
        subprocess.Popen(command, env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
        for rank in range(size)
    ]


@pytest.fixture(scope="module")
def together(store, tmp_path_factory):  # noqa: F811
    """What two processes have left that trained from a store, then from a stream, and were refused."""
    home = tmp_path_factory.mktemp("together")
    for process in start(TOGETHER, store.folder, home):
        said = process.communicate(timeout=200)[1]
        assert process.returncode == 0, said
    return home


def losses(folder):
    return [float(row["train_loss"]) for row in rows(folder)]


def test_two_processes_have_the_curve_of_one(together, store, tmp_path):  # noqa: F811
    trainer(store, tmp_path).run()
    assert losses(together / "store") == pytest.approx(losses(tmp_path), abs=1e-4)
    ends = [float(rows(folder)[-1]["validation_loss"]) for folder in (tmp_path, together / "store")]
    assert ends[0] == pytest.approx(ends[1], abs=1e-4)
    assert len(rows(together / "store")) == len(rows(tmp_path))


def test_two_processes_that_stream_have_the_statistics_and_the_counts_of_both(together):
    one, two = (load_file(together / f"found-{rank}.safetensors") for rank in (0, 1))
    buffers = one.pop("buffer").double(), two.pop("buffer").double()
    assert (buffers[0].mean(0) - buffers[1].mean(0)).abs().max() > 0.01
    assert all(torch.equal(one[name], two[name]) for name in one)
    both = torch.cat(buffers)
    covariance = both.T.cov(correction=0)
    wanted = {"mean": both.mean(0), "var": covariance.diagonal(), "covariance": covariance}
    for name, values in wanted.items():
        torch.testing.assert_close(one[name].double(), values, atol=1e-5, rtol=1e-5)
    kept = load_glp(together / "whole").normalizer
    assert torch.equal(kept.mean[0], one["mean"]) and torch.equal(kept.var[0], one["var"])
    tokens = sum(len(make_tiny_llm().encode(document.text)) - 1 for document in TRAIN)
    assert read_json(together / "whole/config.json")["about"]["distinct_activations"] == tokens


def test_two_processes_that_stream_go_on_to_the_same_curve_after_a_kill(together):
    assert len(rows(together / "whole")) > 5 and rows(together / "parts") == rows(together / "whole")


def test_processes_that_do_not_find_one_state_are_refused_all_alike(together):
    said = [(together / f"said-{rank}").read_text().splitlines() for rank in (0, 1)]
    assert said[0][0] == said[1][0].replace("own-1", "own-0")
    assert "at step 0, process 0 at step 40; wanted one state for all. --out must be a folder that all" in said[0][0]
    assert said[0][1] == said[1][1] and "lacks supply-1-step-40.safetensors, process 1's place in the texts" in said[0][1]


def test_one_process_killed_the_others_say_so_and_the_run_goes_on(store, tmp_path):  # noqa: F811
    folder = tmp_path / "two"
    processes = start(KILLED, store.folder, folder)
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


@pytest.mark.parametrize(
    ("error", "raised", "words"),
    [
        (
            RuntimeError("NCCL error: unhandled system error\nmore"),
            GlpError,
            r"\(RuntimeError: NCCL error: unhandled system error\)",
        ),
        (torch.OutOfMemoryError("CUDA out of memory."), torch.OutOfMemoryError, "^CUDA out of memory"),
    ],
)
def test_what_ended_an_exchange_is_told_and_full_memory_is_no_lost_process(monkeypatch, error, raised, words):
    def fails(_tensor):
        raise error

    ended = []
    monkeypatch.setattr(torch.distributed, "all_reduce", fails)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: ended.append(True))
    with pytest.raises(raised, match=words):
        Ranks(0, 2).any(True)
    assert ended == [True] * (raised is GlpError)
