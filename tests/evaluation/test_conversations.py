"""How well a prior knows conversations, against medians taken by hand."""

import numpy as np
import pytest

from glp_core import GlpError
from glp_core.data.conversations import conversations
from glp_core.data.corpus import Document
from glp_core.data.readings import PARTS
from glp_core.evaluation.conversations import _medians, conversation_report
from glp_core.llm.site import Site
from tests.support.tiny import make_tiny_llm

DOCUMENTS = [
    Document(f"The cat number {i} sat on mat {i * i} and looked at rain over the film of the day.", "a") for i in range(40)
]


class Lengths:
    """A prior whose error is an activation's length."""

    def denoising_error(self, acts, sigma, noise):
        assert sigma == 0.3 and noise.shape == acts.shape
        return acts.norm(dim=-1)


@pytest.fixture(scope="module")
def llm():
    return make_tiny_llm()


def test_each_part_of_conversations_is_measured_in_multiples_of_the_same_documents_as_text(llm):
    report = conversation_report(Site(llm, 1, 1e6), Lengths(), DOCUMENTS)

    def lengths(rows):
        return [one[1:].float().norm(dim=1).numpy() for one in llm.activations(rows, 1)]

    text = np.concatenate(lengths([llm.encode(document.text, max_tokens=128) for document in DOCUMENTS]))
    assert report["text_error"] == pytest.approx(np.median(text), rel=1e-4)
    chats = [row for first in (0, 32) for row in conversations(llm, DOCUMENTS[first : first + 32], first)]
    found = np.concatenate(lengths([row.ids for row in chats]))
    parts = np.concatenate([row.parts[1:] for row in chats])
    for name, here in {"all": parts > 0, **{part: parts == i for i, part in enumerate(PARTS) if i}}.items():
        ratio = report["ratios"][name]
        assert ratio["value"] == pytest.approx(np.median(found[here]) / np.median(text), rel=1e-4)
        assert ratio["ci"][0] <= ratio["value"] <= ratio["ci"][1] and report["tokens"][name] == here.sum()


def test_medians_of_resamples_are_those_of_the_rows_written_out():
    rng = np.random.default_rng(0)
    values, owners = rng.random(41), np.arange(41) % 7
    counts = np.array([[1, 0, 2, 1, 3, 0, 0], [0, 7, 0, 0, 0, 0, 0]], dtype=float)
    _, drawn = _medians(values, owners, counts)
    for count, median in zip(counts, drawn, strict=True):
        written = np.sort(np.repeat(values, count[owners].astype(int)))
        assert median == written[(len(written) - 1) // 2]


def test_a_model_without_a_chat_template_is_refused_before_any_work(llm, monkeypatch):
    monkeypatch.setattr(llm.tokenizer, "chat_template", None)
    with pytest.raises(GlpError, match="no chat template"):
        conversation_report(Site(llm, 1, 1.0), Lengths(), DOCUMENTS)
