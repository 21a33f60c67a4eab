"""Reading what a workspace holds: damaged and hostile files are named in one sentence, facts about them left out."""

import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from glp_core.errors import GlpError
from glp_core.files import (
    LARGEST_JSON,
    copy_file,
    parse_json,
    read_json,
    read_object,
    replacing,
    scratch_prefix,
    sweep,
    tensor_header,
    together,
    write_json,
)
from glp_core.prior.checkpoint import save_glp
from glp_core.prior.facts import GlpFacts
from glp_core.steering.direction_facts import DirectionFacts, stored_directions
from tests.support import tiny

ROOT = Path(__file__).resolve().parents[1]
WRITER = """
import os, signal, sys
from pathlib import Path
from glp_core.files import replacing
with replacing(Path(sys.argv[1])) as scratch:
    scratch.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
NO_JSON = ["", "{", '{"a": NaN}', '{"a": Infinity}', "[" * 5000, "1" * 5000, "\ud83d"]


@pytest.mark.parametrize("text", NO_JSON)
def test_what_is_no_json_is_named(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(GlpError, match="x.json is not readable JSON"):
        read_json(path)


def test_json_of_the_wrong_kind_or_size_is_named(tmp_path):
    write_json(tmp_path / "list.json", [1])
    with pytest.raises(GlpError, match="holds a list, wanted a JSON object"):
        read_object(tmp_path / "list.json")
    with pytest.raises(GlpError, match="does not exist"):
        read_json(tmp_path / "none.json")
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(LARGEST_JSON + 1)
    with pytest.raises(GlpError, match="larger than 50,000,000 bytes"):
        read_json(tmp_path / "large.json")


def test_what_a_killed_writer_left_is_swept_by_the_next_and_a_living_one_s_stays(tmp_path):
    path = tmp_path / "facts[1].json"
    killed = subprocess.run([sys.executable, "-c", WRITER, path], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL and len(list(tmp_path.iterdir())) == 1
    with replacing(path) as living:
        living.write_text("mine")
        write_json(tmp_path / "other.json", ["other"])
        assert set(tmp_path.iterdir()) == {tmp_path / "other.json", living}
    assert path.read_text() == "mine"


def test_files_that_belong_together_take_their_places_together_or_not_at_all(tmp_path):
    first, second = tmp_path / "weights.json", tmp_path / "statistics.json"
    with together():
        write_json(first, 1)
        write_json(second, 1)
        assert not first.exists()
    with pytest.raises(GlpError, match="second"), together():
        write_json(first, 2)
        with replacing(second):
            raise GlpError("the second one")
    write_json(tmp_path / "other.json", 3)
    assert [read_json(path) for path in (first, second)] == [1, 1] and len(list(tmp_path.iterdir())) == 3


def test_a_file_that_cannot_be_copied_is_told_as_what_it_is(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 10)
    copy_file(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"x" * 10
    with pytest.raises(GlpError, match="Could not read .*/gone: No such file"):
        copy_file(tmp_path / "gone", tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_folders_of_the_dead_are_swept_too_and_of_a_shared_place_only_those_of_one_name(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    for name in ("model", "layout"):
        (tmp_path / scratch_prefix(name).replace(f"-{os.getpid()}-", f"-{dead.pid}-a1b2c3_4") / "part").mkdir(parents=True)
    mine = Path(tempfile.mkdtemp(prefix=scratch_prefix("model"), dir=tmp_path))
    sweep(tmp_path, "layout")
    assert len(list(tmp_path.iterdir())) == 2
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [mine]


def write_header(path, header):
    raw = header.encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw)


@pytest.mark.parametrize("header", ["1", "[]", "{", "null", '{"a": 3}', '{"a": {"shape": [2]}}', "[" * 5000])
def test_a_damaged_header_is_named_and_its_direction_left_out(tmp_path, header):
    path = tmp_path / "bad.safetensors"
    write_header(path, header)
    with pytest.raises(GlpError, match="bad.safetensors has a damaged header"):
        tensor_header(path)
    left_out = []
    assert stored_directions(tmp_path, left_out) == []
    assert len(left_out) == 1 and "bad.safetensors has a damaged header" in left_out[0]


def test_directions_are_sorted_by_title_and_garbled_ones_are_left_out_and_named(tmp_path):
    facts = {"title": "b", "layer": 1, "median_norm": 2.0, "auroc": 0.9, "how": "drawn", "n_train": 1, "n_test": 1}
    facts |= {"probe_auroc": float("nan")}
    changes = {"b": {}, "a": {"title": "A", "auroc": float("nan")}, "huge": {"auroc": 10**400}, "text": {"title": 3}}
    for name, change in changes.items():
        metadata = {"direction": json.dumps(facts | change)}
        save_file({"vector": torch.ones(3)}, tmp_path / f"{name}.safetensors", metadata=metadata)
    save_file({"vector": torch.ones(3)}, tmp_path / "none.safetensors")
    problems = []
    found = stored_directions(tmp_path, problems)
    assert [one.title for one in found] == ["A", "b"]
    assert [name for name in ("huge", "none", "text") if any(name in words for words in problems)] == ["huge", "none", "text"]
    assert DirectionFacts.read(tmp_path / "b.safetensors") == DirectionFacts("b", "b", 0.9, "drawn")


def test_a_glps_facts_are_those_of_its_weights(tiny_glp, tmp_path):
    save_glp(tiny_glp, tmp_path, about={"activations_seen": 7, "validation_loss": 1.5})
    facts = GlpFacts.read(tmp_path)
    assert facts.parameters == sum(p.numel() for p in tiny_glp.network.parameters())
    assert (facts.d_input, facts.n_layers, facts.d_mlp) == (tiny.WIDTH, tiny_glp.n_layers, tiny_glp.d_mlp)
    assert (facts.activations_seen, facts.validation_loss) == (7, 1.5)
    assert str(tiny_glp.n_layers) in facts.shape


@pytest.mark.parametrize(
    "config", ["{", "[]", "{}", '{"denoiser": {"d_input": "", "n_layers": 1, "d_mlp": 2}}', '{"denoiser": 3, "about": 3}']
)
def test_facts_that_a_folder_does_not_say_are_left_out(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "final.safetensors").write_bytes(b"damaged")
    facts = GlpFacts.read(tmp_path)
    assert facts == GlpFacts() and facts.parameters == 0 and facts.shape == "unknown shape"
    assert facts.activations_seen is None and facts.validation_loss is None


def test_whole_numbers_that_no_float_holds_are_refused(tmp_path):
    path = tmp_path / "one.json"
    path.write_text(json.dumps({"a": 10**299}))
    assert read_json(path) == {"a": 10**299}
    path.write_text('{"a": -1' + "0" * 400 + "}")
    with pytest.raises(GlpError, match="a whole number has 402 digits, wanted at most 300"):
        read_json(path)
    assert parse_json(b'[1, 2.5, "x", null]') == [1, 2.5, "x", None]
