"""Documents of one's own texts: the order, what is held out, going on anywhere, and a folder, a hub or nothing as their source."""

import hashlib
import json
from types import SimpleNamespace

import fsspec
import pytest

from glp_core import GlpError
from glp_core.data.corpus import split_of, task, task_rows
from glp_core.data.texts import documents as own
from glp_core.data.texts import source
from glp_core.data.texts.documents import FILES_AT_ONCE, TrainingDocuments, held_out
from glp_core.data.texts.source import OwnTexts
from tests.data.texts.test_formats import TEXTS, as_csv, as_jsonl, as_parquet, zstd

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A cache of its own, and no waiting for the probing tasks' tables."""
    monkeypatch.setenv("GLP_EXPLORER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("glp_core.data.corpus._test_rows", frozenset)


@pytest.fixture
def folder(tmp_path):
    """Eleven files of different lengths in two formats of compression, and files that are none of texts."""
    where = tmp_path / "texts"
    (where / "deeper").mkdir(parents=True)
    for number in range(11):
        data = as_jsonl([f"Text {i} of file {number}." for i in range(3 + 7 * number)])
        name = f"deeper/{number:02}.jsonl" if number % 2 else f"{number:02}.jsonl.zst"
        (where / name).write_bytes(zstd(data) if name.endswith("zst") else data)
    (where / "README.md").write_text("No text.")
    (where / ".hidden.jsonl").write_text("broken")
    return where


def test_a_file_that_is_named_itself_may_be_called_as_hidden_ones_are(tmp_path):
    (tmp_path / "_train.jsonl").write_bytes(as_jsonl(["A text.", "Another."]))
    [file] = OwnTexts(str(tmp_path / "_train.jsonl"), "text").files()
    assert file.name == "_train.jsonl"


def everything(folder):
    return {f"Text {i} of file {number}." for number in range(11) for i in range(3 + 7 * number)}


def side(text):
    """One text in twenty, by its digest: computed here without the code under test."""
    return int(hashlib.sha1(text.encode()).hexdigest()[:8], 16) % 20 == 1


def test_every_text_is_on_one_side(folder):
    source = OwnTexts.find(str(folder))
    train, kept = TrainingDocuments(source)[0:10_000], held_out(source)
    assert sorted(one.text for one in (*train, *kept)) == sorted(everything(folder))
    assert {one.text for one in kept} == {text for text in everything(folder) if side(text)}
    assert all(split_of(one.text) == "validation" for one in kept)  # never a probing task's test row
    assert {one.source for one in train} >= {"00.jsonl.zst", "deeper/05.jsonl"}


def test_files_are_read_in_turn(folder):
    train = TrainingDocuments(OwnTexts.find(str(folder)))[0:16]
    assert len({one.source for one in train}) == FILES_AT_ONCE
    assert [one.text for one in train] == [one.text for one in TrainingDocuments(OwnTexts.find(str(folder)))[0:16]]


@pytest.mark.parametrize("marked", [False, True])
def test_documents_are_the_same_wherever_reading_begins(folder, monkeypatch, marked):
    """With states kept on the way, in the same object and in a new one, as after a kill."""
    monkeypatch.setattr(own, "DOCUMENTS_BETWEEN_MARKS", 16 if marked else 10**9)
    monkeypatch.setattr(own, "SECONDS_BETWEEN_SAVES", 0.0)
    source = OwnTexts.find(str(folder))
    whole = list(TrainingDocuments(source)[0:10_000])
    documents = TrainingDocuments(source)
    for start in (300, 17, 18, 160, 0, 159, 64, len(whole) - 3, len(whole), 5000):
        assert list(documents[start : start + 30]) == whole[start : start + 30], start
        assert list(TrainingDocuments(source)[start : start + 3]) == whole[start : start + 3]
    assert list(documents[5:5]) == []


def test_going_on_far_in_reads_little(folder, monkeypatch):
    monkeypatch.setattr(own, "DOCUMENTS_BETWEEN_MARKS", 16)
    monkeypatch.setattr(own, "SECONDS_BETWEEN_SAVES", 0.0)
    source = OwnTexts.find(str(folder))
    n = len(TrainingDocuments(source)[0:10_000])
    texts = []
    monkeypatch.setattr(own, "is_test_row", lambda text: texts.append(text) or False)
    assert len(TrainingDocuments(source)[n - 5 : n]) == 5
    assert len(texts) <= 16 + 5


def test_two_readers_at_different_places_go_on_without_reading_again(folder, monkeypatch):
    documents = TrainingDocuments(OwnTexts.find(str(folder)))
    whole = list(TrainingDocuments(OwnTexts.find(str(folder)))[0:200])
    texts = []
    monkeypatch.setattr(own, "is_test_row", lambda text: texts.append(text) or False)
    for start in range(0, 200, 10):
        assert list(documents[start : start + 10]) == whole[start : start + 10]
        half = start // 2
        assert list(documents[half : half + 5]) == whole[half : half + 5]
    assert len(texts) == 200 + 100


def test_a_changed_file_is_not_gone_on_with_by_an_old_state(tmp_path, monkeypatch):
    monkeypatch.setattr(own, "DOCUMENTS_BETWEEN_MARKS", 2)
    monkeypatch.setattr(own, "SECONDS_BETWEEN_SAVES", 0.0)
    path = tmp_path / "a.jsonl"
    path.write_bytes(as_jsonl([f"Text {i}." for i in range(50)]))
    assert len(TrainingDocuments(OwnTexts.find(str(path)))[0:100]) > 40
    path.write_bytes(as_jsonl([f"A much longer text {i}." for i in range(50)]))
    assert all("longer" in one.text for one in TrainingDocuments(OwnTexts.find(str(path)))[30:100])


def test_repeated_and_empty_texts(tmp_path):
    path = tmp_path / "a.jsonl"
    kept = next(text for i in range(1000) if side(text := f"Text {i}."))
    path.write_bytes(as_jsonl([kept, "Another.", " \n", kept, "Another."]))
    source = OwnTexts.find(str(path))
    assert [one.text for one in held_out(source)] == [kept]
    assert [one.text for one in TrainingDocuments(source)[0:10]] == ["Another.", "Another."]


def test_test_rows_of_probing_tasks_are_left_out(tmp_path, monkeypatch):
    rows = task_rows(task("92_glue_sst2"))
    rows = rows[~rows["text"].map(side)]
    test = list(rows.loc[rows["split"] == "test", "text"][:20])
    other = list(rows.loc[rows["split"] != "test", "text"][:20])
    monkeypatch.setattr("glp_core.data.corpus._test_rows", lambda: frozenset(map(hash, test)))
    path = tmp_path / "a.jsonl"
    path.write_bytes(as_jsonl([*test, *other]))
    assert [one.text for one in TrainingDocuments(OwnTexts.find(str(path)))[0:100]] == other


def test_the_hashes_of_test_rows_are_of_all_tasks(monkeypatch):
    from glp_core.data import corpus

    monkeypatch.undo()
    one = task("92_glue_sst2")
    monkeypatch.setattr(corpus, "tasks", lambda: (one,))
    assert corpus._test_rows.__wrapped__() == set(map(hash, task_rows(one, "test")["text"]))


def test_texts_of_which_none_is_held_out_are_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(as_jsonl(["Another."]))
    with pytest.raises(GlpError, match="has 1 texts, and none is held out.*one in 20"):
        held_out(OwnTexts.find(str(path)))


# where texts lie


def test_a_relative_path_is_kept_absolute(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_bytes(as_csv(TEXTS))
    monkeypatch.chdir(tmp_path)
    found = OwnTexts.find("in/../in")
    assert found == OwnTexts(str(tmp_path / "in"), "text")
    assert OwnTexts.from_json(found.to_json(), "here") == found


def test_the_column_is_chosen_or_asked_for(tmp_path):
    path = tmp_path / "a.jsonl"

    def chosen(record, field=None):
        path.write_text(json.dumps(record))
        return OwnTexts.find(str(path), field).field

    assert chosen({"id": "7", "text": "a"}) == "text"
    assert chosen({"n": 7, "content": "a"}) == "content"
    assert chosen({"title": "a", "body": "b"}, "body") == "body"
    with pytest.raises(GlpError, match="Which column.*--text-field: it has 'title', 'body'"):
        chosen({"title": "a", "body": "b"})
    with pytest.raises(GlpError, match="no 'words': it has 'n', 'text'"):
        chosen({"n": 1, "text": "b"}, "words")
    (tmp_path / "a.txt").write_text("one")
    with pytest.raises(GlpError, match="plain text.*leave --text-field out"):
        OwnTexts.find(str(tmp_path / "a.txt"), "text")
    assert OwnTexts.find(str(tmp_path / "a.txt")).field == ""


def test_what_cannot_be_a_source_is_told(tmp_path, folder):
    with pytest.raises(GlpError, match=r"No texts at .*nowhere: wanted a file or folder of \.jsonl"):
        OwnTexts.find(str(tmp_path / "nowhere"))
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(GlpError, match="is empty: it has no column"):
        OwnTexts.find(str(tmp_path / "a.jsonl"))
    (tmp_path / "a.docx").write_text("")
    with pytest.raises(GlpError, match="among 1 files: wanted .jsonl"):
        OwnTexts.find(str(tmp_path / "a.docx"))
    (folder / "more.csv").write_bytes(as_csv(TEXTS))
    with pytest.raises(GlpError, match=r"several formats \(.csv, .jsonl\)"):
        OwnTexts.find(str(folder))
    with pytest.raises(GlpError, match="wanted hf://datasets/org/name/path"):
        OwnTexts.find("hf://models/org/name")


def test_a_damaged_entry_of_a_workspace_is_named():
    for value in ([], {"source": 7}, {"source": "a", "more": "b"}, {}, {"field": "text"}):
        with pytest.raises(GlpError, match="workspace.json: texts"):
            OwnTexts.from_json(value, "workspace.json")


def test_a_folder_of_more_than_texts_is_not_walked_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "MOST_FILES", 5)
    for folder in ("a", "a/b", "c"):
        (tmp_path / folder).mkdir()
        for n in range(2):
            (tmp_path / folder / f"{n}.txt").write_text("a text")
    monkeypatch.setattr(source, "suffixes", None)  # no file is looked at
    for root in (str(tmp_path), "/"):
        with pytest.raises(GlpError, match="holds more than 5 files or folders: name a folder that has texts only"):
            OwnTexts(root).files()
    monkeypatch.undo()
    assert [file.name for file in OwnTexts(str(tmp_path / "a")).files()] == ["0.txt", "1.txt", "b/0.txt", "b/1.txt"]


class Hub:
    """A data set of the hub in memory: its files lie under the commit that they were pinned to."""

    def __init__(self):
        self.system = fsspec.filesystem("memory")

    def find(self, root, detail):
        found = self.system.find("/" + root, detail=detail)
        return {path[1:]: about | {"blob_id": "b"} for path, about in found.items()}

    def open(self, path, mode):
        return self.system.open("/" + path, mode)


def test_a_data_set_of_the_hub_is_pinned_and_read(monkeypatch):
    asked = []

    class Api:
        def dataset_info(self, name, revision=None):
            asked.append((name, revision))
            return SimpleNamespace(sha=COMMIT)

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr("huggingface_hub.HfFileSystem", Hub)
    texts = [f"Text {i} of the hub." for i in range(100)]
    root = f"/datasets/org/name@{COMMIT}/data"
    system = fsspec.filesystem("memory")
    system.pipe(f"{root}/a.parquet", as_parquet(texts[:50], rows=20))
    system.pipe(f"{root}/b.parquet", as_parquet(texts[50:], rows=20))
    found = OwnTexts.find("hf://datasets/org/name@main/data/")
    assert found == OwnTexts("hf://datasets/org/name/data", "text", COMMIT) and asked == [("org/name", "main")]
    train = TrainingDocuments(found)[0:1000]
    assert {one.text for one in (*train, *held_out(found))} == set(texts)
    assert train[0].source == "a.parquet"
    assert list(TrainingDocuments(found)[20:30]) == train[20:30]
    assert COMMIT in found.label


def test_a_hub_that_cannot_be_reached_says_what_to_do(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    class Api:
        def dataset_info(self, name, revision=None):
            raise ConnectionError("Cannot reach it: offline mode is enabled.")

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    with pytest.raises(GlpError, match="cannot be reached.*Set HF_HUB_OFFLINE=0"):
        OwnTexts.find("hf://datasets/org/name")
