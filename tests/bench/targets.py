"""What is wanted of an accelerator, and a report of `tests.bench.accelerator` set against it in words; needs no torch."""

from typing import NamedTuple

CARDS = ("H200", "H100")
MISSING = "not measured"


class Target(NamedTuple):
    """One number that is wanted."""

    row: str
    """Of the report."""
    key: str
    """Of the row."""
    words: str
    """What it is, with its unit in place of {}."""
    at_most: float | None = None
    at_least: float | None = None
    cards: tuple[str, ...] = CARDS
    """On which it is wanted."""

    @property
    def wanted(self) -> str:
        """The target in words."""
        sign, value = ("at least", self.at_least) if self.at_most is None else ("at most", self.at_most)
        return f"{sign} {value:,g}"

    def met(self, value: float) -> bool:
        """Say whether a measured value is as wanted."""
        return value >= self.at_least if self.at_most is None else value <= self.at_most

    def verdict(self, value: float) -> str:
        """Return in words whether a measured value meets the target, and by how much it misses it."""
        if self.met(value):
            return f"{amount(value)}: met"
        short = 1 - value / self.at_least if self.at_most is None else value / self.at_most - 1
        far = f"{short:.{0 if short >= 0.01 else 1}%}" if short < 1 else f"a factor of {short + 1:.1f}"
        return f"{amount(value)}: target missed by {far}"


TARGETS = (
    Target("project_1", "ms", "projection at batch 1, 10 calls: ms", at_most=1.0),
    Target("project_1", "times_faster", "... times faster than the plain network", at_least=10.0),
    Target("project_1024", "times_faster", "projection at batch 1,024: times faster than the plain network", at_least=2.0),
    Target("three_columns", "ms", "a step of three columns, demo: ms", at_most=6.0),
    Target(
        "three_columns_8b", "times_read", "the same, random 8 B LLM and prior: times the reading of its weights", at_most=2.0
    ),
    Target("train", "tflops", "training, demo's shape, batch 16,384: TFLOP/s (6 N D)", at_least=500.0, cards=("H200",)),
    Target("train", "tflops", "training, demo's shape, batch 16,384: TFLOP/s (6 N D)", at_least=400.0, cards=("H100",)),
    Target("collect", "tokens_per_second", "collecting the demo's layer: tokens/s", at_least=800_000.0),
)


def amount(value: float) -> str:
    """Return a measured value with three digits that count."""
    return f"{float(f'{value:.3g}'):,g}"


def targets_of(row: str, device: str) -> list[Target]:
    """Return what is wanted of a row on the device of that title; on another card than those named, of any card's targets none."""
    return [one for one in TARGETS if one.row == row and any(card in device for card in one.cards)]


def found(report: dict, target: Target) -> str:
    """Return in words what the report says of a target: a measured value, or why there is none."""
    row = report.get("rows", {}).get(target.row, {})
    if target.key in row:
        return target.verdict(row[target.key])
    return f"{MISSING}: it failed" if "failed" in row else MISSING


def table(report: dict | None) -> str:
    """Return every target in Markdown, on each card that it is for; only what was measured on that card has a number.

    A report of another device, the CPU among them, says nothing of these cards.
    """
    lines = [f"| Wanted of an accelerator | Target | On an {' | On an '.join(CARDS)} |", "|---|---" + "|---" * len(CARDS) + "|"]
    for target in TARGETS:
        measured = {card: report is not None and card in report.get("device", "") for card in CARDS}
        cells = [(found(report, target) if measured[card] else MISSING) if card in target.cards else "–" for card in CARDS]
        lines.append(f"| {target.words} | {target.wanted} | {' | '.join(cells)} |")
    return "\n".join(lines)
