"""Persona directions: what changes in a model's answers when its system prompt asks for another character.

Answers under two contrasting system prompts are generated greedily; the direction is the difference of their mean activations
(persona vectors, Chen et al. 2025, arXiv 2507.21509, without a judge).
"""

from collections.abc import Sequence

import numpy as np

from glp_core.data.text_activations import TextReading
from glp_core.errors import GlpError
from glp_core.llm.decoding import Sampling
from glp_core.llm.site import Site
from glp_core.progress import Progress, quiet
from glp_core.steering.directions import Direction
from glp_core.steering.edit import Arm
from glp_core.steering.generation import Row
from glp_core.steering.origins.fitting import direction_from
from glp_core.steering.origins.recipes import Persona
from glp_core.steering.trials.writing import write_texts

ANSWER_TOKENS = 24
TEST_EVERY = 3
"""Every third question is kept for measuring."""

QUESTIONS = (
    "What should I cook for dinner tonight?",
    "How was your day?",
    "What do you think about the weather?",
    "Can you tell me about your home town?",
    "What is the best way to learn a language?",
    "How do I get to the train station?",
    "What do you do on a Sunday morning?",
    "Why is the sky blue?",
    "Can you recommend a good book?",
    "What is your opinion of modern music?",
    "How should I prepare for an exam?",
    "What makes a good friend?",
    "Where should I go on holiday?",
    "How can I save some money?",
    "What do you think of my new haircut?",
    "Should I buy a car or a bicycle?",
    "What happened in the news today?",
    "How do I plant a tree?",
    "Can you help me with my garden?",
    "What is it like to work in a big company?",
    "How do I make a good cup of coffee?",
    "What do you think the future will bring?",
    "Is it a good idea to get a dog?",
    "How do I write a letter to my landlord?",
    "What is the capital of France like?",
    "How can I sleep better at night?",
    "What would you say to a new neighbour?",
    "How do I fix a leaking tap?",
    "What is your favourite season, and why?",
    "How do I ask my boss for a raise?",
    "What should I wear to a wedding?",
    "Can you describe a walk in the forest?",
    "How do computers work?",
    "What is the point of school?",
    "How do I get fit again?",
    "What do you think about big cities?",
    "Can you tell me a short story about a cat?",
    "Why do people travel?",
    "How should I spend my birthday?",
    "What is the secret of a happy life?",
    "How do I bake bread?",
    "Should I move to another country?",
    "What can I do when I am bored?",
    "How do birds find their way?",
    "What do you think of football?",
    "How do I make new friends?",
    "What is the sea like in winter?",
    "Can you explain how a bank works?",
)


def make_persona(
    site: Site,
    persona: Persona,
    *,
    questions: Sequence[str] = QUESTIONS,
    progress: Progress = quiet,
) -> Direction:
    """Make a direction from answers in the persona's character and in its opposite's.

    The direction comes from answers read under their system prompts; the concept probe reads the same answers without them.
    """
    if len(questions) < 2 * TEST_EVERY:
        raise GlpError(f"Got {len(questions)} questions, wanted at least {2 * TEST_EVERY}.")
    test = [i % TEST_EVERY == TEST_EVERY - 1 for i in range(len(questions))]
    asked = [question for question, held_out in zip(questions, test, strict=True) if not held_out]
    held_out = [question for question, held_out in zip(questions, test, strict=True) if held_out]
    blocks = [(asked, persona.system), (asked, persona.opposite), (held_out, persona.system), (held_out, persona.opposite)]
    llm = site.llm
    rows = [(question, system) for block, system in blocks for question in block]
    prompts = [llm.encode_chat([{"role": "system", "content": system}, {"role": "user", "content": q}]) for q, system in rows]
    answers = _answers(site, prompts, progress)
    labels = np.repeat([1, 0, 1, 0], [len(block) for block, _ in blocks])
    bare = [llm.encode_chat([{"role": "user", "content": q}]) for q, _ in rows]
    return direction_from(
        _read(site, prompts, answers).mean,
        _read(site, bare, answers).mean,
        labels,
        n_train=2 * len(asked),
        name=persona.name,
        title=persona.title,
        layer=site.layer,
        median_norm=site.median_norm,
        how=f"Mean activation over {ANSWER_TOKENS}-token greedy answers to {len(asked)} questions, "
        f'system prompt "{persona.system}" against "{persona.opposite}"',
    )


def _answers(site: Site, prompts: Sequence[Sequence[int]], progress: Progress) -> list[list[int]]:
    rows = [Row(prompt, Arm("answer")) for prompt in prompts]
    texts = write_texts(site, rows, Sampling(ANSWER_TOKENS), progress=progress)
    return [text.tokens or sorted(site.llm.stop_ids)[:1] for text in texts]


def _read(site: Site, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> TextReading:
    rows = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    return TextReading.of_spans(site, rows, [len(prompt) for prompt in prompts])
