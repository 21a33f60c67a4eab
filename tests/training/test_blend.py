"""Blending two GLPs' weights."""

import shutil

import pytest
import torch

from glp_core import GlpError, load_glp, save_glp
from glp_core.__main__ import main
from glp_core.training.start import blend
from tests.support import tiny


@pytest.fixture()
def pair(tmp_path):
    for seed, name in ((0, "start"), (1, "further")):
        save_glp(tiny.tiny_glp(seed=seed), tmp_path / name, about={"llm": "tiny", "validation_loss": 1.0})
    shutil.copy(tmp_path / "start" / "statistics.safetensors", tmp_path / "further")  # which went on from it
    return tmp_path


def test_a_blend_lies_on_the_line_between_both_and_says_what_of(pair):
    words = [str(pair / "further"), "--start", str(pair / "start"), "--share", "0.25", "--out", str(pair / "out")]
    assert main(["blend", *words]) == 0
    start, further, out = (load_glp(pair / name) for name in ("start", "further", "out"))
    for name, tensor in out.network.state_dict().items():
        line = 0.25 * further.network.state_dict()[name] + 0.75 * start.network.state_dict()[name]
        assert torch.allclose(tensor, line, atol=1e-6)
    assert torch.equal(out.normalizer.mean, further.normalizer.mean)
    assert '"share": 0.25' in (pair / "out" / "config.json").read_text()
    assert "validation_loss" not in (pair / "out" / "config.json").read_text()


@pytest.mark.parametrize(("share", "end"), [("0", "start"), ("1", "further")])
def test_the_ends_are_the_two(pair, share, end):
    words = [str(pair / "further"), "--start", str(pair / "start"), "--share", share, "--out", str(pair / "out")]
    assert main(["blend", *words]) == 0
    mine, theirs = load_glp(pair / "out"), load_glp(pair / end)
    assert all(torch.equal(a, b) for a, b in zip(mine.network.parameters(), theirs.network.parameters(), strict=True))


def test_a_share_outside_and_another_shape_are_refused(pair, capsys):
    words = [str(pair / "further"), "--start", str(pair / "start"), "--out", str(pair / "out")]
    assert main(["blend", *words, "--share", "1.5"]) == 1 and "from 0" in capsys.readouterr().err
    save_glp(tiny.tiny_glp(n_layers=1, seed=0), pair / "start", about={"llm": "tiny"})
    assert main(["blend", *words]) == 1 and "one shape" in capsys.readouterr().err
    save_glp(tiny.tiny_glp(seed=5), pair / "start", about={"llm": "tiny"})
    assert main(["blend", *words]) == 1 and "normalise activations otherwise" in capsys.readouterr().err
    with pytest.raises(GlpError):
        load_glp(pair / "out")


def test_two_of_other_widths_are_refused(pair):
    save_glp(tiny.tiny_glp(12), pair / "wide", about={"llm": "tiny"})
    with pytest.raises(GlpError, match="normalise activations otherwise"):
        blend(pair / "further", pair / "wide", 0.5, pair / "out")
