"""Several workspaces in one server: their names, the switch, links that stay on one, and sessions that do not mix."""

import html
import os
import re
import weakref
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import pytest

from dashboard.service import resources, workspace_facts, workspaces
from dashboard.service.model_store import ModelStore
from glp_core import memory, workspace_list
from tests.support import pages
from tests.support.pages import open_page


@pytest.fixture
def two(monkeypatch, tmp_path):
    """Two workspaces, `mine` to begin with and `other`, whose only direction is another one."""
    monkeypatch.setenv("GLP_EXPLORER_CACHE", str(tmp_path / "cache"))
    mine, other = (pages.make_workspace(tmp_path / name) for name in ("mine", "other"))
    for path in (other.folder / "directions").glob("*"):
        path.unlink()
    pages.direction("sideways", "sideways", 3).save(other.folder / "directions")
    pages.use_workspace(monkeypatch, mine.folder)
    monkeypatch.setenv(workspaces.FOLDERS_VARIABLE, str(tmp_path))
    return mine.folder, other.folder


def switch(at):
    """Return the addresses that the sidebar's switch offers, by name."""
    [drawn] = [one.value for one in at.get("html") if "glp-workspaces" in one.value and "<nav" in one.value]
    return {html.unescape(name): html.unescape(link) for link, name in re.findall(r'<a href="([^"]*)"[^>]*>([^<]*)</a>', drawn)}


def queries(at):
    """Return the query of every link to another page."""
    links = at.get("page_link")
    assert links
    return [parse_qs(link.proto.query_string) for link in links]


def words(at):
    return " ".join(re.sub(r"\\(.)", r"\1", one.value) for kind in (at.warning, at.error, at.info) for one in kind)


def test_the_demo_those_named_and_those_made_here_are_listed(two, tmp_path, monkeypatch):
    built = pages.make_workspace(tmp_path / "elsewhere" / "deep" / "built").folder
    workspace_list.remember(built)
    assert workspaces.listed() == {"demo": workspaces.DEMO, "mine": two[0], "other": two[1], "built": built}
    monkeypatch.setenv(workspaces.FOLDERS_VARIABLE, os.pathsep.join([str(two[1]), str(tmp_path / "nowhere"), ""]))
    assert list(workspaces.listed()) == ["demo", "other", "built", "mine"]


def test_folders_that_cannot_be_looked_at_are_left_out(two, tmp_path, monkeypatch):
    odd = ["~nobody-of-this-name/x", "x" * 5_000, str(two[1])]
    monkeypatch.setenv(workspaces.FOLDERS_VARIABLE, os.pathsep.join(odd))
    assert list(workspaces.listed()) == ["demo", "other", "mine"]
    monkeypatch.setenv(workspace_facts.FOLDER_VARIABLE, "~nobody-of-this-name/x")
    assert "this is no workspace" in words(open_page("steering"))


def test_workspaces_of_one_name_get_a_number_and_odd_names_are_made_plain(two, tmp_path):
    for folder in ("a/other", "b/other", "c/the other?&x=<b>"):
        workspace_list.remember(pages.make_workspace(tmp_path / "more" / folder).folder)
    assert list(workspaces.listed())[3:] == ["other-2", "other-3", "the-other-x-b"]


def test_a_link_opens_the_workspace_that_it_names_and_another_session_stays_where_it_was(two):
    here, there = open_page("steering"), open_page("steering", workspace="other")
    assert there.selectbox(key="steering_direction").options == ["sideways"]
    assert here.selectbox(key="steering_direction").options == ["positive sentiment", "upwards"]
    assert there.run().selectbox(key="steering_direction").options == ["sideways"]


def test_links_between_pages_and_share_keep_the_workspace(two):
    at = open_page("overview", workspace="other")
    assert all(query["workspace"] == ["other"] for query in queries(at))
    at.switch_page("../pages/steering.py").run()
    assert at.query_params["workspace"] == "other"
    shared = next(one.value for one in at.code if one.value.startswith("http") or one.value.startswith("/steering"))
    assert parse_qs(urlsplit(shared).query)["workspace"] == ["other"]


def test_the_workspace_to_begin_with_needs_no_name_in_links(two):
    at = open_page("overview")
    assert "workspace" not in at.query_params and not any("workspace" in query for query in queries(at))
    at = open_page("overview", workspace="mine")
    assert all(query["workspace"] == ["mine"] for query in queries(at))


def test_the_switch_leads_to_the_same_page_elsewhere_and_takes_texts_along(two):
    at = open_page("steering", workspace="other", steering_prompt="Rain fell", steering_direction="sideways")
    links = switch(at)
    assert list(links) == ["demo", "mine"]
    assert parse_qs(urlsplit(links["mine"]).query) == {"steering_prompt": ["Rain fell"], "workspace": ["mine"]}
    assert urlsplit(links["mine"]).path.endswith("/steering")
    back = parse_qs(urlsplit(switch(open_page("steering"))["other"]).query)
    assert back["workspace"] == ["other"] and "steering_direction" not in back


def test_the_switch_takes_the_part_of_concepts_along_as_links_say_it(two):
    at = open_page("concepts", concepts_part="Your own concept")
    held = parse_qs(urlsplit(switch(at.run())["other"]).query)
    assert held["concepts_part"] == ["Your own concept"]
    there = open_page("concepts", **{key: value[0] for key, value in held.items()})
    assert "In the link" not in words(there) and there.segmented_control(key="concepts_part").value == "Your own concept"


def test_a_name_that_is_none_is_told_and_the_workspace_to_begin_with_is_used(two):
    at = open_page("steering", workspace="/etc", steering_seed="5")
    assert "Workspace is '/etc', wanted one of: demo, mine, other. mine is used instead." in words(at)
    assert at.selectbox(key="steering_direction").options == ["positive sentiment", "upwards"]
    assert "workspace" not in at.query_params and at.number_input(key="steering_seed").value == 5
    at.switch_page("../pages/scaling.py").run()
    assert "Workspace is" not in words(at)


def test_a_direction_of_another_workspace_falls_back(two):
    at = open_page("steering", workspace="other", steering_direction="upwards", prior="small")
    assert at.selectbox(key="steering_direction").value == "sideways"
    assert "Direction is 'upwards'" in words(at) and "Prior is 'small'" in words(at)


def test_a_job_runs_on_the_workspace_of_the_session_that_asked(two):
    at = open_page("steering", workspace="other", steering_tokens="3", steering_mode="continue")
    at.button(key="steering_start").click().run()
    assert not at.exception and not at.error
    assert at.session_state["steering_run"].job.state == "done"
    assert at.session_state["steering_run"].request.direction == "sideways"


def test_what_a_download_s_thread_makes_is_about_the_workspace_of_the_session(two):
    with workspace_facts.in_job(two[1]):
        made = workspace_facts.bound(lambda name: (name, workspace_facts.folder()))
    with ThreadPoolExecutor() as other:
        assert other.submit(made, "json").result() == ("json", two[1])


def test_commands_name_the_workspace_that_is_shown(two):
    at = open_page("neurons", workspace="other")
    assert f"python -m glp_core index --workspace {two[1].name}" in [one.value for one in at.code]


def test_a_thread_without_a_session_is_on_the_job_s_workspace_and_then_on_the_first(two):
    assert workspace_facts.folder() == two[0]
    with workspace_facts.in_job(two[1]):
        assert workspace_facts.folder() == two[1] and resources.workspace().folder == two[1]
    assert workspace_facts.folder() == two[0]


def test_each_workspace_loads_models_of_its_own_and_lets_them_go_together(two, monkeypatch):
    kept = ModelStore(lambda: None)
    monkeypatch.setattr(resources, "models", lambda: kept)
    with workspace_facts.in_job(two[0]):
        mine, meter = resources.glp(), resources.meter()
    with workspace_facts.in_job(two[1]):
        assert resources.glp() is not mine and resources.meter().glp is resources.glp()
    with workspace_facts.in_job(two[0]):
        assert resources.glp() is mine and resources.meter() is meter
    assert kept.owners() == [two[1], two[0]]
    matrices = [(name, p.numel()) for name, p in mine.network.named_parameters() if p.ndim == 2]
    laid_out = sum(n for name, n in matrices if "time" not in name)  # once as they are, once laid out, once in half the bits
    assert kept.size() == 2 * (4 * sum(p.numel() for p in mine.network.parameters()) + 6 * laid_out)


def test_weights_and_reports_that_are_written_anew_are_read_anew(two):
    glp, workspace = resources.glp(), resources.workspace()
    weights = two[0] / "glp" / "final.safetensors"
    os.utime(weights, (1, 1))
    assert resources.glp() is not glp and resources.workspace() is workspace
    os.utime(two[0] / "workspace.json", (1, 1))
    assert resources.workspace() is not workspace


def test_what_is_let_go_is_gone_from_memory(two, monkeypatch):
    kept = ModelStore(lambda: 0, memory.hand_back)
    monkeypatch.setattr(resources, "models", lambda: kept)
    with workspace_facts.in_job(two[0]):
        gone = weakref.ref(resources.glp())
        assert resources.meter() is not None
    with workspace_facts.in_job(two[1]):
        resources.glp()
    assert gone() is None and kept.owners() == [two[1]]
