"""The commands that tune, steer, compare and advise, one after another on a tiny workspace."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from glp_core.__main__ import main
from glp_core.cli.steering import steer
from glp_core.data.corpus import Document
from glp_core.steering.direction_facts import report_name
from glp_core.steering.trials.outcomes import DRAWS
from tests.support import pages


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny workspace and its model, four prefixes a list."""
    workspace, llm, _, documents = pages.make_store(tmp_path_factory.mktemp("steering"), train=20, held_out=40, activations=400)
    for name in ("prefixes", "validation_prefixes"):
        texts = [f"the {word} of {name}" for word in ("cat", "rain", "film", "mind")]
        (workspace.folder / f"{name}.json").write_text(json.dumps(texts))
    return workspace, llm, documents


@pytest.fixture()
def run(made, monkeypatch):
    workspace, llm, documents = made
    load_glp, priors = type(workspace).load_glp, []

    def llm_first(_self):
        assert not priors, "the memory of a prior that is there would be counted twice"
        return llm

    def then_prior(self, *args, **options):
        priors.append(load_glp(self, *args, **options))
        return priors[-1]

    monkeypatch.setattr(type(workspace), "load_llm", llm_first)
    monkeypatch.setattr(type(workspace), "load_glp", then_prior)
    long = [Document(3 * text.text, "long") for text in documents]
    monkeypatch.setattr(type(workspace), "documents", lambda _self, _split: long)

    def run(command, *words):
        priors.clear()
        return main([command, "--workspace", str(workspace.folder), *words])

    return run


def test_tuning_steering_comparing_and_advising(made, run, tmp_path, capsys):
    workspace, *_ = made
    names = workspace.direction_names()
    assert run("pareto") == 1, "there are no reports yet"
    assert run("first-press") == 1, "there are no candidates yet"
    few = ("--device", "cpu", "--tokens", "4", "--strengths", "0.5", "1.5")
    assert run("tune-walk", *few, "--forms", "raw", "glp 0.25", "walk 0.25 x 4*", "walk 0.1 x 8") == 0
    tuned = workspace.report("walk_tuning")
    assert tuned["chosen"]["long"]["pushes"] in (4, 8) and set(tuned["by_direction"]) == set(names)
    assert asdict(workspace.walk()) == tuned["chosen"]

    texts = tmp_path / "texts.json"
    assert run("steer", *few, "--limit", "3", "--documents", "2", "--texts", str(texts)) == 0
    for name in names:
        report = workspace.report(f"steering_{name.replace('-', '_')}".replace("positive_sentiment", "sentiment"))
        cells = {(row["arm"], row["strength"]) for row in report["rows"]}
        assert cells >= {(arm, s) for arm in steer.ARMS for s in (0.5, 1.5)} | {("unsteered", 0.0), ("prompted", 0.0)}
        assert {arm for arm, _ in cells} >= {"raw_best", "glp_best", "walk_best"}
        assert len(report["elsewhere"]) == len(steer.ARMS) * 2 and report["settings"]["prefixes"] == 3
        assert report["settings"]["walk"] == tuned["chosen"]
    before = workspace.report("steering_sentiment") or workspace.report(f"steering_{names[0].replace('-', '_')}")
    walked = ("--arms", "walk", "--keep-others", "--limit", "3", "--documents", "2")
    assert run("steer", *few, *walked) == 0
    after = workspace.report("steering_sentiment") or workspace.report(f"steering_{names[0].replace('-', '_')}")
    for part in ("rows", "elsewhere"):
        others = [[row for row in report[part] if row["arm"] != "walk"] for report in (before, after)]
        assert others[0] == others[1], part
        assert len(after[part]) == len(before[part])
    assert set(after["renewed"]) == {"walk"} and after["settings"] == before["settings"]
    assert run("steer", *few, "--arms", "walk", "--keep-others", "--limit", "2") == 1, "kept texts are of other prefixes"
    whole = workspace.report(report_name(names[0]))
    workspace.save_report(report_name(names[0]), {key: value for key, value in whole.items() if key != "elsewhere"})
    assert run("steer", *few, "--arms", "walk", "--keep-others", "--limit", "3") == 1, "what `steer-sentiment` writes"
    workspace.save_report(report_name(names[0]), whole)
    assert run("steer", *few, "--only", "elsewhere", "--arms", "raw", "--documents", "1") == 0
    assert run("steer", *few, "--only", "best", "--limit", "3") == 0
    assert run("steer", *few, "--only", "best", "--tuning", "none_of_these") == 1, "nothing was tuned under that name"
    last = workspace.report("steering_sentiment") or workspace.report(f"steering_{names[0].replace('-', '_')}")
    assert set(last["renewed"]) == {"walk", "raw, elsewhere", "best"} and last["settings"] == before["settings"]
    assert [row["n"] for row in last["elsewhere"] if row["arm"] == "raw"] == [1, 1]
    assert [row["n"] for row in last["elsewhere"] if row["arm"] != "raw"] == [2] * 8
    assert sorted((row["arm"], row["concept"]) for row in last["rows"]) == sorted(
        (row["arm"], row["concept"]) for row in after["rows"]
    )
    assert len(json.loads(texts.read_text())) == len(names) * 3 * (2 + len(steer.ARMS) * 2 + 3 + DRAWS)

    assert run("pareto") == 0
    assert set(workspace.report("pareto")["directions"]) == set(names)
    assert run("strengths", *few) == 0
    advised = workspace.report("strengths")
    assert set(advised["directions"]) == set(names)
    assert {name: entry["digest"] for name, entry in advised["directions"].items()} == {
        name: workspace.direction_digest(name) for name in names
    }
    again, *others = names
    assert run("strengths", *few, "--directions", again) == 0
    assert workspace.report("strengths")["directions"] == advised["directions"], "others stay as they were measured"
    assert run("strengths", *few, "--directions", again, "--limit", "2") == 0
    assert set(workspace.report("strengths")["directions"]) == {again}
    said = capsys.readouterr().err
    assert f"Measured with other settings or another prior, and left out now: {', '.join(others)}." in said
    workspace.save_report("strengths", advised)
    assert run("first-press", "--device", "cpu", "--tokens", "6", "--limit", "3") == 0
    press = workspace.report("first_press")
    assert (
        press["direction"] in names
        and set(press["columns"]) == {"unsteered", "raw", "walk"}
        and set(press["broken"]) == {"raw", "walk"}
    )

    made_anew = workspace.direction(again)
    replace(made_anew, vector=made_anew.vector.roll(1)).save(workspace.folder / "directions")
    capsys.readouterr()
    assert run("pareto") == 0
    assert set(workspace.report("pareto")["directions"]) == set(others)
    assert f"Left out, measured along an earlier direction of the name: {again}." in capsys.readouterr().err
    assert run("steer", *few, "--directions", again, "--arms", "walk", "--keep-others", "--limit", "3") == 1
    assert "is of another direction that had this name" in capsys.readouterr().err
    assert run("steer", *few, "--directions", again, "--arms", "raw", "--limit", "2", "--documents", "0") == 0
    assert f"{again} was tuned when it was another direction" in capsys.readouterr().err
    assert workspace.report(report_name(again))["settings"]["best"] == {}
    made_anew.save(workspace.folder / "directions")


def test_what_cannot_be_run_is_said(run, capsys):
    assert run("steer", "--directions", "nowhere") == 1
    assert run("tune-walk", "--device", "cpu", "--forms", "nothing") == 1
    assert "names no form" in capsys.readouterr().err
    assert run("strengths", "--limit", "0") == 1


def test_a_direction_is_made_of_texts_of_instructions_and_of_a_neuron_and_one_from_a_file_is_measured(
    made, run, tmp_path, capsys
):
    workspace, *_ = made
    table = tmp_path / "texts.csv"
    rows = [f"the cat sat on mat {i},in" if i % 2 else f"rain fell on the film {i},out" for i in range(24)]
    table.write_text("text,label\n" + "\n".join(rows))
    named = ("--name", "own", "--positive", "in")
    assert run("direction", str(table), *named, "--method", "probe", "--pooling", "mean") == 0
    assert "AUROC 1.000 [0." in capsys.readouterr().err
    about = workspace.direction("own").about
    assert (about["method"], about["pooling"], about["classes"][0]["label"]) == ("probe", "mean", "in") and "date" in about[
        "made_by"
    ]
    (tmp_path / "questions").write_text("\n".join(f"What of the {word}?" for word in ("cat", "rain", "film", "mind")))
    words = ("--system", "You are a cat.", "--opposite", "You are rain.", "--questions", str(tmp_path / "questions"))
    assert run("direction", "--name", "cat", *words, "--tokens", "4") == 0
    assert workspace.direction("cat").about["source"] == "instructions"
    assert run("direction", "--name", "neuron", "--neuron", "0/3") == 0
    assert "Not measured on texts" in capsys.readouterr().err
    assert run("export-direction", "own", "--to", str(tmp_path / "own.safetensors")) == 0
    assert run("import-direction", str(tmp_path / "own.safetensors"), "--name", "whole") == 0
    assert "AUROC 1.000 on 24 texts, as its file says." in capsys.readouterr().err
    assert run("export-direction", "own", "--to", str(tmp_path / "own.gguf")) == 0
    assert (
        run(
            "import-direction",
            str(tmp_path / "own.gguf"),
            "--name",
            "back",
            "--measure",
            str(table),
            "--positive",
            "in",
            "--pooling",
            "mean",
        )
        == 0
    )
    back = workspace.direction("back")
    assert back.vector @ workspace.direction("own").vector == pytest.approx(1, abs=1e-5)
    assert back.n_train == 0 and back.n_test == 24 and back.about["source"] == "file" and back.probe_auroc > 0.9
    assert run("export-direction", "own", "--to", str(tmp_path / "own.safetensors")) == 0
    told = json.loads((tmp_path / "own.json").read_text())
    assert told["layer"] == workspace.layer and "counted from 0" in told["layer_numbering"] and told["about"] == about
    assert run("import-direction", str(tmp_path / "own.safetensors"), "--name", "again") == 0
    again, own = workspace.direction("again"), workspace.direction("own")
    assert torch.equal(again.vector, own.vector) and torch.equal(again.probe_weight, own.probe_weight)
    assert (again.auroc, again.probe_bias, again.title) == (own.auroc, own.probe_bias, "again")
    assert run("export-direction", "own", "--to", str(tmp_path / "own.txt")) == 1
    assert run("direction", "--name", "x") == 1 and "Say what to make it from" in capsys.readouterr().err
    assert run("direction", "--name", "x", "--system", "a") == 1 and "Give both" in capsys.readouterr().err
