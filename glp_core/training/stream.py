"""Activations without a store: the LLM reads texts while the GLP trains, over a buffer from which batches are drawn at random.

A billion activations of an 8 B model would take 8 TB; a buffer takes a few GB of the device. Every batch's places in the buffer are
drawn with its step, and what was taken is replaced by what the LLM reads next, so that a run goes on exactly from its buffer and
its place in the texts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glp_core.data.conversations import conversations, template_lengths
from glp_core.data.corpus import Document, Documents
from glp_core.data.moments import Moments
from glp_core.data.readings import PARTS, TextRow, read, text_rows, without_massive
from glp_core.data.store import TOKENS_PER_DOCUMENT
from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.llm.batching import ACCELERATOR_WIDTH
from glp_core.llm.site import Site
from glp_core.training.held_out import HeldOut
from glp_core.training.ranks import Ranks

FEWEST_BATCHES = 10
"""That a buffer must hold: neighbours in a text are much alike, and with fewer they would often meet in one batch."""
DOCUMENTS_PER_READ = {"cpu": 64, "accelerator": 4096}
CONVERSATIONS_PER_READ = {"cpu": 64, "accelerator": 2048}
"""Both at ACCELERATOR_WIDTH, and documents of TOKENS_PER_DOCUMENT: with the width grow the activations and the answers' cache."""
HELD_OUT_CONVERSATIONS = 64


@dataclass(frozen=True)
class StreamConfig:
    """How activations are streamed."""

    buffer: int
    """Activations that batches are drawn from."""
    chat: float = 0.0
    """Share of each batch's replacement that comes from conversations."""
    tokens_per_document: int = TOKENS_PER_DOCUMENT
    """Of plain text, the first token included."""
    texts: str = ""
    """Where the texts come from; empty for the demo's corpus."""
    source: str = ""
    """What tells the LLM from others of its title (`LlmSource.identity`)."""

    def __post_init__(self) -> None:
        if not 0 <= self.chat < 1:
            raise GlpError(f"The share of chat is {self.chat:g}, wanted at least 0 and less than 1.")

    def check(self, size: int) -> None:
        """Raise GlpError when the buffer is too small for a process's batches of `size`."""
        if self.buffer < FEWEST_BATCHES * size:
            raise GlpError(
                f"The buffer holds {self.buffer:,} activations, wanted at least {FEWEST_BATCHES} batches of {size:,}."
            )


class _Reader:
    """Activations of a process's share of documents in order, again from the first one after the last."""

    def __init__(self, site: Site, documents: Documents, ranks: Ranks, group: int, rows: Callable[..., list[TextRow]]) -> None:
        self.site, self.documents, self.ranks, self.group, self.rows = site, documents, ranks, group, rows
        self.rest = torch.empty(0, site.llm.d_model, dtype=site.llm.dtype, device=site.llm.device)
        self.next, self.epoch, self.distinct = 0, 0, 0

    def take(self, n: int) -> Tensor:
        """Return the next `n` activations."""
        parts = [self.rest]
        while sum(map(len, parts)) < n:
            parts.append(self._read())
        every = torch.cat(parts) if len(parts) > 1 else self.rest
        self.rest = every[n:].clone()  # a view would keep all of it
        return every[:n]

    def _read(self) -> Tensor:
        documents = self._following()
        if not documents:
            self.next, self.epoch = 0, self.epoch + 1
            documents = self._following()
        if not documents:
            raise GlpError(f"There are too few texts for {self.ranks.size} processes: give more of them.")
        acts = read(self.site.llm, self.site.layer, self.rows(documents, self.next))
        content = without_massive(acts, self.site.median_norm)[0].acts
        self.next += len(documents)
        self.distinct += len(content) if self.epoch == 0 else 0
        return content

    def _following(self) -> Sequence[Document]:
        """Return the next documents of this process's share; none after the last one."""
        size = self.ranks.size
        return self.documents[self.next * size : (self.next + self.group) * size][self.ranks.rank :: size]

    def state(self) -> dict[str, Tensor]:
        return {"rest": self.rest, "place": torch.tensor([self.next, self.epoch, self.distinct])}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self.rest = tensors["rest"].to(self.rest)
        self.next, self.epoch, self.distinct = tensors["place"].tolist()


class StreamSupply:
    """Batches drawn from a buffer that the LLM keeps full; with several processes, each reads its own texts."""

    keeps_place = True
    resident: bool | None = None

    def __init__(
        self,
        site: Site,
        train: Documents,
        validation: Sequence[Document],
        config: StreamConfig,
        ranks: Ranks | None = None,
    ) -> None:
        """Take an LLM's layer and texts.

        Raises:
            GlpError: conversations are wanted of a model that has no chat template.
        """
        self.ranks = ranks = ranks or Ranks()
        self.site, self.validation, self.config = site, validation, config
        where = "cpu" if site.llm.device.type == "cpu" else "accelerator"
        wider = max(1, site.llm.d_model // ACCELERATOR_WIDTH)
        longer = max(1, config.tokens_per_document // TOKENS_PER_DOCUMENT)
        self.text = _Reader(site, train, ranks, max(1, DOCUMENTS_PER_READ[where] // (wider * longer)), self._text_rows)
        self.chat: _Reader | None = None
        if config.chat:
            template_lengths(site.llm)
            at_once = max(64, CONVERSATIONS_PER_READ[where] // wider)
            self.chat = _Reader(site, train, ranks, at_once, self._chat_rows)
        self.buffer = torch.empty(0)
        self._statistics: dict[str, Tensor] = {}

    @property
    def width(self) -> int:
        return self.site.llm.d_model

    @property
    def settings(self) -> Json:
        config = self.config
        settings: Json = {"buffer": config.buffer, "chat": config.chat, "tokens_per_document": config.tokens_per_document}
        settings |= {key: value for key, value in (("texts", config.texts), ("source", config.source)) if value}
        return settings | ({"processes": self.ranks.size} if self.ranks.size > 1 else {})

    @property
    def read_again(self) -> bool:
        """Whether the texts ended and were begun anew."""
        return any(reader.epoch for reader in self._readers().values())

    def facts(self) -> Json:
        facts: Json = {"llm": self.site.llm.title, "layer": self.site.layer, "median_norm": self.site.median_norm}
        read = {name: int(sum(self.ranks.each(reader.distinct))) for name, reader in self._readers().items()}
        facts |= {"distinct_activations": sum(read.values())}
        return facts | ({"chat_activations": read["chat"]} if self.chat else {})

    def statistics(self) -> dict[str, Tensor]:
        """Return the statistics of all processes' buffers as they were filled first."""
        if not self._statistics:
            self._fill()
            shift = self.buffer.mean(0, dtype=torch.float32)
            self.ranks.average([shift])
            moments = Moments(shift)
            moments.add(self.buffer)
            moments.add_up(self.ranks.add_up)
            self._statistics = moments.statistics()
        return self._statistics

    def held_out(self, n: int, device: torch.device) -> HeldOut:
        """Read held-out documents until there are `n` activations."""
        site, parts, documents = self.site, {}, iter(range(0, len(self.validation), 64))
        text: list[Tensor] = []
        while sum(map(len, text)) < n and (first := next(documents, None)) is not None:
            text.append(self._content(text_rows(site.llm, self.validation[first : first + 64], first, TOKENS_PER_DOCUMENT))[0])
        parts["text"] = torch.cat(text)[:n].to(device)
        if self.chat:
            acts, kinds = self._content(conversations(site.llm, self.validation[:HELD_OUT_CONVERSATIONS], 0))
            for place, part in enumerate(PARTS):
                if len(chosen := acts[(kinds == place).to(acts.device)]):
                    parts[part] = chosen.to(device)
        return HeldOut(parts)

    def batches(self, size: int, step: int, seed: int, ranks: Ranks) -> Iterator[Tensor]:
        """Yield random activations of the buffer, replaced by the next ones before each is given out."""
        size //= ranks.size
        self.config.check(size)
        self._fill()
        device = self.buffer.device
        while True:
            number = (seed * 1_000_000_007 + step) * ranks.size + ranks.rank
            generator = torch.Generator(device).manual_seed(number % 2**62)
            places = torch.randperm(len(self.buffer), generator=generator, device=device)[:size]
            batch = self.buffer[places]
            self.buffer[places] = self._take(size)
            step += 1
            yield batch

    def state(self) -> dict[str, Tensor]:
        tensors = {"buffer": self.buffer}
        for name, reader in self._readers().items():
            tensors |= {f"{name}.{key}": value for key, value in reader.state().items()}
        return tensors | {f"statistics.{key}": value for key, value in self._statistics.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self.buffer = tensors["buffer"].to(self.site.llm.device)
        for name, reader in self._readers().items():
            reader.restore({key: tensors[f"{name}.{key}"] for key in ("rest", "place")})
        prefix = "statistics."
        self._statistics = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}

    def settle(self, kept: bool | None, ranks: Ranks) -> None:
        pass

    def _fill(self) -> None:
        if not len(self.buffer):
            self.buffer = self._take(self.config.buffer).clone()

    def _take(self, n: int) -> Tensor:
        n_chat = round(self.config.chat * n)
        parts = [self.text.take(n - n_chat), *([self.chat.take(n_chat)] if self.chat else [])]
        return torch.cat(parts)

    def _readers(self) -> dict[str, _Reader]:
        return {"text": self.text} | ({"chat": self.chat} if self.chat else {})

    def _text_rows(self, documents: Sequence[Document], first: int) -> list[TextRow]:
        return text_rows(self.site.llm, documents, first, self.config.tokens_per_document)

    def _chat_rows(self, documents: Sequence[Document], first: int) -> list[TextRow]:
        return conversations(self.site.llm, documents, first)

    def _content(self, rows: Sequence[TextRow]) -> tuple[Tensor, Tensor]:
        """Return activations of rows and their parts, without massive and first tokens."""
        content = without_massive(read(self.site.llm, self.site.layer, rows), self.site.median_norm)[0]
        return content.acts, content.parts
