"""Conversations made of corpus texts: a text as the user's turn in the model's chat template, and the model's own answer to it.

Each conversation depends on its document alone: how much of the text is asked, the temperature and the draws come from its number.
Knows prompts and tokens; knows nothing of activations or files.
"""

from collections.abc import Sequence

import torch

from glp_core.data.corpus import Document
from glp_core.data.readings import PARTS, TextRow
from glp_core.llm.decoding import Context, Sampling, choose, draw
from glp_core.llm.model import Llm

TURN_TOKENS = (8, 96)
"""Fewest and most tokens of a text that a user's turn has."""
ANSWER_TOKENS = 64
"""Most tokens of an answer."""
TEMPERATURES = (0.3, 0.7, 1.0)
"""One of them for each document in turn."""
PREAMBLE_EVERY = 16
"""The tokens before a user's turn are the same in every conversation: they are kept of one document in this many."""
STEPS_BETWEEN_CHECKS = 8
"""Tokens written between looks at whether all answers have ended: a look waits for the device."""

USER, ANSWER, TEMPLATE = (PARTS.index(part) for part in ("user", "answer", "template"))


def conversations(llm: Llm, documents: Sequence[Document], first: int) -> list[TextRow]:
    """Return a conversation for each document, numbered from `first`: its ids and what each of them is part of.

    Raises:
        GlpError: the model has no chat template.
    """
    numbers = range(first, first + len(documents))
    prompts = _prompts(llm, documents, numbers)
    before, after = template_lengths(llm)
    temperatures = [TEMPERATURES[number % len(TEMPERATURES)] for number in numbers]
    rows = []
    for number, prompt, answer in zip(numbers, prompts, answers(llm, prompts, temperatures, list(numbers)), strict=True):
        preamble = TEMPLATE if number % PREAMBLE_EVERY == 0 else -1
        turn = len(prompt) - before - after
        parts = [preamble] * before + [USER] * turn + [TEMPLATE] * after
        parts += [TEMPLATE if token in llm.stop_ids else ANSWER for token in answer]
        rows.append(TextRow(number, [*prompt, *answer], parts))
    return rows


def template_lengths(llm: Llm) -> tuple[int, int]:
    """Return how many tokens the chat template puts before a user's turn, and after it up to where the answer begins."""
    one, other = llm.encode_chats([[{"role": "user", "content": words}] for words in ("Yes", "no, not today")])
    return _shared(one, other), _shared(one[::-1], other[::-1])


@torch.inference_mode()
def answers(
    llm: Llm,
    prompts: Sequence[Sequence[int]],
    temperatures: Sequence[float],
    seeds: Sequence[int],
    max_tokens: int | None = None,
) -> list[list[int]]:
    """Return the model's answer to each prompt, up to its first stop token (kept) or `max_tokens` (ANSWER_TOKENS when None).

    A row's draws come from its own seed, so they are the same whatever is answered beside it.
    """
    max_tokens = max_tokens or ANSWER_TOKENS
    context = Context(llm, prompts)
    device = llm.device
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    temperature = torch.tensor(temperatures, device=device)[:, None]
    stops = torch.tensor(sorted(llm.stop_ids), device=device)
    last = torch.tensor([prompt[-1] for prompt in prompts], device=device)
    going = torch.ones(len(prompts), dtype=torch.bool, device=device)
    written = []
    for step in range(max_tokens):
        logits = context.feed(last[:, None], keep=1)[:, -1]
        noise = torch.stack([draw(generator, logits.shape[-1]) for generator in generators])
        last = choose(logits.float() / temperature, Sampling(temperature=1.0), noise)
        written.append(last)
        going &= ~torch.isin(last, stops)
        if step % STEPS_BETWEEN_CHECKS == STEPS_BETWEEN_CHECKS - 1 and not going.any():
            break
    return [_cut(row, llm.stop_ids) for row in torch.stack(written, 1).tolist()]


def _prompts(llm: Llm, documents: Sequence[Document], numbers: Sequence[int]) -> list[list[int]]:
    """Return prompts with the beginning of each text as the user's turn, of a length drawn with the document's number."""
    shortest, longest = TURN_TOKENS
    turns = []
    for number, ids in zip(numbers, llm.encode_all([document.text for document in documents]), strict=True):
        generator = torch.Generator().manual_seed(number)
        length = int(torch.randint(shortest, longest + 1, (1,), generator=generator))
        turns.append(llm.tokenizer.decode(ids[1 : 1 + length]).strip())
    return llm.encode_chats([[{"role": "user", "content": turn}] for turn in turns])


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many ids two rows begin with together."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _cut(row: Sequence[int], stops: frozenset[int]) -> list[int]:
    end = next((i + 1 for i, token in enumerate(row) if token in stops), len(row))
    return list(row[:end])
