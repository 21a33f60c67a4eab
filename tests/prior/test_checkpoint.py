"""GLP folders load unchanged, round-trip, and every kind of damage is refused with a clear message and without running code."""

import json
import os
import pickle
import struct
import zipfile

import httpx2
import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from glp_core import GlpError, load_glp, save_glp
from glp_core.memory import gigabytes
from glp_core.prior.checkpoint import read_statistics, save_fitted_steps
from glp_core.prior.facts import GlpFacts, bytes_needed
from glp_core.prior.flow import TwoCalls
from tests.support.reference import ReferenceGlp, write_released_folder


@pytest.fixture
def folder(tmp_path):
    return write_released_folder(tmp_path / "glp")


def same(one, other):
    z = torch.randn(5, one.d_input, generator=torch.Generator().manual_seed(0))
    return torch.equal(one.velocity(z, 0.5), other.velocity(z, 0.5))


def test_a_checkpoint_in_a_subfolder(tmp_path):
    folder = write_released_folder(tmp_path, checkpoint="checkpoints/epoch_32")
    z = torch.randn(5, 24)
    got = load_glp(folder, checkpoint="checkpoints/epoch_32").velocity(z, 0.4)
    torch.testing.assert_close(got, ReferenceGlp.read(folder, "checkpoints/epoch_32").velocity(z, 0.4))
    with pytest.raises(GlpError, match="checkpoints/epoch_32"):
        load_glp(folder)


@pytest.mark.parametrize("prefix", ["model.", "denoiser.model.", ""])
def test_prefixes_of_parameter_names(tmp_path, prefix):
    folder = write_released_folder(tmp_path, prefix=prefix)
    assert load_glp(str(folder)).n_layers == 3


def test_references_inside_the_yaml_are_followed_and_nothing_else_is_evaluated(folder):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    shape = config["glp_kwargs"]["denoiser_config"]
    config["d_input"] = shape["d_input"]
    config["size"] = {"model": shape["d_model"]}
    shape["d_input"], shape["d_model"] = "${d_input}", "${size.model}"
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert (load_glp(folder).d_input, load_glp(folder).config.d_model) == (24, 48)
    shape["d_model"] = "${oc.env:HOME}"
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(GlpError, match="d_model"):
        load_glp(folder)
    (folder / "config.yaml").write_text("a: !!python/object/apply:os.system ['true']")
    with pytest.raises(GlpError, match="denoiser_config"):
        load_glp(folder)


def test_stored_dtypes_and_asked_dtypes(folder):
    path = folder / "final.safetensors"
    weights = load_file(path)
    save_file({name: t.bfloat16() for name, t in weights.items()}, path)
    assert load_glp(folder).dtype == torch.float32
    assert load_glp(folder, dtype=torch.bfloat16).dtype == torch.bfloat16
    rounded = load_glp(folder)
    torch.testing.assert_close(rounded.network.in_proj.weight, weights["model.in_proj.weight"].bfloat16().float())


@pytest.mark.parametrize(("dtype", "halves"), [(torch.float32, False), (torch.float32, True), (torch.bfloat16, False)])
def test_the_memory_told_before_it_is_loaded_is_what_the_weights_and_their_copies_take(folder, dtype, halves):
    path, told = folder / "final.safetensors", []
    glp = load_glp(folder, dtype=dtype, halves=halves, tell=told.append)
    needed = bytes_needed(path, dtype.itemsize, on_cpu=True, halves=halves)
    assert [words.split(";")[0] for words in told] == [f"The GLP takes {gigabytes(needed)} of memory"]
    plain = sum(one.numel() * one.itemsize for one in glp.network.parameters())
    assert bytes_needed(path, dtype.itemsize, on_cpu=False, halves=halves) == plain
    kernels = {"packed": dtype.itemsize, "eight_bits": 1 if dtype == torch.bfloat16 else 0, "halves": 2 if halves else 0}
    copies = sum(size for name, size in kernels.items() if size and getattr(glp._fast.enter, name) is not None)
    taken = plain + copies * sum(linear.weight.numel() for linear in glp._fast.linears)
    assert plain <= taken <= needed and (taken == needed or copies < sum(kernels.values())), (
        "less only where a kernel is missing"
    )
    assert bytes_needed(folder / "none.safetensors", 4, on_cpu=True) == 0


@pytest.mark.parametrize("multi", [None, 6])
def test_save_and_load_give_the_same_glp(tmp_path, multi):
    made = load_glp(write_released_folder(tmp_path / "a", multi=multi, statistics="layered" if multi else "flat"))
    covariance = torch.eye(24)
    save_glp(made, tmp_path / "b", checkpoint="checkpoints/one", about={"llm": "tiny", "layer": 7}, covariance=covariance)
    back = load_glp(tmp_path / "b", checkpoint="checkpoints/one")
    acts, noise = torch.randn(4, 24), torch.randn(4, 24)
    layer = 5 if multi else None
    assert torch.equal(back.project(acts, noise=noise, layer=layer), made.project(acts, noise=noise, layer=layer))
    assert torch.equal(back.normalize(acts, layer), made.normalize(acts, layer))
    assert json.loads((tmp_path / "b/config.json").read_text())["about"]["layer"] == 7
    assert not list((tmp_path / "b").rglob("*.pt"))


def test_bfloat16_weights_round_trip_exactly(tmp_path):
    made = load_glp(write_released_folder(tmp_path / "a"), dtype=torch.bfloat16)
    save_glp(made, tmp_path / "b", about={})
    assert load_file(tmp_path / "b/final.safetensors")["in_proj.weight"].dtype == torch.bfloat16
    assert same(made, load_glp(tmp_path / "b", dtype=torch.bfloat16))


class Bomb:
    """Makes a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_posing_as_a_checkpoint_is_refused_and_not_run(folder, tmp_path, protocol):
    (folder / "final.safetensors").write_bytes(pickle.dumps(Bomb(tmp_path / "ran"), protocol=protocol))
    with pytest.raises(GlpError, match="final.safetensors"):
        load_glp(folder)
    torch.save({"model.in_proj.weight": torch.ones(3)}, folder / "final.safetensors")
    with pytest.raises(GlpError, match="pickle"):
        load_glp(folder)
    assert not (tmp_path / "ran").exists()


def test_code_in_the_statistics_is_refused_and_not_run(folder, tmp_path):
    torch.save({"mean": Bomb(tmp_path / "ran"), "var": torch.ones(24)}, folder / "rep_statistics.pt")
    with pytest.raises(GlpError, match="rep_statistics.pt"):
        load_glp(folder)
    (folder / "rep_statistics.pt").write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    with pytest.raises(GlpError, match="rep_statistics.pt"):
        load_glp(folder)
    assert not (tmp_path / "ran").exists()


def rewrite(path, change):
    """Apply `change` to a safetensors file's header and keep its data."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def name_of(header):
    return next(name for name in header if name != "__metadata__")


DAMAGE = {
    "empty file": (lambda p: p.write_bytes(b""), "final.safetensors"),
    "five bytes": (lambda p: p.write_bytes(b"hello"), "final.safetensors"),
    "text": (lambda p: p.write_text("<html>not found</html>" * 50), "header"),
    "a pointer of git lfs": (lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\n" * 3), "header"),
    "header of 1 GB": (lambda p: p.write_bytes(struct.pack("<Q", 1 << 30) + p.read_bytes()[8:]), "1,073,741,824"),
    "cut off": (lambda p: p.write_bytes(p.read_bytes()[:-100]), "cut off"),
    "cut off in the header": (lambda p: p.write_bytes(p.read_bytes()[:400]), "header"),
    "header is a list": (lambda p: p.write_bytes(struct.pack("<Q", 2) + b"[]"), "damaged"),
    "header entry is a number": (lambda p: rewrite(p, lambda h: h.update(x=3)), "damaged"),
    "deeply nested header": (lambda p: p.write_bytes(struct.pack("<Q", 200_000) + b"[" * 200_000), "damaged"),
    "an unknown name": (lambda p: rewrite(p, lambda h: h.update(extra=h[name_of(h)])), "unknown.*extra"),
    "a missing name": (lambda p: rewrite(p, lambda h: h.pop("model.in_proj.weight")), "missing.*in_proj.weight"),
    "a wrong shape": (lambda p: rewrite(p, lambda h: h["model.ln.weight"].update(shape=[24, 2])), "ln.weight has shape"),
    "a shape that is no list": (lambda p: rewrite(p, lambda h: h["model.ln.weight"].update(shape=48)), "damaged"),
    "no shape": (lambda p: rewrite(p, lambda h: h["model.ln.weight"].pop("shape")), "damaged"),
    "offsets that overlap": (
        lambda p: rewrite(p, lambda h: h["model.ln.weight"].update(data_offsets=[0, 192])),
        "cannot be read",
    ),
    "offsets as text": (lambda p: rewrite(p, lambda h: h["model.ln.weight"].update(data_offsets=["a", "b"])), "damaged"),
    "an unknown dtype": (lambda p: rewrite(p, lambda h: h["model.ln.weight"].update(dtype="Q7")), "Q7"),
    "integer weights": (lambda p: rewrite(p, lambda h: h["model.ln.weight"].update(dtype="I32")), "dtype"),
}


@pytest.mark.parametrize("kind", DAMAGE, ids=str)
def test_a_damaged_checkpoint_is_refused(folder, kind):
    damage, message = DAMAGE[kind]
    damage(folder / "final.safetensors")
    with pytest.raises(GlpError, match=message):
        load_glp(folder)


def test_weights_that_are_not_finite_are_refused(folder):
    path = folder / "final.safetensors"
    weights = load_file(path)
    weights["model.ln.weight"][3] = float("nan")
    save_file(weights, path)
    with pytest.raises(GlpError, match="ln.weight.*finite"):
        load_glp(folder)


@pytest.mark.parametrize("where", ["../other/final", "../../etc/passwd", "checkpoints/../../other/final"])
def test_a_checkpoint_outside_the_folder_is_refused(folder, where):
    write_released_folder(folder.parent / "other")
    with pytest.raises(GlpError, match="outside"):
        load_glp(folder, checkpoint=where)
    with pytest.raises(GlpError, match="outside"):
        load_glp(folder, checkpoint=str(folder.parent / "other/final"))


@pytest.mark.parametrize(
    ("statistics", "message"),
    [
        ({"mean": torch.zeros(24)}, "mean and var"),
        (torch.zeros(24), "mean and var"),
        ({"mean": torch.zeros(24), "var": [1.0] * 24}, "mean and var"),
        ({"mean": torch.zeros(24), "var": torch.zeros(24)}, "above 0"),
        ({"mean": torch.zeros(24), "var": torch.full((24,), float("nan"))}, "finite"),
        ({"mean": torch.zeros(20), "var": torch.ones(20)}, "20 dimensions"),
        ({"mean": torch.zeros(24), "var": torch.ones(20)}, "disagree"),
        ({"mean": torch.tensor(0.0), "var": torch.tensor(1.0)}, "dimensions"),
        ({"mean": torch.zeros(3, 24), "var": torch.ones(3, 24)}, "3 layers"),
    ],
)
def test_bad_statistics_are_refused(folder, statistics, message):
    torch.save(statistics, folder / "rep_statistics.pt")
    with pytest.raises(GlpError, match=message):
        load_glp(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("d_model", 0),
        ("d_mlp", "many"),
        ("n_layers", None),
        ("d_input", -3),
        ("multi_layer_n_layers", 1),
        ("n_layers", 3.5),
        ("n_layers", True),
        ("n_layers", 10**9),
    ],
)
def test_a_shape_that_cannot_be_is_refused(folder, field, value):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["glp_kwargs"]["denoiser_config"][field] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(GlpError, match=field):
        load_glp(folder)


def test_a_giant_shape_is_refused_before_anything_is_allocated(folder):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["glp_kwargs"]["denoiser_config"] |= {"d_model": 10_000_000, "d_mlp": 10_000_000}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(GlpError, match="has shape"):
        load_glp(folder)


@pytest.mark.parametrize(
    ("remove", "message"),
    [("config.yaml", "config.yaml"), ("rep_statistics.pt", "rep_statistics.pt"), ("final.safetensors", "final")],
)
def test_a_missing_file_is_named(folder, remove, message):
    (folder / remove).unlink()
    with pytest.raises(GlpError, match=message):
        load_glp(folder)


def test_a_missing_folder_is_named():
    with pytest.raises(GlpError, match="No folder"):
        load_glp("/nowhere/at/all")


def test_a_hub_id_without_network_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(GlpError, match="while online"):
        load_glp("generative-latent-prior/glp-llama1b-d3", revision="0" * 40)


def test_fitted_steps_are_stored_for_their_checkpoint_only(tmp_path):
    made = load_glp(write_released_folder(tmp_path / "a"))
    save_glp(made, tmp_path / "b", about={"layer": 3})
    save_glp(made, tmp_path / "b", checkpoint="checkpoints/early", about={"layer": 3})
    steps = (TwoCalls(0.25, share=0.6), TwoCalls(0.5, grow=0.05, weights=(0.2, 0.8)))
    save_fitted_steps(tmp_path / "b", steps)
    assert load_glp(tmp_path / "b").fitted_steps == steps
    assert load_glp(tmp_path / "b", "checkpoints/early").fitted_steps == ()
    assert json.loads((tmp_path / "b/config.json").read_text())["about"] == {"layer": 3}


@pytest.mark.parametrize(
    "steps", [[{"noise_level": 0.5, "share": "much"}], [{"colour": 1}], [{"noise_level": 0.5, "weights": [1]}], 3]
)
def test_damaged_fitted_steps_are_refused(tmp_path, steps):
    save_glp(load_glp(write_released_folder(tmp_path / "a")), tmp_path / "b", about={})
    config = json.loads((tmp_path / "b/config.json").read_text())
    (tmp_path / "b/config.json").write_text(json.dumps(config | {"fitted_steps": {"checkpoint": "final", "steps": steps}}))
    with pytest.raises(GlpError, match="glp_core solvers"):
        load_glp(tmp_path / "b")


# what others write


@pytest.mark.parametrize("prefix", ["module.", "module.denoiser.model.", "_orig_mod.model."])
def test_names_that_training_wrappers_put_first_are_taken_off(tmp_path, prefix):
    write_released_folder(tmp_path, prefix=prefix)
    z = torch.randn(3, 24)
    torch.testing.assert_close(
        load_glp(tmp_path).velocity(z, 0.4), load_glp(write_released_folder(tmp_path / "plain")).velocity(z, 0.4)
    )


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_statistics_of_numpy_arrays_are_tensors(folder, dtype):
    stored = torch.load(folder / "rep_statistics.pt")
    arrays = {f"module.normalizer.{name}": value.numpy().astype(dtype) for name, value in stored.items()}
    torch.save(arrays, folder / "rep_statistics.pt")
    statistics = read_statistics(folder)
    for name, value in stored.items():
        torch.testing.assert_close(statistics[name].float(), value.to(getattr(torch, dtype)).float())
    load_glp(folder)


def test_statistics_as_numpy_1_wrote_them_are_read(folder):
    stored = torch.load(folder / "rep_statistics.pt")
    torch.save({name: value.numpy() for name, value in stored.items()}, folder / "new.pt")
    with zipfile.ZipFile(folder / "new.pt") as new, zipfile.ZipFile(folder / "rep_statistics.pt", "w") as old:
        for name in new.namelist():
            old.writestr(name, new.read(name).replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert b"numpy._core" not in (folder / "rep_statistics.pt").read_bytes()
    torch.testing.assert_close(read_statistics(folder)["mean"], stored["mean"])


def test_statistics_of_objects_are_refused(folder):
    torch.save({"mean": np.array([{}], dtype=object), "var": np.ones(24)}, folder / "rep_statistics.pt")
    with pytest.raises(GlpError, match="mean and var|plain tensor file"):
        load_glp(folder)


def test_tagged_paths_in_the_yaml_are_plain_values(folder):
    text = (folder / "config.yaml").read_text()
    tagged = "output_path: !!python/object/apply:pathlib.PosixPath [runs, x]\nmodel_name: org/model\n"
    (folder / "config.yaml").write_text(tagged + text)
    load_glp(folder)
    facts = GlpFacts.read(folder)
    assert facts.llm == "org/model" and facts.layers == (7,) and (facts.d_input, facts.n_layers, facts.d_mlp) == (24, 3, 96)
    assert facts.parameters == sum(p.numel() for p in load_glp(folder).network.parameters())


def test_a_multi_layer_folders_facts(tmp_path):
    write_released_folder(tmp_path, multi=6, statistics="layered")
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert GlpFacts.read(tmp_path).depth == 6
    config["glp_kwargs"]["tracedict_config"] = {"layer_prefix": "model.layers", "layers": [1, 3], "retain": "output"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert GlpFacts.read(tmp_path).layers == (1, 3)
    config["glp_kwargs"].pop("tracedict_config")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert GlpFacts.read(tmp_path).layers == (0, 1, 2, 3, 4, 5)


def test_fitted_steps_of_a_released_folder_are_those_of_their_layer(tmp_path):
    write_released_folder(tmp_path, multi=6, statistics="layered")
    steps = (TwoCalls(0.5, share=0.6),)
    save_fitted_steps(tmp_path, steps, layer=2)
    glp = load_glp(tmp_path)
    assert (glp.fitted_steps, glp.at(2).fitted_steps, glp.at(3).fitted_steps) == ((), steps, ())
    acts, noise = torch.randn(2, 3, glp.d_input)
    by_layer = glp.project(acts, noise=noise, layer=2, solver="fitted")
    torch.testing.assert_close(by_layer, glp.at(2).project(acts, noise=noise, solver="fitted"))
    with pytest.raises(GlpError, match="No fitted solver"):
        glp.project(acts, noise=noise, layer=3, solver="fitted")
    assert GlpFacts.read(tmp_path).depth == 6


@pytest.mark.parametrize(("status", "hinted"), [(403, True), (404, False)])
def test_a_prior_that_is_gated_says_how_to_get_it(monkeypatch, status, hinted):
    def refuse(*_args, **_options):
        raise huggingface_hub.errors.HfHubHTTPError(
            "no", response=httpx2.Response(status, request=httpx2.Request("GET", "https://x"))
        )

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(GlpError, match="Could not fetch org/prior from the hub") as told:
        load_glp("org/prior")
    assert ("hf auth login" in str(told.value)) == hinted
