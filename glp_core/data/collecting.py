"""Collect an LLM layer's activations over a corpus, and over conversations made of it, into a store; a killed call goes on.

What is asked for is what is stored; fewer where the corpus ends early.
"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

from glp_core.data.conversations import conversations, template_lengths
from glp_core.data.corpus import Document, Documents
from glp_core.data.moments import Moments
from glp_core.data.readings import TextRow, read, text_rows
from glp_core.data.shards import DocumentKind, ShardWriter
from glp_core.data.store import TOKENS_PER_DOCUMENT, ActivationStore
from glp_core.errors import GlpError
from glp_core.files import Json, write_json, write_tensors
from glp_core.llm.batching import ACCELERATOR_WIDTH, texts_kept_together
from glp_core.llm.model import Llm
from glp_core.llm.site import MASSIVE
from glp_core.progress import Progress, quiet

DOCUMENTS_PER_SHARD = 256
"""Documents of plain text, fewer of a large model on the CPU; a whole number of shards is a block of the index."""
CONVERSATIONS_PER_SHARD = 128
SHARDS_PER_GROUP = {"text": 64, "chat": 32}
"""Shards whose documents are read together on an accelerator, where large batches of rows of like length are fastest; wider models
than ACCELERATOR_WIDTH take fewer."""
MEDIAN_OF = 256
"""Documents that the median norm is taken from."""
HELD_OUT_CONVERSATIONS = 256
ALL = range(sys.maxsize)
"""Documents: as many as there are."""


def documents_per_group(llm: Llm, shard: int | None = None, kind: str = "text") -> int:
    """Return how many documents are read together, given how many a shard has."""
    shard = shard or _per_shard(llm, DOCUMENTS_PER_SHARD)
    if llm.device.type == "cpu":
        return shard
    return shard * max(1, SHARDS_PER_GROUP[kind] * ACCELERATOR_WIDTH // max(ACCELERATOR_WIDTH, llm.d_model))


def _per_shard(llm: Llm, documents: int) -> int:
    return texts_kept_together(documents, llm.device, llm.model.num_parameters())


def bytes_stored(llm: Llm, n_activations: int) -> int:
    """Return what so many activations of a layer take on the disk, each with its token, document and position."""
    return n_activations * (llm.d_model * llm.dtype.itemsize + 4 + 4 + 2)


def collect(
    llm: Llm,
    layer: int,
    train: Documents,
    validation: Sequence[Document],
    folder: Path,
    *,
    n_activations: int,
    chat: float = 0.0,
    tokens_per_document: int = TOKENS_PER_DOCUMENT,
    span: range | None = None,
    texts: str = "",
    texts_state: str = "",
    source: str = "",
    progress: Progress = quiet,
) -> ActivationStore:
    """Write the activations of `layer` over documents until `n_activations` are stored; go on where an earlier call stopped.

    Fewer are stored where the corpus ends early: the store's n_activations says how many.

    Args:
        chat: share of the activations that come from conversations.
        tokens_per_document: of plain text, the first token included; held-out documents always have TOKENS_PER_DOCUMENT.
        span: the training documents to read, all of them, whatever `n_activations` says: a part to be joined with others.
        texts: where the documents come from, other than the demo's corpus: a store holds activations of texts from one place.
        texts_state: what their files are (`OwnTexts.state`), for `ActivationStore.check_texts`.
        source: where the model comes from; titles of models may be equal.
    Raises:
        GlpError: the folder holds other activations, the model has no chat template, or the disk is full.
    """
    if not 0 <= chat < 1:
        raise GlpError(f"The share of chat is {chat:g}, wanted at least 0 and less than 1.")
    if chat:
        if span is not None:
            raise GlpError("Conversations are not collected in parts. Leave --part or --chat out.")
        template_lengths(llm)  # refuses a model without a template before any work
    manifest = _open_manifest(llm, layer, folder, train, tokens_per_document, span, texts, source)
    if texts_state and not manifest["shards"]:
        manifest["texts_state"] = texts_state
    collector = _Collector(ShardWriter(llm, layer, folder, manifest), tokens_per_document, progress)
    if span is None or span.start == 0:
        collector.hold_out(validation, chat=chat > 0, of=n_activations if span is None else len(span))
    if span is None:
        collector.collect(train, n_activations, chat)
    else:
        collector.collect_span(train, span)
    store = ActivationStore(folder)
    if store.manifest.get("statistics_of") != store.n_activations:
        parts = (store.acts(number).to(llm.device) for number in range(len(store.shards)))
        write_tensors(folder / "statistics.safetensors", Moments.of(parts).statistics())
        write_json(folder / "manifest.json", store.manifest | {"statistics_of": store.n_activations})
    return ActivationStore(folder)


class _Collector:
    """How texts and conversations are collected with a writer of shards."""

    def __init__(self, writer: ShardWriter, tokens_per_document: int, progress: Progress) -> None:
        self.writer, self.tokens, self.progress = writer, tokens_per_document, progress
        self.llm = writer.llm

    def collect(self, train: Documents, n_activations: int, chat: float) -> None:
        """Collect text, then conversations, until `n_activations` are stored."""
        n_chat = round(chat * n_activations)
        there = sum(shard["activations"] for shard in self.writer.manifest["shards"])
        if n_chat and there > n_activations - n_chat:
            raise GlpError(
                f"{self.writer.folder} holds {there:,} activations of text already, more than the {n_activations - n_chat:,} that a share "
                f"of {chat:g} of conversations leaves of {n_activations:,}. Ask for at least {math.ceil(there / (1 - chat)):,}, or choose "
                "another folder."
            )
        n_text = self.writer.fill(
            self._text("shards", "train", train, self.tokens),
            n_activations - n_chat,
            lambda stored, first: self.progress(stored, n_activations, f"{first:,} documents"),
        )
        if n_chat:
            self.writer.fill(
                self._chat("chat", "chat", train),
                n_chat,
                lambda stored, first: self.progress(n_text + stored, n_activations, f"{first:,} conversations"),
            )

    def collect_span(self, train: Documents, span: range) -> None:
        """Collect the text of all documents of a span."""
        self.writer.fill(
            self._text("shards", "train", train, self.tokens, span),
            sys.maxsize,
            lambda stored, first: self.progress(first - span.start, len(span), f"documents, {stored:,} activations"),
        )

    def hold_out(self, documents: Sequence[Document], *, chat: bool, of: int) -> None:
        """Collect the held-out activations that are not there yet; `of`: what there is to do afterwards."""

        def report(words: str, n: int) -> None:
            self.progress(0, of, f"{n:,} {words}")

        text = self._text("held_out", "held-out", documents, TOKENS_PER_DOCUMENT)
        self.writer.hold_out("validation", text, lambda _, first: report("held-out documents", first))
        if chat:
            asked = self._chat("held_out_chat", "held-chat", documents[:HELD_OUT_CONVERSATIONS])
            self.writer.hold_out("chat_validation", asked, lambda _, first: report("held-out conversations", first))

    def _text(self, listed: str, prefix: str, documents: Documents, tokens: int, span: range | None = None) -> DocumentKind:
        def rows(part: Sequence[Document], first: int) -> list[TextRow]:
            return text_rows(self.llm, part, first, tokens)

        shard, span = _per_shard(self.llm, DOCUMENTS_PER_SHARD), span or ALL
        group = self._group(shard, "text")
        return DocumentKind(listed, prefix, documents, span, shard, group, rows, parts=False, ahead=self._ahead)

    def _chat(self, listed: str, prefix: str, documents: Documents) -> DocumentKind:
        def rows(part: Sequence[Document], first: int) -> list[TextRow]:
            return conversations(self.llm, part, first)

        shard = _per_shard(self.llm, CONVERSATIONS_PER_SHARD)
        group = self._group(shard, "chat")
        return DocumentKind(listed, prefix, documents, ALL, shard, group, rows, parts=True, ahead=False)

    @property
    def _ahead(self) -> bool:
        return self.llm.device.type != "cpu"

    def _group(self, shard: int, kind: str) -> int:
        return documents_per_group(self.llm, shard, kind)


def _open_manifest(
    llm: Llm,
    layer: int,
    folder: Path,
    documents: Documents,
    tokens_per_document: int,
    span: range | None,
    texts: str,
    source: str,
) -> Json:
    """Read the manifest of a call that goes on, or begin one."""
    path = folder / "manifest.json"
    made_by = {
        "llm": llm.title,
        "layer": layer,
        "dtype": str(llm.dtype).removeprefix("torch."),
        "d_input": llm.d_model,
    }
    made_by |= {"tokens_per_document": tokens_per_document}
    made_by |= {"span": [span.start, span.stop]} if span else {}
    made_by |= {"texts": texts} if texts else {}
    made_by |= {"source": source} if source else {}
    if path.is_file():
        manifest = ActivationStore(folder).manifest
        manifest.setdefault("tokens_per_document", TOKENS_PER_DOCUMENT)
        if "source" not in manifest:  # of an earlier version
            made_by.pop("source", None)
        got = {key: manifest[key] for key in (*made_by, "texts") if key in manifest}
        if got != made_by:
            other = [name for name in made_by if got.get(name) != made_by[name]] + [name for name in got if name not in made_by]
            own, wanted = ({name: of.get(name) for name in other} for of in (got, made_by))
            raise GlpError(
                f"{folder} holds activations of {own}, wanted {wanted}. Ask for the same"
                + (" --activations as the other parts" if "span" in other else "")
                + ", or choose another folder."
            )
        return manifest
    norms = read(llm, layer, text_rows(llm, documents[:MEDIAN_OF], 0, TOKENS_PER_DOCUMENT)).acts.float().norm(dim=-1)
    manifest = made_by | {"median_norm": norms.median().item(), "massive_over_median": MASSIVE, "shards": []}
    write_json(path, manifest)
    return manifest
