"""A store collected in parts and joined: the bytes of one collected at once; what is not whole is refused."""

import pytest

from glp_core import GlpError
from glp_core.data import collecting
from glp_core.data.collecting import collect
from glp_core.data.parts import documents_for, join, span_of
from glp_core.files import read_object, write_json
from tests.data.test_store import TRAIN, VALIDATION, contents


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(collecting, "DOCUMENTS_PER_SHARD", 8)


def gather(llm, folder, n=700, **options):
    return collect(llm, 1, TRAIN, VALIDATION, folder, n_activations=n, **options)


def in_parts(llm, folder, n, n_parts, order=None):
    paths = [folder / f"part-{i}" for i in range(n_parts)]
    total = documents_for(llm, TRAIN, n, 128, 8)
    for i in order or range(n_parts):
        gather(llm, paths[i], n, span=span_of(i + 1, n_parts, total, 8))
    return paths


def test_parts_of_an_earlier_version_join_and_those_of_another_model_do_not(tiny_llm, tmp_path):
    paths = [tmp_path / f"part-{i}" for i in range(2)]
    total = documents_for(tiny_llm, TRAIN, 700, 128, 8)
    for i, source in enumerate(("", "hub a/model@123")):
        gather(tiny_llm, paths[i], 700, span=span_of(i + 1, 2, total, 8), source=source)
    assert join(tmp_path / "joined", paths, 700).manifest["source"] == "hub a/model@123"
    first = read_object(paths[0] / "manifest.json")
    write_json(paths[0] / "manifest.json", first | {"source": "hub b/model@123"})
    with pytest.raises(GlpError, match="hub a/model@123, the parts before it of hub b/model@123"):
        join(tmp_path / "other", paths, 700)


def test_parts_of_machines_that_differ_in_the_last_digits_of_a_norm_join_with_that_of_the_first(tiny_llm, tmp_path):
    paths = in_parts(tiny_llm, tmp_path, 700, 2)
    first, second = (read_object(path / "manifest.json") for path in paths)
    write_json(paths[1] / "manifest.json", second | {"median_norm": second["median_norm"] * 1.004})
    assert join(tmp_path / "joined", paths, 700).median_norm == first["median_norm"]
    write_json(paths[1] / "manifest.json", second | {"median_norm": second["median_norm"] * 1.1})
    with pytest.raises(GlpError, match="collected otherwise"):
        join(tmp_path / "other", paths, 700)


@pytest.mark.parametrize(("n", "n_parts"), [(700, 2), (701, 3), (10_000, 3), (100, 1)])
def test_parts_joined_are_what_one_call_collects(tiny_llm, tmp_path, n, n_parts):
    whole = gather(tiny_llm, tmp_path / "whole", n)
    paths = in_parts(tiny_llm, tmp_path / "parts", n, n_parts, order=reversed(range(n_parts)))
    joined = join(tmp_path / "joined", paths, n)
    assert joined.n_activations == whole.n_activations
    assert contents(joined.folder) == contents(whole.folder)


def test_spans_cover_the_documents_and_meet_between_groups():
    for n_parts in (1, 2, 3, 7):
        spans = [span_of(i + 1, n_parts, 60, 8) for i in range(n_parts)]
        assert [number for span in spans for number in span] == list(range(60))
        assert all(span.start % 8 == 0 for span in spans)
    with pytest.raises(GlpError, match="too few for 9 parts: at most 8"):
        span_of(1, 9, 60, 8)


def test_documents_are_counted_without_the_model(tiny_llm):
    lengths = [len(tiny_llm.encode(document.text)) - 1 for document in TRAIN]
    n = documents_for(tiny_llm, TRAIN, 300, 128, 1)
    assert sum(lengths[:n]) >= 300 * 1.02 > sum(lengths[: n - 1])
    assert documents_for(tiny_llm, TRAIN, 300, 128, 8) == -(-n // 8) * 8
    assert documents_for(tiny_llm, TRAIN, 10**9, 128, 8) == len(TRAIN)


def test_a_part_that_is_not_done_or_not_alike_is_refused(tiny_llm, tmp_path):
    paths = in_parts(tiny_llm, tmp_path, 700, 3)
    with pytest.raises(GlpError, match="wanted all from 8 on"):
        join(tmp_path / "joined", [paths[0], paths[2]], 700)
    gather(tiny_llm, tmp_path / "cut", 700, span=range(8, 16), tokens_per_document=9)
    with pytest.raises(GlpError, match="collected otherwise"):
        join(tmp_path / "joined", [paths[0], tmp_path / "cut"], 700)
    with pytest.raises(GlpError, match="Part [12] of 2 is not in .*collect it with --part"):
        join(tmp_path / "joined", [paths[0], tmp_path / "nowhere"], 700)
    with pytest.raises(GlpError, match="not collected in parts"):
        gather(tiny_llm, tmp_path / "chat", span=range(8), chat=0.5)
