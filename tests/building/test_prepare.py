"""What a build finds out before it works: which layer, which sizes, and what is missing, each in one sentence before a file is written."""

import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from glp_core.__main__ import main
from glp_core.building import costs
from glp_core.building.prepare import prepare
from glp_core.building.sizes import sizes_of
from glp_core.building.stages import stages
from glp_core.building.subject import Asked, Subject
from glp_core.cli.commands import parse
from glp_core.cli.data.collect import llm_source
from glp_core.cli.training.train import config_of
from glp_core.errors import GlpError
from glp_core.files import write_json
from glp_core.llm.model import Llm
from glp_core.llm.sources import LlmSource
from glp_core.prior.checkpoint import save_glp
from glp_core.workspace import Workspace
from tests.support.reference import write_released_folder
from tests.support.tiny import LAYERS, WIDTH, keep_llm, tiny_glp

MIDDLE = (LAYERS - 1) // 2


@pytest.fixture(scope="module")
def llms(tmp_path_factory):
    """Two folders with an LLM each."""
    home = tmp_path_factory.mktemp("llms")
    for kind in ("gpt2", "llama"):
        keep_llm(home / kind, kind)
    return home


@pytest.fixture
def home(tmp_path, llms, monkeypatch, capsys):
    """A place where builds run: `build(*words)` returns the exit status and what was said."""
    monkeypatch.setenv("GLP_EXPLORER_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def build(*words):
        status = main(["build", "--workspace", "my", "--device", "cpu", *map(str, words)])
        return status, capsys.readouterr().err

    return SimpleNamespace(build=build, folder=tmp_path, llm=llms / "gpt2", other=llms / "llama")


def files(home):
    return sorted(path.name for path in home.folder.rglob("*"))


def single_layer(home, layer, width=WIDTH):
    save_glp(tiny_glp(width), home.folder / "glp", about={"llm": "another", "layer": layer})
    return home.folder / "glp"


def serving(home, layers, depth=LAYERS):
    """Write a released folder of a GLP for several layers, and return it."""
    return write_released_folder(home.folder / "several", d_input=WIDTH, multi=depth, layers=layers, statistics="layered")


REFUSED = {
    "width": (
        lambda home: ["--llm", home.llm, "--glp", single_layer(home, 2, WIDTH + 4)],
        f"of activations of width {WIDTH + 4}",
    ),
    "layer": (lambda home: ["--llm", home.llm, "--layer", 3, "--glp", single_layer(home, 2)], "serves layer 2, not 3"),
    "several": (lambda home: ["--llm", home.llm, "--layer", 1, "--glp", serving(home, (0, 3))], "serves layer 0, 3, not 1"),
    "no such layer": (lambda home: ["--llm", home.llm, "--layer", 99], "Layer 99 does not exist"),
    "glp": (lambda home: ["--llm", home.llm, "--glp", home.folder], "config.json"),
    "llm": (lambda home: ["--llm", home.folder / "nothing"], "is no folder here"),
    "texts": (lambda home: ["--llm", home.llm, "--texts", home.folder / "nothing.jsonl"], "nothing.jsonl"),
    "field": (lambda home: ["--llm", home.llm, "--text-field", "words"], "give both"),
    "missing": (lambda home: [], "Say which model it is to be about with --llm"),
    "stage": (lambda home: ["--llm", home.llm, "--only", "cake"], "no stage 'cake'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_in_a_sentence_before_any_file_is_written(home, name):
    make, words = REFUSED[name]
    line = make(home)
    before = files(home)
    status, said = home.build(*line)
    last = said.rstrip("\n").split("\n")[-1]
    assert status == 1 and words in last and "Traceback" not in said
    assert files(home) == before


def test_workspace_and_activations_each_need_the_room_of_their_own_disk(home, monkeypatch):
    usage = namedtuple("usage", "total used free")
    cache = home.folder / "cache"
    cache.mkdir()
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(10**12, 0, 1_400_000_000 if place == cache else 700_000_000))
    shares = {"collect": 800_000_000, "index": 100_000_000}
    number = Path.stat
    apart = SimpleNamespace(st_dev=-1)
    with monkeypatch.context() as two:
        two.setattr(Path, "stat", lambda path, **more: apart if path == cache else number(path, **more))
        costs.check_disk(shares, home.folder)
        with pytest.raises(GlpError, match=r"0\.9 GB are needed in .*cache"):
            costs.check_disk({"collect": 900_000_001, "index": 1}, home.folder)
    with pytest.raises(GlpError, match=r"1\.0 GB are needed in .*cache"):
        costs.check_disk({"collect": 800_000_000, "index": 199_000_000}, home.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _place: usage(10**12, 0, 1))
    costs.check_disk({}, home.folder)  # with nothing to write, a full disk is no obstacle


def test_a_full_disk_is_told_with_what_is_needed_before_any_file_is_written(home, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12, 10**6))
    status, said = home.build("--llm", home.llm)
    assert status == 1 and "are needed in my" in said and "Free some space" in said
    assert files(home) == []


def test_a_plan_writes_nothing_and_names_every_stage(home):
    status, said = home.build("--llm", home.llm, "--plan")
    assert status == 0 and f"gpt2, layer {MIDDLE}; quick, on cpu" in said
    assert all(f"{number}  {name}" in said for number, name in [(1, "collect"), (2, "prior"), (16, "scaling")])
    assert files(home) == []


@pytest.mark.parametrize(("layers", "chosen"), [((0, 3), 0), ((2, 3), 2), ((0, 1, 2, 3), MIDDLE)])
def test_without_layer_it_is_the_one_nearest_to_the_middle_that_the_prior_serves(home, layers, chosen):
    status, said = home.build("--llm", home.llm, "--glp", serving(home, layers), "--plan")
    assert status == 0 and f"layer {chosen};" in said


@pytest.fixture
def begun(home):
    """A workspace of the first LLM in `my`."""
    Workspace(home.folder / "my", "my", llm_source(str(home.llm)), 2, median_norm=5.0).save()
    return home


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (lambda home: ["--llm", home.other], "is about gpt2, not"),
        (lambda home: ["--layer", 1], "is about layer 2, not 1"),
        (lambda home: ["--texts", home.folder / "own.txt"], "reads the demo's corpus, not"),
        (lambda home: ["--glp", single_layer(home, 1)], "serves layer 1, not 2"),
    ],
    ids=["llm", "layer", "texts", "glp"],
)
def test_a_workspace_stays_about_its_model(begun, words, refused):
    (begun.folder / "own.txt").write_text("A text of my own.")
    line = words(begun)
    before = files(begun)
    status, said = begun.build(*line)
    assert status == 1 and refused in said and files(begun) == [".build.lock", *before]


@pytest.mark.parametrize(("collected", "context", "longest"), [(128, 256, None), (None, 256, "256"), (None, 8192, "512")])
def test_texts_are_as_long_as_the_llm_reads_and_a_store_goes_on_as_it_was(begun, collected, context, longest, monkeypatch):
    monkeypatch.setattr(Llm, "context_length", context)
    workspace = Workspace.open(begun.folder / "my")
    if collected:
        write_json(workspace.store_folder / "manifest.json", {"tokens_per_document": collected})
    [collect, *_] = prepare(workspace.folder, Asked(), "cpu", effort="full", only=["collect"]).todo
    [words] = collect.commands
    assert options(words).get("--tokens-per-document") == longest and options(words)["--chat"] == "0.25"


def test_a_store_of_texts_whose_positions_do_not_fit_is_not_gone_on_with(begun, monkeypatch):
    monkeypatch.setattr(Llm, "context_length", 10**6)
    workspace = Workspace.open(begun.folder / "my")
    write_json(workspace.store_folder / "manifest.json", {"tokens_per_document": 40_000})
    with pytest.raises(GlpError, match="texts of 40,000 tokens, wanted at most 32,767.*Delete it"):
        prepare(workspace.folder, Asked(), "cpu", only=["collect"])


def test_the_weights_of_a_given_prior_are_among_what_its_stage_is_made_with(begun):
    asked = Asked(glp=str(single_layer(begun, 2)))

    def settings():
        made = prepare(begun.folder / "my", asked, "cpu", only=["prior"]).todo[-1]
        return made.settings

    before = settings()
    save_glp(tiny_glp(seed=1), begun.folder / "glp", about={"llm": "another", "layer": 2})
    assert len(before) == 2 and before[0] == settings()[0] and before[1] != settings()[1]
    (begun.folder / "glp" / "final.safetensors").unlink()
    with pytest.raises(GlpError, match="has no final.safetensors"):
        settings()


def options(words):
    return dict(zip(words[1::2], words[2::2], strict=True))


@pytest.mark.parametrize("accelerator", [False, True])
def test_the_full_recipe_is_the_demos_as_the_commands_take_it(accelerator):
    subject = Subject(
        Workspace(Path("my"), "my", LlmSource("folder", "/llm"), 2, median_norm=1.0), "/llm", width=576, chat=True
    )
    sizes = sizes_of("full", accelerator=accelerator)
    made = {stage.name: stage.commands[0] for stage in stages(subject, sizes)}
    train = parse([*made["prior"]])[1]
    config = config_of(train, None)
    assert (config.sigma_groups, config.ema, config.decay, config.d_model, config.learning_rate) == (
        256,
        0.999,
        0.4,
        1152,
        2e-3,
    )
    assert config.rising == 300 and config.batch == (16_384 if accelerator else 2_048)
    without = stages(replace(subject, chat=False), sizes)[0]
    assert "--chat" not in without.commands[0]


def test_probing_without_an_autoencoder_stops_before_the_llm_loads(begun, monkeypatch, capsys):
    def load(*_):
        raise AssertionError("the LLM was loaded")

    monkeypatch.setattr(Workspace, "load_llm", load)
    assert main(["probe", "--workspace", "my", "--device", "cpu"]) == 1
    assert "glp_core sae" in capsys.readouterr().err
