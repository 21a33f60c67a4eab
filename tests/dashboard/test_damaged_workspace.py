"""One bad file of a workspace: the page names it without its path, leaves it out, and the rest works."""

import json
import re

import pytest

from dashboard.widgets import url
from tests.support import run_fakes
from tests.support.pages import open_page


def told(at):
    return re.sub(r"\\(.)", r"\1", "\n".join(one.value for kind in (at.warning, at.error) for one in kind))


def test_a_bad_direction_and_a_bad_report_are_named_and_the_others_are_there(llm, workspace):
    (workspace.folder / "directions" / "bad.safetensors").write_bytes(b"\x01\0\0\0\0\0\0\x001")
    workspace.report_path("strengths").write_text('{"directions": {"up": {"n": 1e999}}}')
    at = open_page("steering")
    said = told(at)
    assert "A direction is left out: bad.safetensors has a damaged header" in said
    assert "A report is left out: workspace/reports/strengths.json is damaged" in said
    assert "`python -m glp_core strengths --workspace workspace`" in said
    assert str(workspace.folder.parent) not in said
    assert at.selectbox(key="steering_direction").options == ["positive sentiment", "upwards"]
    at.button(key="steering_start").click().run()
    assert not at.exception and at.session_state["steering_run"].job.state == "done"
    (workspace.folder / "directions" / "bad.safetensors").unlink()
    assert "left out: bad" not in told(at.run())


def test_a_bad_run_is_named_and_the_others_are_drawn(llm, workspace):
    for parameters in (10**6, 2 * 10**6):
        run_fakes.write_run(workspace.folder / "runs", parameters=parameters)
    (workspace.folder / "runs" / "run1000000" / "train.csv").write_text(
        "activations,flops,validation_loss\n1," + "9" * 400 + ",1\n"
    )
    at = open_page("scaling")
    assert "A run is left out: workspace/runs/run1000000/train.csv, line 2: flops is not a finite number" in told(at)
    assert at.get("plotly_chart") and not at.exception


def test_what_another_prior_was_measured_with_is_told_where_it_is_shown(llm, workspace):
    evaluate = {"validation_loss": 0.9, "delta_lm": {"glp": 0.1, "gaussian_mean": 0.2, "mean_ablation": 0.3}}
    workspace.save_report("evaluate", evaluate)
    assert "another prior" not in told(open_page("overview"))
    workspace.report_path("evaluate").write_text(json.dumps(evaluate | {"glp_digest": "0" * 16}))
    said = told(open_page("overview"))
    assert "Made with another prior than the workspace has now: reports/evaluate.json." in said
    assert "`python -m glp_core build --workspace" in said
    early = evaluate | {"glp_digest": "0" * 16, "settings": {"checkpoint": "checkpoints/activations_4096"}}
    workspace.report_path("evaluate").write_text(json.dumps(early))
    assert "another prior" not in told(open_page("overview"))


@pytest.mark.parametrize("damage", ["{", '{"layer": Infinity}'])
def test_a_bad_workspace_is_named_on_every_page(llm, workspace, damage):
    (workspace.folder / "workspace.json").write_text(damage)
    for page in sorted(url.PAGES):
        at = open_page(page)
        assert not at.exception and "workspace.json is not readable JSON" in told(at), page
