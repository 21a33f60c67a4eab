"""A tiny build in a process of its own, to be killed, and what every page has to show of the workspace that it made."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from glp_core.files import read_object, write_json
from tests.support.tiny import keep_llm

ROOT = Path(__file__).resolve().parents[2]


def make_home(home):
    """Write an LLM of another family than the demo's and the prefixes of its workspace `my`; return the folder."""
    keep_llm(home / "gpt2", "gpt2")
    things = ["cat", "film", "rain", "mat", "mind", "model"] * 2
    write_json(home / "my" / "prefixes.json", [f"The {thing} that we saw was" for thing in things])
    return home


def start(home, *words):
    """Start a build in `home / "my"`; return its process."""
    line = [sys.executable, "-m", "tests.support.tiny_build", "--workspace", home / "my", "--device", "cpu", *words]
    environment = os.environ | {"GLP_EXPLORER_CACHE": str(home / "cache"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(line, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def kill_in(stage, home, *words):
    """Start a build and kill it while it is in `stage`, or in the one after when that was over at once."""
    process, path, reached = start(home, *words), home / "my" / "build.json", False
    while not reached:
        assert process.poll() is None, process.stderr.read()
        known = json.loads(path.read_text())["stages"] if path.is_file() else []
        reached = any(one["name"] == stage and one["state"] in ("running", "done") for one in known)
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def _loss(workspace):
    report = workspace.report("evaluate")
    return f"{report['validation_loss']:.3f} (Gaussian prior {report['gaussian_loss']:.3f})"


def _steered(workspace):
    """Return what was measured of unsteered texts."""
    rows = workspace.report("steering_sentiment")["rows"]
    unsteered = next(row for row in rows if row["arm"] == "unsteered")
    return f"on {unsteered['n']} prompts: concept unsteered {unsteered['concept']:.2f}, raw"


def _concepts(workspace):
    report = workspace.report("probing")
    low, high = report["ci"]["glp"]
    return f"over {report['n_tasks']} tasks, 95% bootstrap CI over tasks {low:.3f} to {high:.3f}"


def _law(workspace):
    alpha = workspace.report("scaling")["alpha"]
    return f"α = {alpha['value']:.3f} [{alpha['ci'][0]:.3f}, {alpha['ci'][1]:.3f}]"


def _indexed(workspace):
    facts = read_object(workspace.folder / "neurons" / "index.json")["facts"]
    return f"{facts['n_layers'] * facts['d_mlp']:,} neurons · {facts['tokens']:,} tokens"


def _compared(workspace):
    return workspace.report("pareto")["summary"]["verdicts"][0]["mean"]


def _separated(workspace):
    return f"AUROC {workspace.direction('click-bait').auroc:.4f}"


SHOWN = {
    "overview": _loss,
    "steering": _steered,
    "neurons": _indexed,
    "concepts": _concepts,
    "scaling": _law,
    "manifold": _compared,
    "lab": _separated,
}
"""Page to words out of the workspace's own reports that it shows."""
QUERIES = {
    "manifold": {"manifold_view": "Evidence"},
    "steering": {"steering_direction": "Positive sentiment", "steering_strength": "2.0"},
}
"""What the address of a page says, where its words are not in its first view."""


def text_of(at):
    """Return all that a page says, on hover too, without the escapes of Markdown, and the AUROCs in its tables."""
    texts = [words for kind in ("markdown", "caption") for one in at.get(kind) for words in (one.value, one.proto.help)]
    others = [str(one.proto) for kind in ("html", "selectbox", "multiselect", "metric", "plotly_chart") for one in at.get(kind)]
    areas = [f"AUROC {area:.4f}" for one in at.dataframe if "AUROC" in one.value for area in one.value["AUROC"]]
    return " ".join([*texts, *others, *areas]).replace("\\", "")
