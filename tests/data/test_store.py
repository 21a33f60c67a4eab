"""Collecting activations: what is stored, its statistics, and that a kill or a full disk loses nothing."""

import errno
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch

from glp_core import GlpError
from glp_core.data import collecting, shards
from glp_core.data.collecting import collect
from glp_core.data.corpus import Document
from glp_core.data.moments import Moments
from glp_core.data.store import TOKENS_PER_DOCUMENT, ActivationStore
from glp_core.llm import batching
from glp_core.llm.site import is_massive
from glp_core.workspace import Workspace
from tests.support.tiny import WIDTH, make_tiny_llm, tiny_model

WORDS = [
    "The",
    "cat",
    "sat",
    "on",
    "the",
    "mat",
    "and",
    "looked",
    "at",
    "the",
    "rain",
    "but",
    "it",
    "may",
    "be",
    "useful",
    "she",
    "said",
]


def texts(n, seed):
    rng = np.random.default_rng(seed)
    return [Document(" ".join(rng.choice(WORDS, rng.integers(3, 30))), "made") for _ in range(n)]


TRAIN, VALIDATION = texts(60, 0), texts(12, 1)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(collecting, "DOCUMENTS_PER_SHARD", 8)


def gather(llm, folder, n=900, train=TRAIN, **options):
    return collect(llm, 1, train, VALIDATION, folder, n_activations=n, **options)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_row_is_the_models_activation_of_its_token(tiny_llm, tmp_path):
    store = gather(tiny_llm, tmp_path)
    assert store.n_activations == 900
    for number in range(2):
        rows = store.rows(number)
        for i in range(0, len(rows["acts"]), 37):
            ids = tiny_llm.encode(TRAIN[rows["documents"][i]].text, max_tokens=TOKENS_PER_DOCUMENT)
            position = int(rows["positions"][i])
            assert position > 0
            assert ids[position] == rows["tokens"][i]
            torch.testing.assert_close(rows["acts"][i], tiny_llm.activations([ids], 1)[0][position], atol=1e-5, rtol=1e-5)


def test_statistics_are_numpys(tiny_llm, tmp_path):
    store = gather(tiny_llm, tmp_path)
    everything = torch.cat([store.rows(i)["acts"] for i in range(len(store.shards))]).double().numpy()
    found = store.statistics()
    np.testing.assert_allclose(found["mean"], everything.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["var"], everything.var(0), rtol=1e-5)
    np.testing.assert_allclose(found["covariance"], np.cov(everything.T, bias=True), rtol=1e-4, atol=1e-5)


def test_statistics_keep_their_precision_far_from_zero():
    """A naive sum of squares in float32 would have no correct digit here."""
    acts = 10_000 + torch.randn(5000, 4, generator=torch.Generator().manual_seed(0)).float()
    found = Moments.of(acts.split(700)).statistics()
    np.testing.assert_allclose(found["var"], acts.double().var(0, unbiased=False), rtol=1e-4)
    np.testing.assert_allclose(found["mean"], acts.double().mean(0), rtol=1e-7)
    with pytest.raises(GlpError, match="no activations yet"):
        Moments.of([])


def test_massive_tokens_and_first_tokens_are_left_out_and_counted(tmp_path):
    model = tiny_model()
    llm = make_tiny_llm()
    llm.model = model.eval()
    sink = llm.encode(" cat")[1]
    with torch.no_grad():
        model.get_input_embeddings().weight[sink] *= 3000
    store = gather(llm, tmp_path, n=100_000)
    left_out = sum(shard["massive_left_out"] for shard in store.manifest["shards"])
    tokens = [token for document in TRAIN for token in llm.encode(document.text)[1:]]
    assert left_out == tokens.count(sink) > 0
    assert store.n_activations == len(tokens) - left_out
    for i in range(len(store.shards)):
        assert not is_massive(store.rows(i)["acts"], store.median_norm).any()
        assert (store.rows(i)["positions"] > 0).all()
        assert sink not in store.rows(i)["tokens"]


def test_the_median_norm_is_the_middle_one_of_all_but_first_tokens(tmp_path):
    """A word far from all others moves the mean norm and not the median."""
    llm = make_tiny_llm()
    with torch.no_grad():
        llm.model.get_input_embeddings().weight[llm.encode(" cat")[1]] *= 3000
    store = gather(llm, tmp_path, n=50)
    rows = [llm.encode(document.text, max_tokens=TOKENS_PER_DOCUMENT) for document in TRAIN]
    norms = torch.cat([acts[1:].norm(dim=1) for acts in llm.activations(rows, 1)]).numpy()
    assert store.median_norm == pytest.approx(float(np.percentile(norms, 50, method="lower")), rel=1e-5)
    assert norms.mean() > 2 * store.median_norm


def test_killed_at_any_moment_and_started_again_equals_an_uninterrupted_run(tiny_llm, tmp_path, monkeypatch):
    whole = gather(tiny_llm, tmp_path / "whole")
    write = collecting.write_tensors
    part, kills = tmp_path / "part", 0

    def dying(path, tensors, metadata=None):
        nonlocal kills
        if kills < 6 and kills % 2 == 0:  # before the shard is written
            kills += 1
            raise KeyboardInterrupt
        write(path, tensors, metadata)
        if kills < 6:  # after it is written, before the manifest knows
            kills += 1
            raise KeyboardInterrupt

    for module in (collecting, shards):
        monkeypatch.setattr(module, "write_tensors", dying)
    for _ in range(20):
        try:
            gather(tiny_llm, part)
            break
        except KeyboardInterrupt:
            continue
    assert kills == 6
    assert contents(part) == contents(whole.folder)


def test_more_can_be_collected_later(tiny_llm, tmp_path):
    few = gather(tiny_llm, tmp_path / "a", n=300)
    more = gather(tiny_llm, tmp_path / "a")
    assert few.n_activations < more.n_activations
    assert contents(tmp_path / "a") == contents(gather(tiny_llm, tmp_path / "b").folder)


def test_shards_of_a_large_model_on_the_cpu_hold_fewer_documents(tiny_llm, tmp_path, monkeypatch):
    whole = gather(tiny_llm, tmp_path / "whole")
    monkeypatch.setattr(batching, "SMALL_MODEL", tiny_llm.model.num_parameters() // 2)
    halves = gather(tiny_llm, tmp_path / "halves")
    assert {shard["documents"] for shard in halves.manifest["shards"][:-1]} == {4}
    every = [torch.cat([store.acts(i) for i in range(len(store.shards))]) for store in (whole, halves)]
    torch.testing.assert_close(*every)
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    sizes = [batching.texts_kept_together(256, device, 8_000_000_000) for device in (cpu, cuda)]
    assert sizes == [4, 256]


@pytest.mark.parametrize("what", ["shard", "statistics"])
def test_a_full_disk_leaves_nothing_half_written_and_the_same_call_goes_on(tiny_llm, tmp_path, monkeypatch, what):
    import safetensors.torch

    whole = contents(gather(tiny_llm, tmp_path / "whole").folder)
    save = safetensors.torch.save_file

    def full(tensors, path, metadata=None):
        if ("covariance" in tensors) == (what == "statistics") and len(list((tmp_path / "part").glob("train-*"))) >= 2:
            path.write_bytes(b"half a file")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(tensors, path, metadata=metadata)

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(GlpError, match="No space left on device.*free some space"):
        gather(tiny_llm, tmp_path / "part")
    assert set(contents(tmp_path / "part")) <= set(whole)
    assert not list((tmp_path / "part").glob(".*"))
    monkeypatch.setattr(safetensors.torch, "save_file", save)
    gather(tiny_llm, tmp_path / "part")
    assert contents(tmp_path / "part") == whole


def test_safetensors_own_report_of_a_failed_write_is_understood(tmp_path):
    """safetensors raises its own type of exception; a limit on file sizes makes the kernel refuse for real."""
    code = f"""
import resource, torch
from pathlib import Path
from glp_core import GlpError
from glp_core.files import write_tensors
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    write_tensors(Path({str(tmp_path / "x.safetensors")!r}), {{"a": torch.zeros(100_000)}})
except GlpError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "File too large" in done.stdout and "Nothing half-written" in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_store_of_another_model_or_layer_is_not_added_to(tiny_llm, tmp_path):
    gather(tiny_llm, tmp_path, n=100)
    with pytest.raises(GlpError, match="holds activations of.*'layer': 1.*wanted.*'layer': 2"):
        collect(tiny_llm, 2, TRAIN, VALIDATION, tmp_path, n_activations=100)


def test_a_layer_that_does_not_exist_is_said_before_anything_is_written(tiny_llm, tmp_path):
    with pytest.raises(GlpError, match="Layer 9 does not exist"):
        collect(tiny_llm, 9, TRAIN, VALIDATION, tmp_path / "new", n_activations=100)
    assert not (tmp_path / "new").exists()


def test_activations_that_are_not_numbers_are_refused(tmp_path):
    llm = make_tiny_llm()
    with torch.no_grad():
        llm.model.get_input_embeddings().weight[llm.encode(" sat")[1]] = float("nan")
    with pytest.raises(GlpError, match="NaN or infinite"):
        gather(llm, tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))


def test_of_a_corpus_that_ends_early_everything_is_kept(tiny_llm, tmp_path):
    store = gather(tiny_llm, tmp_path, n=1_000_000)
    assert store.n_activations == sum(len(tiny_llm.encode(document.text)) - 1 for document in TRAIN)
    assert store.n_documents == len(TRAIN)
    assert store.statistics()["mean"].shape == (WIDTH,)


@pytest.mark.parametrize("n", [1, 399, 400, 401])
def test_what_is_asked_for_is_stored_and_no_shard_is_large(tiny_llm, tmp_path, n):
    store = gather(tiny_llm, tmp_path, n=n)
    assert store.n_activations == n == sum(len(store.acts(i)) for i in range(len(store.shards)))
    assert all(shard["documents"] <= 8 for shard in store.manifest["shards"])


def test_progress_rises_to_what_was_asked(tiny_llm, tmp_path):
    seen = []
    gather(tiny_llm, tmp_path, progress=lambda done, total, words: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (900, 900)


# reading back


@pytest.fixture
def store(tiny_llm, tmp_path):
    return gather(tiny_llm, tmp_path)


def test_an_epoch_gives_each_activation_at_most_once_in_an_order_of_its_own(store):
    first = torch.cat(list(store.batches(64, epoch=0, window=3)))
    again = torch.cat(list(store.batches(64, epoch=0, window=3)))
    other = torch.cat(list(store.batches(64, epoch=1, window=3)))
    assert torch.equal(first, again)
    assert not torch.equal(first[: len(other)], other[: len(first)])
    stored = torch.cat([store.rows(i)["acts"] for i in range(len(store.shards))])
    assert len(first) > len(stored) - 64 * (len(store.shards) // 3 + 1)
    # rows compare by bytes: every batch row is a stored row, and none comes more often than it is stored
    assert not Counter(row.numpy().tobytes() for row in first) - Counter(row.numpy().tobytes() for row in stored)


@pytest.mark.parametrize("skip", [0, 1, 5, 9])
def test_skipped_batches_are_only_left_out(store, skip):
    whole = list(store.batches(32, epoch=2, window=2))
    rest = list(store.batches(32, epoch=2, window=2, skip=skip))
    assert len(rest) == len(whole) - skip
    assert all(torch.equal(a, b) for a, b in zip(whole[skip:], rest, strict=True))


@pytest.mark.parametrize("window", [1, 2, 99])
def test_batches_are_counted_without_reading_them(store, window):
    for epoch in range(4):
        assert store.n_batches(40, epoch=epoch, window=window) == sum(1 for _ in store.batches(40, epoch=epoch, window=window))


def test_a_window_never_holds_more_than_was_allowed(store):
    counts = sorted((shard["activations"] for shard in store.manifest["shards"]), reverse=True)
    for most in (counts[0], 2 * counts[0], sum(counts)):
        window = store.shards_within(most)
        assert window >= 1 and sum(counts[:window]) <= most
    assert store.shards_within(1) == 1


def test_held_out_activations_are_spread_over_all_held_out_documents(store):
    everything = store.validation()
    some = store.validation(10)
    assert some.shape == (10, WIDTH)
    assert torch.equal(some[0], everything[0]) and torch.equal(some[-1], everything[-1])


def test_a_folder_without_activations_says_how_to_make_them(tmp_path):
    with pytest.raises(GlpError, match="python -m glp_core collect"):
        ActivationStore(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(GlpError, match="not readable JSON"):
        ActivationStore(tmp_path)


def test_the_truncated_forward_gives_the_whole_models_activations_on_the_demo(demo_llm, demo):
    assert isinstance(demo, Workspace)
    ids = demo_llm.encode("The weather in Paris is lovely in the spring.")
    with torch.no_grad():
        states = demo_llm.model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
    assert torch.equal(demo_llm.activations([ids], demo.layer)[0], states[demo.layer + 1][0])
