"""Commands killed, stopped with TERM or out of disk at a moment drawn by chance: nothing is damaged, and the rerun ends the same."""

import csv
import json
import os
import random
import re
import shutil
import subprocess
import time
from dataclasses import replace
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from glp_core.files import tensor_header, write_json
from glp_core.workspace import Workspace
from tests.cli.conftest import SMALL_RUN
from tests.support import lab_acts, pages, run_fakes
from tests.support.mortal import APART, DISK, FATES, Ward
from tests.support.tiny import keep_llm

SEED = int(os.environ.get("GLP_TEST_SEED", time.time_ns() % 10**6))
"""Of the moments; a failure names it."""
COLLECT = ["collect", "--llm", "LLM", "--layer", "1", "--dtype", "float32", "--activations", "1400"]
TRAIN = ["train", *SMALL_RUN, "--activations", "640", "--validation", "64", "--log-every", "2"]
STEER = ["--tokens", "3", "--limit", "2", "--strengths", "0.5", "1.5"]
PROBE = ["probe", "--train", "16", "--validation", "12", "--test", "16"]
BUILD = ["build", "--llm", "HOME/gpt2", "--device", "cpu"]
NEW = {"collect": COLLECT, "collect --chat": [*COLLECT, "--chat", "0.2"], "build": BUILD}
"""Commands that begin with nothing."""
FAST = {
    "collect": COLLECT,
    "train": [*TRAIN, "--run", "new", "--keep-weights", "--install"],
    "index": ["index", "--sigma", "0.3", "--draws", "0", "--documents", "64"],
    "sweep-steering": ["sweep-steering", "HOME/sweep.json"],
    "lab": ["lab"],
}
COMMANDS = (
    NEW
    | FAST
    | {
        "train --stream": [*TRAIN, "--run", "streamed", "--stream", "--buffer", "640"],
        "collect more": ["collect", "--activations", "5000"],
        "sae": ["sae", "--expansion", "2", "--k", "4", "--activations", "8192"],
        "sweep": ["sweep", "--sizes", "small", "--activations", "4096", "--dtype", "float32"],
        "export": ["export", "--to", "HOME/released"],
        "install": ["install", "HOME/released"],
        "probe --part": [*PROBE, "--part", "1/1"],
        "probe": PROBE,
        "map": ["map", "--neighbours", "5"],
        "describe": ["describe"],
        "bank": ["bank", "--activations", "60", "--reference", "50"],
        "evaluate": ["evaluate", "--activations", "50", "--samples", "40", "--documents", "2", "--tokens", "6"],
        "solvers": ["solvers"],
        "detect": ["detect", "--activations", "50", "--likelihood", "0"],
        "scorecard": ["scorecard", "--samples", "200", "--tested", "100", "--documents", "4", "--tokens", "12"],
        "directions": ["directions", "--only", "positive-sentiment", "click-bait"],
        "tune-walk": ["tune-walk", *STEER, "--forms", "raw", "glp 0.25", "walk 0.25 x 4*", "walk 0.1 x 8"],
        "steer": ["steer", *STEER, "--documents", "1"],
        "strengths": ["strengths", *STEER],
        "pareto": ["pareto"],
        "first-press": ["first-press", "--tokens", "3", "--limit", "2"],
        "scaling": ["scaling"],
        "direction": ["direction", "HOME/table.csv", "--name", "new"],
        "export-direction": ["export-direction", "up", "--to", "HOME/up.gguf"],
        "import-direction": ["import-direction", "HOME/up.gguf", "--name", "new"],
    }
)
NEEDS = {
    "install": ["export"],
    "sae": ["collect more"],
    "sweep": ["collect more"],
    "probe": ["collect more", "sae", "index"],
    "map": ["collect more", "sae", "index", "probe"],
    "describe": ["index"],
    "detect": ["bank"],
    "scorecard": ["collect more", "sae"],
    "pareto": ["steer"],
    "first-press": ["strengths"],
    "import-direction": ["export-direction"],
}
"""Command to those that come before it."""
UNLIKE = {"seconds", "made_by", "begun", "versions", "flops_per_second"}
"""What two runs of a command say differently: when they were, and how long they took."""


@pytest.fixture(scope="module")
def ward():
    ward = Ward()
    yield ward
    ward.close()


@pytest.fixture(scope="module")
def start(ward, llm_folder, tmp_path_factory):
    """A workspace with all that a command may need, and a function that runs one by its name in a copy of it."""
    first = tmp_path_factory.mktemp("first")

    def run(home, words, *fate, ward=ward):
        known = {"LLM": str(llm_folder)}
        return ward.run(home, [known.get(word, word.replace("HOME", str(home))) for word in words], *fate)

    for words in (COLLECT, [*TRAIN, "--install"], COMMANDS["evaluate"]):
        ended = run(first, words)
        assert ended.status == 0, ended.said
    workspace = Workspace.open(first / "ws")
    for one in (pages.direction("up", "upwards", 1), pages.direction("positive", "positive sentiment", 2)):
        replace(one, layer=1, median_norm=workspace.median_norm).save(workspace.folder / "directions")
    for name in ("prefixes", "validation_prefixes"):
        write_json(workspace.folder / f"{name}.json", [f"the {word} of {name}" for word in ("cat", "rain", "film", "mind")])
    write_json(first / "sweep.json", replace(lab_acts.SWEEP, arms=("raw", "walk"), prompts=("The cat", "A film")).to_json())

    rows = (f"{thing} number {i} was seen,{label}\n" for label, thing in enumerate(("the cat", "a film")) for i in range(24))
    (first / "table.csv").write_text("text,label\n" + "".join(rows))

    def fresh(name, home):
        home.mkdir() if name in NEW else shutil.copytree(first, home)
        if name == "build":
            keep_llm(home / "gpt2", "gpt2")
            things = ("cat", "film", "rain", "mat", "mind", "model")
            write_json(home / "ws" / "prefixes.json", [f"The {thing} that we saw was" for thing in things * 2])
        if name == "scaling":
            shutil.rmtree(home / "ws" / "runs")
            for parameters in (10**6, 3 * 10**6, 10**7):
                run_fakes.write_run(home / "ws" / "runs", parameters=parameters)
        for before in NEEDS.get(name, ()):
            ended = run(home, COMMANDS[before])
            assert ended.status == 0, ended.said
        return home

    def once_more(home, name, *fate, **where):
        ended = run(home, COMMANDS[name], *fate, **where)
        if "is a workspace already: leave --llm out" not in ended.said:
            return ended
        return run(
            home, ["collect", *COMMANDS[name][7:]], *fate, **where
        )  # all but a scratch file was done: as the message says

    return SimpleNamespace(fresh=fresh, run=once_more)


def made(home, called):
    """Return what is in a folder's files, by path, without what differs between two runs; commands knew the folder as `called`."""
    paths = sorted(path for path in home.rglob("*") if path.is_file())
    return {str(path.relative_to(home)): _content(path, str(called)) for path in paths}


def _content(path, home):
    if path.name == "build.json":
        return {one["name"]: one["state"] for one in json.loads(path.read_text())["stages"]}
    if path.suffix == ".json":
        return _alike(json.loads(path.read_text().replace(home, "HOME")))
    if path.suffix == ".csv":
        return [{key: value for key, value in row.items() if key not in UNLIKE} for row in csv.DictReader(path.open())]
    if path.suffix == ".safetensors":
        metadata = {
            key: _alike(json.loads(word)) if word[:1] == "{" else word for key, word in tensor_header(path).metadata.items()
        }
        return metadata, _tensors(path)
    return path.read_bytes()


def _tensors(path):
    raw, listed = path.read_bytes(), tensor_header(path).tensors
    body = raw[8 + int.from_bytes(raw[:8], "little") :]
    kinds = {
        name: (entry["dtype"], entry["shape"], entry["data_offsets"]) for name, entry in listed.items() if name not in UNLIKE
    }
    return {name: (kind, shape, body[start:end]) for name, (kind, shape, (start, end)) in kinds.items()}


def _alike(value):
    if isinstance(value, dict):
        return {key: _alike(one) for key, one in value.items() if key not in UNLIKE}
    return [_alike(one) for one in value] if isinstance(value, list) else value


def damaged(home):
    """Return the files under final names that are not whole."""
    readers = {".json": lambda path: json.loads(path.read_text()), ".safetensors": tensor_header, ".parquet": pq.read_metadata}
    bad = []
    for path in home.rglob("*"):
        if path.is_file() and path.suffix in readers and not path.name.startswith("."):
            try:
                readers[path.suffix](path)
            except Exception as error:
                bad.append(f"{path}: {error}")
    return bad


def scratch(home):
    """Return what is left of files that were being written."""
    hidden = [path for path in home.rglob(".*") if path.name not in (".build.lock", ".removed")]
    return [str(path.relative_to(home)) for path in [*hidden, *(home / "tmp").glob("*")]]


BELONGING = (r"ws/glp/[^.]", r"ws/neurons/(units|texts|index)\.", r"ws/neurons/maps\.", r"released/[^.]")
"""Files that say something only together."""


def mixed(ours, before, whole):
    """Return which of the files that belong together are neither all as they were before nor all new.

    A prior's fitted steps are no part of it: a later stage of a build adds them.
    """

    def of(one):
        return {key: value for key, value in one.items() if key != "fitted_steps"} if isinstance(one, dict) else one

    groups = (
        [{path: of(one) for path, one in files.items() if re.match(kind, path)} for files in (ours, before, whole)]
        for kind in BELONGING
    )
    return [sorted(now) for now, then, new in groups if now not in (then, new)]


def meet(start, home, name, fate, at, whole):
    """Let a command meet its fate, and check what it left and said; `whole` is where it was left alone."""
    before, files = scratch(home), made(home, home)
    ended = start.run(home, name, fate, at)
    where = f"{name}, {fate} at change {at}, GLP_TEST_SEED={SEED}:\n{ended.said}"
    assert not damaged(home), where
    if fate == "killed" or not ended.met:
        assert ended.status == (-9 if ended.met else 0), where  # there may be less to do than there was
        return ended
    assert fate != "full" or not mixed(made(home, home), files, made(whole, whole)), where
    left = [path for path in scratch(home) if path not in before]
    assert "Traceback" not in ended.said and not left, f"{left} {where}"
    if fate == "full" and ended.status:
        assert ended.status == 1 and "No space left on device" in ended.said and "ree some space" in ended.said, where
    elif ended.status:
        assert ended.status == 130 and "topp" in ended.said, where
    return ended


def meets(start, home, name, fate, rng, most, whole):
    """Let a command meet its fate at a moment drawn by chance within what it has left to do; return the moment, 0 for none left."""
    kept = home.with_name("kept")
    while most:
        at = rng.randint(1, most)
        shutil.copytree(home, kept)
        ended = meet(start, home, name, fate, at, whole)
        if not ended.met:
            shutil.rmtree(home)
            kept.rename(home)
            most = min(ended.changes, at - 1)
            continue
        shutil.rmtree(kept)
        return at
    return 0


def differing(home, whole, called=None):
    """Return the files of two folders that are not the same."""
    ours, theirs = made(home, called or home), made(whole, whole)
    return [path for path in ours.keys() | theirs.keys() if ours.get(path) != theirs.get(path)]


def check(start, tmp_path, name, rng, fates):
    """Let a command meet fates one after another at moments drawn by chance, then end; compare with one that was left alone.

    Returns:
        Each fate with its moment.
    """
    whole = start.run(start.fresh(name, tmp_path / "whole"), name)
    assert whole.status == 0, whole.said
    home, met = start.fresh(name, tmp_path / "home"), []
    for fate in fates:
        at = meets(start, home, name, fate, rng, whole.changes, tmp_path / "whole")
        if not at:  # the one before came so late that all was done
            shutil.rmtree(home)
            at = meets(start, start.fresh(name, home), name, fate, rng, whole.changes, tmp_path / "whole")
        met.append((fate, at))
    assert all(at for _, at in met), f"{name}, {met}, GLP_TEST_SEED={SEED}"
    ended = start.run(home, name)
    where = f"{name}, {met}, GLP_TEST_SEED={SEED}:\n{ended.said}"
    assert ended.status == 0 and not scratch(home), f"{scratch(home)} {where}"
    unlike = differing(home, tmp_path / "whole")
    assert not unlike, f"{unlike} {where}"
    return met


def chosen(rng, name, more=0):
    """Return every fate in an order drawn by chance, and some `more`; nobody sends TERM to a page's act."""
    fates = FATES if name != "lab" else ("killed", "full")
    return rng.sample([*fates, *rng.choices(fates, k=more)], len(fates) + more)


@pytest.mark.parametrize("name", FAST)
def test_whatever_ends_a_command_the_same_command_goes_on_to_the_same_files(start, tmp_path, name):
    rng = random.Random(f"{SEED} {name}")
    check(start, tmp_path, name, rng, chosen(rng, name))


@pytest.mark.nightly
@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("name", COMMANDS)
def test_whatever_ends_any_command_again_and_again_the_same_command_goes_on_to_the_same_files(
    start, tmp_path, name, number, record_property
):
    rng = random.Random(f"{SEED} {name} {number}")
    for fate, _ in check(start, tmp_path, name, rng, chosen(rng, name, 1)):
        record_property(fate, 1)


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    """A small disk that only the commands' processes see, and a ward there."""
    tried = subprocess.run([*APART, "true"], check=False, capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no disk was really full: `{' '.join(APART)}` is refused here ({tried.stderr.strip()})")
    place = tmp_path_factory.mktemp("disk")
    ward = Ward(place)
    yield SimpleNamespace(ward=ward, place=place)
    ward.close()


def used(folder):
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*"))


@pytest.mark.nightly
@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("pareto", "install")])
def test_a_disk_that_is_really_full_damages_nothing(start, small_disk, tmp_path, name, record_property):
    rng = random.Random(f"{SEED} {name} disk")
    before = start.fresh(name, tmp_path / "whole")
    had = used(before)
    assert start.run(before, name).status == 0
    ward, home = small_disk.ward, small_disk.place / tmp_path.name
    ward.resize(small_disk.place, DISK)
    seen = start.fresh(name, ward.seen(home))
    room = rng.randrange(4096, max(8192, used(before) - had))
    ward.resize(small_disk.place, shutil.disk_usage(seen).used + room)
    ended = start.run(home, name, ward=ward)
    where = f"{name}, {room} bytes free, GLP_TEST_SEED={SEED}:\n{ended.said}"
    left, bad = scratch(seen), damaged(seen)
    ward.resize(small_disk.place, DISK)
    again = start.run(home, name, ward=ward)
    unlike = differing(seen, before, home)
    shutil.rmtree(seen)
    assert "Traceback" not in ended.said and not left and not bad, f"{left} {bad} {where}"
    told = "No space left on device" in ended.said or "are needed in" in ended.said
    assert ended.status == 0 or (ended.status == 1 and told and "ree some space" in ended.said), where
    assert again.status == 0 and not unlike, f"{unlike} {where}\n{again.said}"
    record_property("full", int(ended.status != 0))
