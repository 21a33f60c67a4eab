"""The decode loop's state in tensors: rows of text that grow by a token a step, each with its own edit, prompt and sampling.

Rows of one request begin together; those of others may join between steps, and rows leave when their texts have ended. A row's text does
not depend on the rows beside it. Knows token ids; knows nothing of who asked.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from glp_core.errors import GlpError
from glp_core.llm.decoding import Context, Sampling, check_prompt, choose, draw, filled, read_rows
from glp_core.llm.hooks import edit, layer_at
from glp_core.llm.site import Site
from glp_core.prior.distance import ManifoldMeter
from glp_core.steering.edit import BROKEN_PUSH, Arm, EditedRow, NoiseStreams, OneEdit, SteeringEdit, check_arms
from glp_core.steering.prompt_edit import PromptEdit

BROKEN_OUTPUT = "The model's output is not a number any more: steering that is too strong breaks it. Reduce the strength."


KEPT_PROMPT = 256
"""Tokens of a prompt up to which what was read of it is kept for the reading of the texts after it."""


class Row(NamedTuple):
    """One text to write."""

    prompt: Sequence[int]
    """Token ids, first_id included."""
    arm: Arm
    """What is done while it is written."""
    seed: int = 0
    """Of its choice of tokens and of its projection noise."""


def check(site: Site, rows: Sequence[Row], sampling: Sampling) -> None:
    """Raise GlpError for an empty or too long prompt, a bad strength or direction, a layer that is not there."""
    layer_at(site.llm.model, site.layer)
    check_arms([row.arm for row in rows], site.llm.d_model, site.layer)
    for row in rows:
        check_prompt(site.llm, row.prompt, sampling.max_tokens)
        row.arm.where.check(row.prompt)


@dataclass(frozen=True, eq=False)
class Line:
    """A row while it is written."""

    row: Row
    sampling: Sampling
    edited: EditedRow
    generator: torch.Generator
    """Chooses its tokens."""


class Loop:
    """Rows of text that grow by a token a step."""

    def __init__(
        self,
        site: Site,
        rows: Sequence[Row],
        sampling: Sampling,
        meter: ManifoldMeter | None = None,
        *,
        at_once: int | None = None,
    ) -> None:
        check(site, rows, sampling)
        self.site, noise = site, NoiseStreams()
        self.lines = [
            Line(
                row,
                sampling,
                EditedRow(row.arm, row.seed, noise, meter, len(row.prompt)),
                torch.Generator().manual_seed(row.seed),
            )
            for row in rows
        ]
        self._prompt_edit: PromptEdit | None = None
        with torch.inference_mode():
            self.context = self._read_prompts(sampling.max_tokens, at_once)
            last = [rows[place].prompt[-1] for place in _places(len(rows))]
            self.last = torch.tensor(last, device=site.llm.device)
            self._prepare()

    @torch.inference_mode()
    def read_on(self) -> None:
        """Read the next part of the prompts, while `context.reading`: of long ones `at_once` tokens."""
        with self._editing():
            self.context.read_on()

    def _editing(self) -> AbstractContextManager[None]:
        """Edit prompts while they are read, where they are edited."""
        return edit(self.site.llm.model, {self.site.layer: self._prompt_edit}) if self._prompt_edit else nullcontext()

    def _read_prompts(self, room: int, at_once: int | None) -> Context:
        """Read all but the last token of every prompt; those that are edited are not shared."""
        llm, places = self.site.llm, _places(len(self.lines))
        prompts = [list(self.lines[place].row.prompt) for place in places]
        keys = [place if self.lines[place].edited.edits_prompt else None for place in places]
        if not any(key is not None for key in keys):
            return Context(llm, prompts, room=room, at_once=at_once)
        read = [places[row] for row in read_rows(llm, prompts, keys)]
        self._prompt_edit = PromptEdit(self.site, [self.lines[place].edited for place in read])
        with self._editing():
            return Context(llm, prompts, keys, room=room, at_once=at_once)

    def unedited(self) -> Context | None:
        """Return a context of one row that has read the prompt, where all rows have the same and none edits it.

        None too where reading it again is as well: a long one takes memory, and an accelerator reads it in no time.
        """
        context, lines = self.context, self.lines
        if context.reading or not context.joins or context.columns > KEPT_PROMPT or self.last.device.type != "cpu":
            return None
        alike = all(tuple(line.row.prompt) == tuple(lines[0].row.prompt) for line in lines)
        return context.first_row() if alike and not any(line.edited.edits_prompt for line in lines) else None

    def join(self, other: "Loop") -> None:
        """Take over the lines of another loop of the same site, behind one's own; both must be able to (`Context.joins`)."""
        places = [*range(len(self.lines)), *(len(self.last) + i for i in range(len(other.lines)))]
        with torch.inference_mode():
            self.context.join(other.context)
            self.last = torch.cat([self.last, other.last])
        self.lines = [*self.lines, *other.lines]
        self._arrange(places)

    def keep(self, lines: Sequence[Line]) -> None:
        """Go on with these of its lines only; without a context that lets rows go, all are written on."""
        if self.context.joins:
            places = [place for place, line in enumerate(self.lines) if line in lines]
            self.lines = [self.lines[place] for place in places]
            self._arrange(places)

    @torch.inference_mode()
    def _arrange(self, places: Sequence[int]) -> None:
        """Let the context hold these of its rows, and spare ones."""
        whole = [places[i] for i in _places(len(places))]
        self.context.choose(whole)
        self.last = self.last[torch.tensor(whole, device=self.last.device)]
        self._prepare()

    def _prepare(self) -> None:
        self._edit = SteeringEdit(self.site, [line.edited for line in self.lines])
        temperatures = dict.fromkeys(line.sampling.temperature for line in self.lines if line.sampling.temperature)
        self._warm = {
            one: [place for place, line in enumerate(self.lines) if line.sampling.temperature == one] for one in temperatures
        }

    def advance(self) -> tuple[Tensor, OneEdit]:
        """Write one more token of every row; return the logits (rows, vocabulary) it was chosen from, and the edit made on the way.

        The tokens are in `last`; rows beyond `lines` are spare.

        Raises:
            GlpError: steering so strong that the model breaks.
        """
        logits, once = self.advance_all()
        for problem in self.problems(logits.logsumexp(-1), once).values():
            raise GlpError(problem)
        return logits, once

    @torch.inference_mode()
    def advance_all(self) -> tuple[Tensor, OneEdit]:
        """Do what `advance` does, and go on where a row breaks; `problems` says which did."""
        once = self._edit.start(self.context.lengths)
        with edit(self.site.llm.model, {self.site.layer: once}):
            logits = self.context.feed(self.last[:, None], keep=1)[:, -1].float()
        self.last = self._choose(logits)
        return logits, once

    @torch.inference_mode()
    def problems(self, totals: Tensor, once: OneEdit) -> dict[int, str]:
        """Return what is wrong with lines after a step, by their place; nothing for most. `totals`: logsumexp of their logits (rows,)."""
        pushes, outputs = once.edited.broken, ~torch.isfinite(totals)
        if not (pushes | outputs).any():
            return {}
        found = zip(range(len(self.lines)), pushes.tolist(), outputs.tolist(), strict=False)
        return {place: BROKEN_PUSH if push else BROKEN_OUTPUT for place, push, output in found if push or output}

    def _choose(self, logits: Tensor) -> Tensor:
        """Return every row's next token."""
        tokens = logits.argmax(-1)
        for places in self._warm.values():
            noise = torch.stack([draw(self.lines[place].generator, logits.shape[-1]) for place in places])
            where = torch.tensor(places, device=logits.device)
            tokens[where] = choose(logits[where], self.lines[places[0]].sampling, noise)
        return tokens


def _places(n: int) -> list[int]:
    """Return the places of n rows and of those that fill up their last block: copies of the first."""
    return [*range(n), *[0] * (filled(n) - n)]
