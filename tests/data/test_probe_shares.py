"""Activations of the probing tasks' texts in shares: together the files of one call, whichever share runs first or is killed."""

import pandas as pd
import pytest

from glp_core import GlpError
from glp_core.data import probe_activations
from glp_core.data.probe_activations import collect_probe_activations, collect_probe_share, digest
from glp_core.llm.site import Site
from tests.data.test_store import TRAIN, contents


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(probe_activations, "TEXTS_PER_PART", {"cpu": 7})


@pytest.fixture
def rows():
    texts = [document.text for document in TRAIN[:40]]
    return pd.DataFrame({"text": texts, "key": [digest(text) for text in texts], "rank": [i % 9 for i in range(40)]})


def share(site, rows, folder, number, n=2, **options):
    collect_probe_share(site, rows, folder, number, n, max_tokens=16, **options)


def test_shares_make_the_files_of_one_call(tiny_llm, rows, tmp_path):
    site = Site(tiny_llm, 2, 1e9)
    collect_probe_activations(site, rows, tmp_path / "whole", max_tokens=16)
    stopped = []

    def die(*report):
        stopped.append(report)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        share(site, rows, tmp_path / "parts", 2, progress=die)
    share(site, rows, tmp_path / "parts", 2)
    share(site, rows, tmp_path / "parts", 1)
    assert stopped == [(1, 3, "parts of the texts")]
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    have = collect_probe_activations(site, rows, tmp_path / "parts", max_tokens=16)
    assert have.row.keys() == set(rows["key"])


def test_what_one_share_left_out_is_added_behind_it(tiny_llm, rows, tmp_path):
    site = Site(tiny_llm, 2, 1e9)
    share(site, rows, tmp_path, 1)
    left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    have = collect_probe_activations(site, rows, tmp_path, max_tokens=16)
    assert have.row.keys() == set(rows["key"]) and len(have.rows(rows["key"].tolist())) == len(rows)
    assert {name: (tmp_path / name).read_bytes() for name in left} == left


def test_a_folder_with_other_texts_is_refused(tiny_llm, rows, tmp_path):
    site = Site(tiny_llm, 2, 1e9)
    collect_probe_activations(site, rows[:20], tmp_path, max_tokens=16)
    with pytest.raises(GlpError, match="holds other texts"):
        share(site, rows, tmp_path, 1)
