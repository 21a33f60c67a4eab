"""A sweep's texts are those of single runs; what is written is never written again; a stop or a kill loses no finished text."""

import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from glp_core.cli.steering import sweep_steering
from glp_core.errors import GlpError
from glp_core.files import write_json
from glp_core.llm.decoding import Sampling
from glp_core.llm.needs import cache_bytes
from glp_core.prior.projection import make_projector
from glp_core.prior.walk import WalkSettings
from glp_core.steering.directions import Direction
from glp_core.steering.generation import Arm, generate
from glp_core.steering.sweeps import cells, engine
from glp_core.steering.sweeps.cells import Cell, Text
from glp_core.steering.sweeps.config import ARMS, Along
from glp_core.steering.sweeps.runs import read_texts
from glp_core.steering.sweeps.store import SweepStore, written
from glp_core.steering.trials import writing
from tests.steering.sweeps.conftest import PROMPTS
from tests.support import pages, tiny

ROOT = Path(__file__).resolve().parents[3]


def go(bench, config, folder, **options):
    """Write a sweep; return what is found, and the ticks."""
    store = SweepStore(folder)
    ticks = list(engine.run(bench, config, store, **options))
    return store.found(config), ticks


def test_every_text_is_what_a_single_run_writes(bench, small, tmp_path):
    config = small(noise_levels=(0.3, 0.5), walk_levels=(0.2,), walk_pushes=3, seeds=(0, 7))
    found, ticks = go(bench, config, tmp_path)
    glp, vector = bench.glp, bench.directions["up"].vector
    site = bench.directions["up"].site(bench.llm)
    walk = make_projector("walk", glp=glp, walk=WalkSettings(0.2, 3))
    projectors = {
        ("raw", None): None,
        ("walk", 0.2): walk,
        ("norm", None): make_projector("norm"),
        ("opposite", 0.2): walk,
    }
    projectors |= {("glp", level): make_projector("glp", glp=glp, noise_level=level) for level in (0.3, 0.5)}
    projectors |= {
        ("gaussian", level): make_projector("gaussian", glp=glp, covariance=torch.eye(len(vector)), noise_level=level)
        for level in (0.3, 0.5)
    }
    for (arm, level), strength, prompt, seed in itertools.product(projectors, (1.0,), PROMPTS[:2], (7,)):
        text = Text(prompt, seed)
        what = Arm(arm, vector, -strength if arm == "opposite" else strength, projectors[arm, level])
        steps = generate(site, bench.llm.encode(prompt), [what], Sampling(5, seed=text.noise_seed))
        assert found[Cell("up", arm, strength, level)][text].text == "".join(step.text for step in steps), (arm, level)
    plain = generate(site, bench.llm.encode(PROMPTS[0]), [Arm("plain")], Sampling(5))
    assert found[Cell("up", "unsteered", 0.0, None)][Text(PROMPTS[0], 7)].text == "".join(step.text for step in plain)
    assert ticks[-1].done == ticks[-1].total == cells.count(config) == written(found)
    assert {cell.arm for cell in found} == {*ARMS, "unsteered", "drawn"}


def test_only_what_is_missing_is_written_and_a_prompt_writes_the_same_wherever_it_stands(bench, small, tmp_path):
    config = small(arms=("raw", "walk"))
    before, first = go(bench, config, tmp_path)
    assert first[0].done == 0 and first[-1].fresh == first[-1].total == 3 + 12 + 2 * 2 * 3
    again, ticks = go(bench, config, tmp_path)
    assert [tick.fresh for tick in ticks] == [0] and again == before
    more = replace(config, prompts=("The rain", *PROMPTS), directions=(Along("up", "upwards", (0.5, 0.7, 1.0)),))
    after, ticks = go(bench, more, tmp_path)
    assert ticks[-1].fresh == ticks[-1].total - first[-1].total
    alone, _ = go(bench, more, tmp_path / "alone")
    assert {cell: {text: one.text for text, one in texts.items()} for cell, texts in after.items()} == {
        cell: {text: one.text for text, one in texts.items()} for cell, texts in alone.items()
    }
    for changed in ({"tokens": 6}, {"temperature": 0.5}, {"made_with": {"glp": "another"}}):
        assert written(SweepStore(tmp_path).found(replace(config, **changed))) in (0, 12), (
            changed
        )  # drawn ones know no temperature


def test_batches_hold_all_that_is_missing_and_no_more_texts_than_fit(small, tmp_path):
    config = small(seeds=(0, 1))
    missing = SweepStore(tmp_path).missing(config)
    for most in (4, 6, 20, 1000):
        made = list(engine.batches(config, missing, most))
        written = [(cell, text) for batch in made for cell in batch.cells for text in batch.texts]
        assert sorted(written) == sorted((cell, text) for cell, texts in missing for text in texts)
        assert all(batch.size <= most for batch in made)
        assert all(len({cell.arm == "drawn" for cell in batch.cells}) == 1 for batch in made)


def test_a_sweep_writes_no_more_texts_at_once_than_there_is_room_for(bench, small, monkeypatch):
    config = small(tokens=6)
    assert engine.texts_at_once(bench, config) == engine.TEXTS_AT_ONCE["cpu"]
    longest = max(len(bench.llm.encode(prompt)) for prompt in config.prompts)
    each = (longest + 6) * cache_bytes(bench.llm.model.config, bench.llm.dtype)
    monkeypatch.setattr(writing, "free_memory", lambda _device: int(8 * each / writing.SHARE_FOR_KEYS))
    assert engine.texts_at_once(bench, config) == 8


def test_a_stop_keeps_whole_batches_and_a_damaged_cell_is_written_again(bench, small, tmp_path, monkeypatch):
    monkeypatch.setitem(engine.TEXTS_AT_ONCE, "cpu", 12)
    config = small(arms=("raw", "norm"))
    asked = itertools.count()
    found, ticks = go(bench, config, tmp_path, cancelled=lambda: next(asked) >= 7)  # in the second batch
    assert 0 < written(found) == ticks[-1].done < ticks[-1].total
    store = SweepStore(tmp_path)
    path = store.path(cells.key(config, Cell("up", "unsteered", 0.0, None)))
    path.write_text(path.read_text()[:50])
    whole, rest = go(bench, config, tmp_path)
    assert rest[-1].fresh == rest[-1].total - written(found) + len(PROMPTS)
    assert whole == go(bench, config, tmp_path / "other")[0]


def test_a_direction_that_is_not_there_is_named(bench, small, tmp_path):
    with pytest.raises(GlpError, match="no direction 'sideways'"):
        go(bench, small(directions=(Along("sideways", "Sideways", (1.0,)),)), tmp_path)


def test_a_sweep_is_run_under_the_titles_that_its_directions_have_here(sweep_workspace, small):
    config = small(directions=(Along("up", "Sea weather", (1.0,)),))
    said, here = sweep_steering.stamped(sweep_workspace, config)
    assert here.directions[0].title == "upwards" and said == [
        "the direction up is called 'upwards' here, in place of 'Sea weather'"
    ]
    cell = Cell("up", "prompted", 0.0, None)
    assert cells.key(here, cell) == cells.key(sweep_steering.stamped(sweep_workspace, small())[1], cell)


def test_the_command_refuses_a_direction_that_its_probe_cannot_score(tmp_path, small, capsys):
    from glp_core.__main__ import main

    folder = pages.make_whole_workspace(tmp_path / "workspace").folder
    vector, facts = torch.ones(tiny.WIDTH), {"layer": 2, "median_norm": 5.0, "how": "by hand", "about": {}}
    Direction.unmeasured(vector, name="bare", title="bare one", **facts).save(folder / "directions")
    write_json(tmp_path / "sweep.json", small(directions=(Along("bare", "bare one", (0.5,)),)).to_json())
    assert main(["sweep-steering", str(tmp_path / "sweep.json"), "--device", "cpu", "--workspace", str(folder)]) == 1
    assert "bare one: no concept probe" in capsys.readouterr().err and not (folder / "sweeps").exists()


def test_a_killed_sweep_goes_on_and_its_rerun_writes_the_same_texts(sweep_workspace, small, tmp_path, capsys):
    strengths = tuple(round(0.05 * i, 2) for i in range(1, 13))
    config = small(tokens=12, directions=(Along("up", "upwards", strengths),), arms=("raw", "walk"), made_with={"glp": "aa"})
    write_json(tmp_path / "sweep.json", config.to_json())
    command = [sys.executable, "-m", "glp_core", "sweep-steering", str(tmp_path / "sweep.json"), "--device", "cpu"]
    command += ["--workspace", str(sweep_workspace.folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    kept = sweep_workspace.sweeps / "cells"
    try:
        deadline = time.monotonic() + 90
        while len(list(kept.glob("*/*.json"))) < 1:
            assert process.poll() is None and time.monotonic() < deadline, "it ended, or wrote nothing"
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    there = {path: path.stat().st_mtime_ns for path in kept.glob("*/*.json")}
    assert len(there) < len(list(cells.cells(config))), "it was killed on its way"
    from glp_core.__main__ import main

    arguments = ["sweep-steering", str(tmp_path / "sweep.json"), "--device", "cpu", "--workspace", str(sweep_workspace.folder)]
    assert main([*arguments, "--out", str(tmp_path / "first")]) == 0
    assert {path: path.stat().st_mtime_ns for path in there} == there, "what is finished is not written again"
    assert "the prior: made with aa, here it is" in capsys.readouterr().err
    texts = read_texts(tmp_path / "first" / "texts.jsonl")
    assert len(texts) == cells.count(config)
    assert (
        main([*arguments, "--out", str(tmp_path / "second"), "--again", "--compare", str(tmp_path / "first/texts.jsonl")]) == 0
    )
    assert f"{len(texts):,} of {len(texts):,} texts are the same" in capsys.readouterr().err
