"""Something to begin with: the examples of the Steering page, and the one that it opens with."""

from typing import NamedTuple


class Example(NamedTuple):
    """Values for the controls that matter most."""

    title: str
    prompt: str
    mode: str
    direction: str
    """Title of a direction; left as it is where the workspace has no such one."""
    strength: float
    max_tokens: int = 64
    temperature: float = 0.0
    seed: int = 0


EXAMPLES = (
    Example("A film, praised", "I went to the cinema last night, and the film was", "continue", "Positive sentiment", 1.0),
    Example("A restaurant, praised", "The new restaurant on the corner is", "continue", "Positive sentiment", 1.4),
    Example("A report that turns to law", "The report begins with a short description of", "continue", "Law", 0.9),
    Example("Dinner, formally", "What should I cook for dinner tonight?", "chat", "Formal", 0.4),
    Example("A pirate's day", "Tell me about your day.", "chat", "Pirate", 0.4),
)


def for_mode(mode: str) -> Example:
    """Return the first example of a mode."""
    return next(example for example in EXAMPLES if example.mode == mode)
