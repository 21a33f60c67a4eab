"""Controls of a steering comparison: what tells the prior's and the direction's part from that of any push of this length.

The wrong sign and a random direction go through the same projection; the restored norm and the Gaussian prior take the place of the GLP;
and an instruction asks for the concept without any push. Knows models and tokens; knows no files.
"""

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from glp_core.errors import GlpError
from glp_core.llm.model import Llm
from glp_core.prior.projection import Projector
from glp_core.steering.edit import Arm
from glp_core.steering.loop import Row

Control = Literal["opposite", "random", "norm", "gaussian", "prompted"]
CONTROLS: tuple[Control, ...] = get_args(Control)
"""Names of their arms."""


def control_rows(
    llm: Llm,
    prompt: str,
    arm: Arm,
    *,
    instead: Mapping[str, Projector],
    instruction: str,
    chat: bool = False,
    seed: int = 0,
) -> list[Row]:
    """Return a row for each control of an arm that pushes and projects.

    Args:
        arm: whose vector, strength and projector are controlled.
        instead: projectors in the place of the arm's, by the names norm and gaussian; what is not there is left out.
        instruction: what asks for the concept in words.
        chat: the prompt is what a user says; else the beginning of a text.
        seed: of the texts' choice of tokens and noise, as the compared ones have it; also of the random direction.
    Raises:
        GlpError: the arm has no vector.
    """
    if arm.vector is None:
        raise GlpError(f"The arm {arm.name!r} has no vector, so there is nothing to control: give an arm that pushes.")
    ids = llm.encode_chat([{"role": "user", "content": prompt}]) if chat else llm.encode(prompt)
    arms = [
        Arm("opposite", arm.vector, -arm.strength, arm.projector, arm.where),
        Arm("random", random_direction(len(arm.vector), seed), arm.strength, arm.projector, arm.where),
        *(Arm(name, arm.vector, arm.strength, instead[name], arm.where) for name in ("norm", "gaussian") if name in instead),
    ]
    return [*(Row(ids, one, seed) for one in arms), Row(asked(llm, prompt, instruction, chat=chat), Arm("prompted"), seed)]


def random_direction(width: int, seed: int) -> Tensor:
    """Return a random unit vector (width,), the same for a seed."""
    drawn = torch.randn(width, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm()


def asked(llm: Llm, prompt: str, instruction: str, *, chat: bool = False) -> list[int]:
    """Return a prompt as ids after an instruction: a system prompt in a chat, else the user's words before the text as an answer.

    A model without a chat template gets the instruction as a line before the text.
    """
    if chat:
        return llm.encode_chat([{"role": "system", "content": instruction}, {"role": "user", "content": prompt}])
    if not llm.tokenizer.chat_template:
        return llm.encode(f"{instruction}\n\n{prompt}")
    return [*llm.encode_chat([{"role": "user", "content": instruction}]), *llm.encode(prompt)[1:]]
