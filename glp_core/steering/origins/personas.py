"""Persona directions: what changes in a model's answers when its system prompt asks for another character.

Answers under two contrasting system prompts are generated greedily; the direction is the difference of their mean activations
(persona vectors, Chen et al. 2025, arXiv 2507.21509, without a judge).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from glp_core.data.text_activations import TextReading
from glp_core.errors import GlpError
from glp_core.llm.decoding import Sampling
from glp_core.llm.site import Site
from glp_core.progress import Progress, quiet
from glp_core.steering.direction_facts import METHODS, Method
from glp_core.steering.directions import Direction
from glp_core.steering.edit import Arm
from glp_core.steering.generation import Row
from glp_core.steering.origins.evidence import Made, Origin, made_from
from glp_core.steering.origins.fitting import FOLDS, Classes, Ints, direction_from
from glp_core.steering.origins.from_texts import about_classes
from glp_core.steering.origins.questions import ANSWER_TOKENS, QUESTIONS
from glp_core.steering.origins.recipes import Persona
from glp_core.steering.trials.writing import write_texts

LONGEST_QUOTED = 600
"""Characters of a system prompt that are quoted in how a direction was made."""
TEST_EVERY = 3
"""Every third question is kept for measuring."""


class Answers(NamedTuple):
    """What a model answers under two contrasting system prompts: first all answers under the one, then all under the other."""

    prompted: Tensor
    """(2 questions, d), mean activations of answers read under their system prompts; nan for an empty one."""
    bare: Tensor
    """The same, read without a system prompt."""
    texts: list[str]

    @property
    def labels(self) -> Ints:
        """1 for answers under the first prompt, 0 for the others."""
        return np.repeat([1, 0], len(self.texts) // 2)


def answers(
    site: Site,
    system: str,
    opposite: str,
    questions: Sequence[str],
    *,
    tokens: int = ANSWER_TOKENS,
    progress: Progress = quiet,
) -> Answers:
    """Let the model answer questions under two system prompts, greedily, and read the answers.

    Raises:
        GlpError: the model has no chat template, or a prompt is too long for it.
    """
    llm, asked = site.llm, [(prompt, question) for prompt in (system, opposite) for question in questions]
    prompts = llm.encode_chats(
        [[{"role": "system", "content": prompt}, {"role": "user", "content": question}] for prompt, question in asked]
    )
    bare = llm.encode_chats([[{"role": "user", "content": question}] for _, question in asked])
    written = write_texts(site, [Row(prompt, Arm("answer")) for prompt in prompts], Sampling(tokens), progress=progress)
    ids = [text.tokens or sorted(llm.stop_ids)[:1] for text in written]
    return Answers(_read(site, prompts, ids).mean, _read(site, bare, ids).mean, [text.text for text in written])


def _read(site: Site, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> TextReading:
    rows = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    return TextReading.of_spans(site, rows, [len(prompt) for prompt in prompts])


def direction_of_instructions(
    site: Site,
    system: str,
    opposite: str,
    questions: Sequence[str] = QUESTIONS,
    *,
    name: str = "direction",
    title: str = "",
    method: Method = "diffmean",
    seed: int = 0,
    tokens: int = ANSWER_TOKENS,
    progress: Progress = quiet,
) -> Made:
    """Make a direction from what two contrasting system prompts change in a model's answers, with the evidence for it.

    Args:
        system: what plus means; `opposite`: what minus means.
        seed: of the choice of questions that are held out together.
        tokens: of an answer, at most.
    Raises:
        GlpError: fewer than four questions, the same prompt twice, or a model that cannot chat.
    """
    if len(questions) < FOLDS:
        raise GlpError(f"Got {len(questions)} questions, wanted at least {FOLDS}.")
    if system.strip() == opposite.strip():
        raise GlpError("Both system prompts are the same: the second must ask for the opposite, or for something neutral.")
    made = answers(site, system, opposite, questions, tokens=tokens, progress=progress)
    how = (
        f"{METHODS[method]} of mean activations of {tokens}-token greedy answers to {len(questions)} questions, system prompt "
    )
    how += f'"{_quoted(system)}" against "{_quoted(opposite)}"'
    sides = made.texts[: len(questions)], made.texts[len(questions) :]
    about = {"source": "instructions", "pooling": "mean", "classes": about_classes(sides, (system, opposite))}
    classes = Classes.of(made.prompted, made.bare, made.labels)
    return made_from(classes, site, Origin(name, title, how, about), method=method, seed=seed)._replace(texts=sides)


def _quoted(prompt: str) -> str:
    return prompt if len(prompt) <= LONGEST_QUOTED else f"{prompt[:LONGEST_QUOTED]} …"


def make_persona(
    site: Site,
    persona: Persona,
    *,
    questions: Sequence[str] = QUESTIONS,
    progress: Progress = quiet,
) -> Direction:
    """Make a direction from answers in the persona's character and in its opposite's; every third question is for measuring only."""
    if len(questions) < 2 * TEST_EVERY:
        raise GlpError(f"Got {len(questions)} questions, wanted at least {2 * TEST_EVERY}.")
    made = answers(site, persona.system, persona.opposite, questions, progress=progress)
    held_out = np.tile(np.arange(len(questions)) % TEST_EVERY == TEST_EVERY - 1, 2)
    order = np.argsort(held_out, kind="stable")
    n_train = int((~held_out).sum())
    return direction_from(
        made.prompted[order],
        made.bare[order],
        made.labels[order],
        n_train=n_train,
        name=persona.name,
        title=persona.title,
        layer=site.layer,
        median_norm=site.median_norm,
        how=f"Mean activation over {ANSWER_TOKENS}-token greedy answers to {n_train // 2} questions, "
        f'system prompt "{persona.system}" against "{persona.opposite}"',
    )
