"""The shelf of directions: put there, renamed, taken away, put back; names that collide or could leave the folder."""

from dataclasses import replace

import pytest
import torch

from glp_core.errors import GlpError
from glp_core.steering.directions import Direction
from glp_core.steering.origins import shelf
from glp_core.steering.origins.shelf import Shelf

JOY = Direction.unmeasured(torch.ones(4), name="x", title="x", layer=1, median_norm=2.0, how="drawn", about={"source": "file"})


@pytest.fixture
def here(tmp_path):
    one = Shelf(tmp_path / "directions")
    one.add(JOY, " Joy  & hope! ")
    return one


def titles(here):
    return [facts.title for facts in here.facts()]


def test_a_direction_gets_a_file_name_from_its_title_and_comes_back_whole(here):
    assert titles(here) == ["Joy & hope!"]
    back = Direction.load(here.folder / "joy-hope.safetensors")
    assert torch.equal(back.vector, JOY.vector) and (back.name, back.about) == ("joy-hope", JOY.about)


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("", "0 characters"),
        ("x" * 61, "61 characters"),
        ("→ ☺", "needs a letter"),
        ("JOY & hope!", "already"),
        ("joy, hope", "joy-hope.safetensors is there"),
    ],
)
def test_a_title_that_does_not_do_is_refused(here, title, words):
    with pytest.raises(GlpError, match=words):
        here.add(JOY, title)


def test_renaming_changes_the_title_and_keeps_the_file_that_links_and_reports_name(here):
    here.add(replace(JOY, how="another"), "Sadness")
    here.rename("joy-hope", "Delight")
    assert titles(here) == ["Delight", "Sadness"] and (here.folder / "joy-hope.safetensors").is_file()
    here.rename("joy-hope", "delight")  # its own title in other letters
    with pytest.raises(GlpError, match="'sadness' already"):
        here.rename("joy-hope", "sadness")


def test_what_was_taken_away_can_be_put_back_unless_its_place_is_taken(here):
    here.remove("joy-hope")
    assert titles(here) == []
    here.restore("joy-hope")
    assert titles(here) == ["Joy & hope!"]
    here.remove("joy-hope")
    here.add(JOY, "Joy - hope")
    with pytest.raises(GlpError, match="taken the place"):
        here.restore("joy-hope")
    here.remove("joy-hope")  # the newer one now waits in its place
    here.restore("joy-hope")
    assert titles(here) == ["Joy - hope"]


def test_only_the_last_that_were_taken_away_are_kept(here, monkeypatch):
    monkeypatch.setattr(shelf, "KEPT_REMOVED", 2)
    for title in ("a", "b", "c"):
        here.add(JOY, title)
        here.remove(title)
    with pytest.raises(GlpError, match="not kept any more"):
        here.restore("a")
    here.restore("b")


@pytest.mark.parametrize("name", ["../evil", "..", "a/b", "", ".removed"])
def test_no_name_leads_out_of_the_folder(here, name):
    for act in (here.remove, here.restore, lambda name: here.rename(name, "New")):
        with pytest.raises(GlpError, match="is no name of a direction"):
            act(name)
