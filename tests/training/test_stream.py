"""Training without a store: batches are the LLM's own activations, mixed well, and a killed run goes on to the same curve."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from glp_core import GlpError
from glp_core.data import conversations
from glp_core.llm.site import Site
from glp_core.training import stream
from glp_core.training.plan import TrainConfig
from glp_core.training.ranks import Ranks
from glp_core.training.stream import StreamConfig, StreamSupply
from glp_core.training.trainer import Trainer
from tests.data.test_store import TRAIN, VALIDATION
from tests.support.tiny import WIDTH, make_tiny_llm
from tests.training.test_trainer import SMALL, killed_at, rows

LAYER = 1


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(stream, "DOCUMENTS_PER_READ", {"cpu": 4})
    monkeypatch.setattr(stream, "CONVERSATIONS_PER_READ", {"cpu": 4})
    monkeypatch.setattr(conversations, "ANSWER_TOKENS", 6)


@pytest.fixture(scope="module")
def site():
    return Site(make_tiny_llm(), LAYER, median_norm=1e9)


def supply(site, buffer=640, **options):
    return StreamSupply(site, TRAIN, VALIDATION, StreamConfig(buffer, **options))


def everything(site):
    """Every activation of the training texts, by its document."""
    return [site.activations([site.llm.encode(document.text)])[0][1:] for document in TRAIN]


def taken(source, n, size=64, step=0, ranks=None):
    batches = source.batches(size, step, 0, ranks or Ranks())
    return [next(batches) for _ in range(n)]


def test_batches_are_activations_of_the_texts_each_once_an_epoch(site):
    known = torch.cat(everything(site))
    source = supply(site, buffer=640)
    n = (len(known) - 640) // 64
    every = torch.cat(taken(source, n))
    distance, nearest = torch.cdist(every.double(), known.double()).min(1)
    assert distance.max() < 1e-4
    counts = torch.bincount(nearest, minlength=len(known))
    same = (torch.cdist(known.double(), known.double()) < 1e-4).sum(1)  # the first words of texts are alike
    assert (counts <= same).all()


def test_a_batch_mixes_many_documents_and_a_later_one_too(site):
    documents = torch.tensor(np.repeat(np.arange(len(TRAIN)), [len(acts) for acts in everything(site)]))
    known = torch.cat(everything(site)).double()
    batches = taken(supply(site), 6)
    for batch in (batches[0], batches[1], batches[5]):
        from_documents = documents[torch.cdist(batch.double(), known).argmin(1)]
        assert len(from_documents.unique()) > 15
        assert torch.diff(from_documents).abs().float().mean() > 5


def test_the_texts_begin_anew_after_the_last_one(site):
    source = supply(site)
    taken(source, 3 * sum(map(len, everything(site))) // 64)
    assert source.text.epoch >= 2
    assert source.facts()["distinct_activations"] == sum(map(len, everything(site)))


def test_texts_that_end_between_two_reads_begin_anew(site):
    """60 documents are 15 reads of 4: nothing is left for the one after them."""
    source = supply(site)
    first = source.text.take(sum(map(len, everything(site))))
    assert (source.text.next, source.text.epoch) == (60, 0)
    assert torch.equal(source.text.take(50), first[:50]) and source.text.epoch == 1


def test_more_processes_than_texts_are_told(site):
    with pytest.raises(GlpError, match="too few texts for 61 processes"):
        StreamSupply(site, TRAIN, VALIDATION, StreamConfig(640), Ranks(60, 61)).statistics()


def test_the_buffer_is_full_before_the_first_batch_and_ten_batches_deep(site):
    source = supply(site)
    batches = source.batches(64, 0, 0, Ranks())
    assert next(batches).shape == (64, WIDTH) and len(source.buffer) == 640
    with pytest.raises(GlpError, match="at least 10 batches of 64"):
        next(supply(site, buffer=639).batches(64, 0, 0, Ranks()))


def test_statistics_are_of_the_first_buffer(site):
    source = supply(site)
    found = source.statistics()
    torch.testing.assert_close(found["mean"], source.buffer.mean(0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found["var"], source.buffer.var(0, unbiased=False), atol=1e-5, rtol=1e-4)


def test_a_share_of_each_batch_is_conversations(site):
    source = supply(site, chat=0.25)
    taken(source, 6)
    given = {name: reader.distinct - len(reader.rest) for name, reader in source._readers().items()}
    assert given == {"text": 480 + 6 * 48, "chat": 160 + 6 * 16}
    parts = source.held_out(100, torch.device("cpu")).parts
    assert len(parts["text"]) == 100 and set(parts) == {"text", "user", "answer", "template"}


@pytest.mark.parametrize(
    ("width", "tokens", "at_once"), [(576, 128, 4096), (576, 20, 4096), (4096, 128, 585), (576, 1280, 409), (8192, 32_768, 1)]
)
def test_of_wider_models_and_longer_texts_fewer_are_read_at_once(monkeypatch, width, tokens, at_once):
    monkeypatch.undo()
    llm = SimpleNamespace(d_model=width, dtype=torch.bfloat16, device=torch.device("meta"))
    config = StreamConfig(640, tokens_per_document=tokens)
    assert StreamSupply(Site(llm, LAYER, 1.0), TRAIN, VALIDATION, config).text.group == at_once


@pytest.mark.parametrize("group", [3, 7])
def test_how_many_texts_are_read_at_once_changes_no_batch(site, monkeypatch, group):
    expected = taken(supply(site), 30)
    monkeypatch.setattr(stream, "DOCUMENTS_PER_READ", {"cpu": group})
    for one, other in zip(taken(supply(site), 30), expected, strict=True):
        torch.testing.assert_close(one, other)


def test_processes_read_texts_of_their_own(site):
    def texts_of(rank):
        config, ranks = StreamConfig(320), Ranks(rank, 2)
        source = StreamSupply(site, TRAIN, VALIDATION, config, ranks)
        seen, rows = set(), source.text.rows
        source.text.rows = lambda documents, first: seen.update(one.text for one in documents) or rows(documents, first)
        batches = source.batches(64, 0, 0, ranks)
        while source.text.epoch == 0:
            assert next(batches).shape == (32, WIDTH)
        return seen

    one, other = texts_of(0), texts_of(1)
    assert one | other == {document.text for document in TRAIN} and not one & other


@pytest.mark.parametrize("chat", [0.0, 0.25])
def test_a_killed_run_goes_on_to_the_same_curve(site, tmp_path, chat):
    def made(folder):
        return Trainer(TrainConfig(**SMALL), supply(site, chat=chat), folder, dtype=torch.float32)

    whole = made(tmp_path / "whole").run()
    first = made(tmp_path / "parts")
    first.run(stop=lambda: first.step == 17)
    killed_at(23, made(tmp_path / "parts"))
    again = made(tmp_path / "parts")
    assert again.step == 17
    parts = again.run()
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters(), strict=True))
    assert [path.name for path in (tmp_path / "parts").glob("supply*")] == ["supply-0-step-40.safetensors"]
    with pytest.raises(GlpError, match="another configuration"):
        Trainer(TrainConfig(**SMALL), supply(site, buffer=700, chat=chat), tmp_path / "parts", dtype=torch.float32)


def test_a_run_is_of_one_model_among_those_of_a_title(site, tmp_path):
    def made(name, source):
        return Trainer(TrainConfig(**SMALL), supply(site, source=source), tmp_path / name, dtype=torch.float32)

    made("new", "folder one")
    made("new", "folder one")
    with pytest.raises(GlpError, match="another configuration"):
        made("new", "folder two")
    made("of an earlier version", "")
    made("of an earlier version", "folder one")


def test_a_run_whose_place_in_the_texts_is_lost_does_not_read_them_anew(site, tmp_path):
    def made():
        return Trainer(TrainConfig(**SMALL), supply(site), tmp_path, dtype=torch.float32)

    first = made()
    first.run(stop=lambda: first.step == 17)
    (tmp_path / "supply-0-step-17.safetensors").unlink()
    with pytest.raises(GlpError, match="lacks supply-0-step-17.safetensors.* If the file is lost, remove the folder"):
        made()


def test_it_learns_what_a_store_of_the_same_texts_teaches(site, tmp_path):
    made = Trainer(TrainConfig(**SMALL | {"activations": 64 * 200}), supply(site), tmp_path, dtype=torch.float32)
    made.run()
    losses = [float(row["validation_loss"]) for row in rows(tmp_path) if row["validation_loss"]]
    assert losses[-1] < 0.9 * losses[0]
