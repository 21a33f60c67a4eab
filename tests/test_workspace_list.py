"""The list of workspaces that were made on this machine: what is remembered, what is gone, and a damaged file."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from glp_core import workspace_list


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("GLP_EXPLORER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def made(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "workspace.json").write_text("{}")
    return folder.resolve()


def test_nothing_is_remembered_at_first():
    assert workspace_list.listed() == []


def test_workspaces_are_listed_once_and_keep_their_places_which_names_of_links_depend_on(tmp_path):
    one, two = made(tmp_path / "one"), made(tmp_path / "two")
    for folder in (one, two, tmp_path / "two" / ".." / "one"):
        workspace_list.remember(folder)
    assert workspace_list.listed() == [one, two]


def test_builds_that_begin_at_once_are_all_remembered(tmp_path):
    folders = [made(tmp_path / f"w{i}") for i in range(12)]
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(workspace_list.remember, folders))
    assert sorted(workspace_list.listed()) == sorted(folders)


def test_a_folder_that_is_gone_or_not_ready_yet_is_left_out_until_it_is_there(tmp_path):
    workspace_list.remember(tmp_path / "soon")
    assert workspace_list.listed() == []
    soon = made(tmp_path / "soon")
    assert workspace_list.listed() == [soon]


@pytest.mark.parametrize("damaged", ["", "[1]", "{}", '{"workspaces": "all"}', '{"workspaces": [1, null, "\\u0000"]}'])
def test_a_damaged_list_counts_as_empty_and_is_written_anew(cache, tmp_path, damaged):
    cache.mkdir()
    (cache / "workspaces.json").write_text(damaged)
    assert workspace_list.listed() == []
    one = made(tmp_path / "one")
    workspace_list.remember(one)
    assert workspace_list.listed() == [one]


def test_the_list_does_not_grow_without_end(monkeypatch, tmp_path):
    monkeypatch.setattr(workspace_list, "MOST", 2)
    folders = [made(tmp_path / name) for name in "abc"]
    for folder in folders:
        workspace_list.remember(folder)
    assert workspace_list.listed() == folders[1:]
