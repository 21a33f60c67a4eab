"""Where a push acts: on generated tokens, on a span of the prompt, only where something fires. Knows positions and activations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from glp_core.errors import GlpError
from glp_core.steering.directions import Direction

Condition = Callable[[Tensor], Tensor]
"""Takes activations (n, d) as the layer gave them out; returns in which something fires (n,). Rows do not influence each other."""


@dataclass(frozen=True, eq=False)
class Where:
    """Which tokens' activations are edited; never a text's first token, nor an attention sink."""

    generated: bool = True
    """What new tokens are chosen from: the prompt's last token, then each new one."""
    span: tuple[int, int] | None = None
    """First position of the prompt, and the one after the last; position 0 is the model's own first token."""
    only: Condition | None = None
    """Only where this fires."""

    def acts_at(self, position: int) -> bool:
        """Say whether it acts on this position of the prompt because of its span."""
        return self.span is not None and self.span[0] <= position < self.span[1]

    def check(self, prompt: Sequence[int]) -> None:
        """Raise GlpError when the span is not within the prompt."""
        if self.span is not None and not 0 <= self.span[0] < self.span[1] <= len(prompt):
            raise GlpError(f"The span {self.span} is not within the prompt's {len(prompt)} tokens.")


GENERATED = Where()


@dataclass(frozen=True, eq=False)
class ProbeFires:
    """Whether the concept probe of a direction says that an activation shows its concept."""

    direction: Direction
    above: float = 0.5
    """Probability."""

    def __call__(self, acts: Tensor) -> Tensor:
        """Return for activations (n, d) whether it fires (n,)."""
        return self.direction.concept(acts) > self.above


def span_of(pieces: Sequence[str], words: str, *, within: str = "") -> tuple[int, int]:
    """Return the span of tokens that words touch where they first stand in the joined pieces.

    Args:
        within: where to look for them: a text that the pieces hold, and other things around it.
    Raises:
        GlpError: they do not stand there.
    """
    words, text, within = words.strip(), "".join(pieces), within.strip()
    before = text.rfind(within) if within else -1  # a template may hold it otherwise, with other white space
    start = text.find(words, max(0, before), before + len(within) if before >= 0 else None) if words else -1
    if start < 0:
        raise GlpError(f"{words[:60]!r} is not in the prompt: copy a part of it, letter by letter.")
    ends = [0]
    for piece in pieces:
        ends.append(ends[-1] + len(piece))
    touched = [i for i in range(len(pieces)) if ends[i] < start + len(words) and ends[i + 1] > start]
    return touched[0], touched[-1] + 1
