"""The notebook: its cells run from top to bottom in under a minute, every figure shows something, no stale output is stored.

Cells are run as a notebook would run them, without one: its 26 packages would be installed for this test alone.
"""

import ast
import json
import time
from pathlib import Path

import plotly.graph_objects as go
import pytest

TOUR = Path(__file__).resolve().parents[1] / "assets" / "tour.ipynb"


def code_cells():
    return [cell for cell in json.loads(TOUR.read_text())["cells"] if cell["cell_type"] == "code"]


def run_cell(source, space):
    """Run a cell; return the value of its last line, which a notebook shows."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, str(TOUR), "exec"), space)
    return None if last is None else eval(compile(ast.Expression(last.value), str(TOUR), "eval"), space)


@pytest.fixture(scope="module")
def tour():
    """What the cells leave behind, what they show, and how long they take."""
    patch, space, shown, start = pytest.MonkeyPatch(), {}, [], time.process_time()
    with patch.context() as patched:
        patched.chdir(TOUR.parent)
        for cell in code_cells():
            shown.append(run_cell("".join(cell["source"]), space))
    return space, shown, time.process_time() - start


def test_the_tour_takes_less_than_a_minute(tour):
    assert tour[2] < 60


def test_every_figure_shows_something(tour):
    figures = [value for value in tour[1] if isinstance(value, go.Figure)]
    assert len(figures) >= 5
    for figure in figures:
        assert figure.layout.title.text
        for trace in figure.data:
            values = trace.z if trace.type == "heatmap" else trace.x if trace.type == "histogram" else trace.y
            assert len(values) > 2, figure.layout.title.text


def test_the_tour_shows_what_it_says(tour):
    space = tour[0]
    written = {arm.name: "".join(step.text for step in space["steps"] if step.arm == arm.name) for arm in space["arms"]}
    assert len(set(written.values())) == 3 and all(written.values())
    raw, walk = space["curves"]["raw"], space["curves"]["walk"]
    assert raw[0] == pytest.approx(1, abs=0.3) and raw == sorted(raw)
    assert walk[-1] < raw[-1]


def test_no_output_is_stored():
    assert not [cell for cell in code_cells() if cell["outputs"] or cell["execution_count"] is not None]
    assert json.loads(TOUR.read_text())["nbformat"] == 4
