"""Devices: the one that is asked for or a clear word why not; number types; every command that computes can be told where."""

import argparse
import time
from functools import partial
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch

from glp_core import GlpError, devices, load_glp, load_llm
from glp_core.cli import console
from glp_core.cli.commands import MODULES
from glp_core.llm.sources import SMOLLM2
from glp_core.workspace import DEMO, Workspace
from tests.bench import accelerator, at_scale, targets
from tests.support.pages import make_store, make_workspace

COMPUTE_NOTHING = {
    *("setup", "blend", "scaling", "describe", "map", "pareto"),
    *("install", "export", "export-direction"),
}
"""Commands without a model's arithmetic."""


@pytest.fixture
def no_accelerator(monkeypatch):
    monkeypatch.delenv(devices.VARIABLE, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def two_cards(monkeypatch):
    """A torch that claims two CUDA cards; nothing is computed on them."""
    for variable in (devices.VARIABLE, devices.LOCAL_RANK, devices.LOCAL_SIZE):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_auto_is_the_cpu_where_there_is_nothing_else_and_an_accelerator_where_there_is(no_accelerator, monkeypatch):
    assert devices.choose_device() == devices.choose_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert devices.choose_device("auto") == torch.device("mps")


def test_auto_takes_the_first_card_and_a_number_names_another(two_cards):
    assert devices.choose_device() == torch.device("cuda:0")
    assert devices.choose_device("cuda") == torch.device("cuda:0")
    assert devices.choose_device(" CUDA:1 ") == torch.device("cuda:1")
    assert devices.choose_device("cpu") == torch.device("cpu")


def test_each_process_of_a_machine_takes_a_card_of_its_own_and_one_that_is_alone_there_any(two_cards, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert [devices.choose_device(name) for name in (None, "auto", "cuda")] == [torch.device("cuda:1")] * 3
    with pytest.raises(
        GlpError, match="cuda:0 for all 2 processes .* wanted a card for each. Use --device cuda: each takes its"
    ):
        devices.choose_device("cuda:0")
    for named in (None, "auto", "cuda"):  # what was chosen goes on to workspaces and models, as it is written
        chosen = str(devices.choose_device(named))
        assert devices.device_at(chosen) == devices.choose_device(chosen) == torch.device("cuda:1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    assert devices.choose_device("cuda:0") == torch.device("cuda:0")
    assert devices.choose_device("cpu") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(GlpError, match="process 3 .* torch sees 2 CUDA devices; wanted one for each. Use --nproc-per-node 2"):
        devices.choose_device("cuda")
    with pytest.raises(GlpError, match="process 3"):
        devices.choose_device()


def test_the_variable_decides_where_no_name_is_given(two_cards, monkeypatch):
    monkeypatch.setenv(devices.VARIABLE, "cpu")
    assert devices.choose_device() == torch.device("cpu")
    assert devices.choose_device("cuda:1") == torch.device("cuda:1")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cuda", "not available here.*Use cpu or auto"),
        ("cuda:3", "not available here"),
        ("mps", "Apple GPU"),
        ("gpu", "wanted auto, cpu, cuda, cuda:N or mps"),
        ("cuda:x", "wanted auto"),
        ("cuda:99999999999999", "wanted auto"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_the_way_out(no_accelerator, name, words):
    with pytest.raises(GlpError, match=words):
        devices.choose_device(name)


def test_a_card_beyond_the_last_is_refused(two_cards):
    with pytest.raises(GlpError, match="cuda:2 is not available.*cuda:0 to cuda:1"):
        devices.choose_device("cuda:2")


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), torch.float32), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)])
def test_a_card_computes_in_bfloat16_where_it_can_and_never_in_float16(two_cards, monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device=None: capability)
    assert devices.native_dtype("cuda:1") == dtype
    assert devices.native_dtype("mps") == torch.float32


@pytest.mark.parametrize(
    ("flags", "dtype"), [({}, torch.float32), ({"avx512_bf16": True}, torch.bfloat16), ({"bf16": True}, torch.bfloat16)]
)
def test_a_processor_computes_in_bfloat16_where_it_can(monkeypatch, flags, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags)
    assert devices.native_dtype("cpu") == dtype


@pytest.mark.parametrize("command", sorted(MODULES.keys() - COMPUTE_NOTHING))
def test_every_command_that_computes_can_be_told_where(command, no_accelerator):
    parser = argparse.ArgumentParser()
    import_module(MODULES[command]).add_arguments(parser)
    action = next(action for action in parser._actions if action.dest == "device")
    assert action.default is None
    with pytest.raises(GlpError, match="Use cpu or auto"):
        console.device_of(argparse.Namespace(device="cuda"))


def test_the_library_takes_devices_by_the_same_names_and_refuses_others_in_one_line(two_cards):
    assert devices.device_at("auto") == devices.device_at("cuda") == torch.device("cuda:0")
    assert devices.device_at(torch.device("cpu")) == devices.device_at("cpu") == torch.device("cpu")
    assert Workspace.open(device="auto").device == "cuda:0"
    assert Workspace.open().device == "cpu"
    for take in (Workspace.open, partial(load_glp, DEMO / "glp"), partial(load_llm, SMOLLM2)):
        with pytest.raises(GlpError, match="The device is 'gpu', wanted auto, cpu, cuda, cuda:N or mps"):
            take(device="gpu")
        with pytest.raises(GlpError, match="The device cuda:7 is not available"):
            take(device="cuda:7")


def test_a_workspace_loads_its_models_on_its_device_and_its_reports_name_it_and_their_type(tmp_path, monkeypatch):
    made = make_workspace(tmp_path / "ws")
    workspace = Workspace.open(made.folder, "meta")
    assert workspace.load_glp().device == torch.device("meta")
    monkeypatch.setattr(devices, "native_dtype", lambda _device: torch.bfloat16)  # the workspace says float32
    opened = Workspace.open(made.folder, "cpu")
    opened.save_report("one", {})
    assert opened.report("one")["made_by"]["machine"]["device"] == "CPU"
    assert opened.report("one")["made_by"]["machine"]["dtype"] == "float32"
    opened.save()
    assert "device" not in (made.folder / "workspace.json").read_text()


def test_batches_are_large_where_an_accelerator_would_wait():
    sizes = {"cpu": 8, "accelerator": 64}
    assert [devices.batch_size(name, **sizes) for name in ("cpu", "cuda:1", "mps")] == [8, 64, 64]


def test_the_accelerator_s_targets_are_not_measured_on_a_cpu_and_rows_that_fail_or_come_too_late_say_so(
    tmp_path, monkeypatch, capsys
):
    workspace = make_workspace(tmp_path / "ws")
    assert accelerator.main(["--workspace", str(workspace.folder), "--device", "cpu"]) == 0
    report = workspace.report("accelerator")
    assert report["not_measured"] and not report["rows"] and report["device"] == "CPU"
    lines = capsys.readouterr().out.splitlines()[2:]
    assert len(lines) == len(targets.TARGETS) and all("| not measured |" in line for line in lines)
    workspace.save_report("accelerator", {"device": "NVIDIA H200 (cuda:0)", "rows": {"three_columns": {"ms": 5.0}}})
    assert accelerator.main(["--workspace", str(workspace.folder), "--device", "cpu"]) == 0
    assert workspace.report("accelerator")["rows"], "what a card did is not lost where there is none"
    assert "5: met | not measured" in capsys.readouterr().out
    bench = accelerator.Bench(torch.device("cpu"), workspace)
    rows = {"broken": (lambda _bench: {}[0], "a row"), "fine": (lambda _bench: {"ms": 0.5}, "a row")}
    monkeypatch.setattr(accelerator, "ROWS", rows)
    monkeypatch.setattr(targets, "TARGETS", (targets.Target("fine", "ms", "", at_most=1.0, cards=("CPU",)),))
    end = time.monotonic() + 60
    assert accelerator.measured(bench, "broken", end)["failed"] == "KeyError: 0"
    assert accelerator.measured(bench, "fine", end)["met"] == {"ms": True}
    assert accelerator.measured(bench, "fine", end - 120)["not_measured"] == "the time was up"


def test_a_report_is_set_against_every_target_in_words_and_says_nothing_of_another_card():
    rows = {
        "project_1": {"ms": 1.069, "times_faster": 7.19},
        "three_columns": {"ms": 5.899},
        "three_columns_8b": {"times_read": 9.21},
    }
    rows |= {"train": {"tflops": 450.0}, "collect": {"failed": "OutOfMemoryError"}, "project_1024": {"not_measured": "no time"}}
    cells = {}
    for card in ("H200", "H100", "A100"):
        lines = targets.table({"device": f"NVIDIA {card} (cuda:0)", "rows": rows}).splitlines()[2:]
        cells[card] = [[cell.strip() for cell in line.split("|")[3:5]] for line in lines]
    assert cells["H200"] == [
        ["1.07: target missed by 7%", "not measured"],
        ["7.19: target missed by 28%", "not measured"],
        ["not measured", "not measured"],
        ["5.9: met", "not measured"],
        ["9.21: target missed by a factor of 4.6", "not measured"],
        ["450: target missed by 10%", "–"],
        ["–", "not measured"],
        ["not measured: it failed", "not measured"],
    ]
    assert targets.Target("train", "tflops", "", at_least=500.0).verdict(498.4) == "498: target missed by 0.3%"
    assert cells["H100"][6] == ["–", "450: met"] and cells["H100"][5] == ["not measured", "–"]
    assert {cell for row in cells["A100"] for cell in row} == {"not measured", "–"}


def test_rates_of_collecting_and_training_are_of_what_was_done_after_the_first_steps(tmp_path):
    workspace, llm, _, documents = make_store(tmp_path, train=60, held_out=20, activations=100)
    split = {"train": documents[:60], "validation": documents[60:]}
    facts = {"folder": workspace.folder, "layer": 2, "torch_dtype": torch.float32}
    on = SimpleNamespace(**facts, load_llm=lambda: llm, documents=split.get)
    bench = SimpleNamespace(workspace=on, device=torch.device("cpu"), wait=lambda: None)
    start = time.perf_counter()
    row = at_scale.train_row(bench, batch=128, steps=12, resident=500)
    assert row["activations_per_second"] > 128 * 8 / (time.perf_counter() - start)
    assert row["parameters"] == sum(weight.numel() for weight in workspace.load_glp().network.parameters())
    start = time.perf_counter()
    row = at_scale.collect_row(bench, n=800)
    assert row["activations"] == 760 and row["tokens_per_second"] > 760 / (time.perf_counter() - start)
