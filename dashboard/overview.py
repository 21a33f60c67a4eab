"""What the Overview shows: the picture of the data flow, the workspace's facts with their sources, the cards into the pages."""

import html
from typing import NamedTuple

from dashboard.service import resources, workspace_facts
from dashboard.widgets import charts
from glp_core.files import Json

LIGHT_TEXT, DARK_TEXT = "#31333F", "#E6E8EB"


class Card(NamedTuple):
    """One way into a page, with an example filled in."""

    page: str
    """File name without .py."""
    title: str
    words: str
    icon: str
    query: dict[str, str]
    """Query parameters of the example."""


CARDS = (
    Card(
        "steering",
        "Steer side by side",
        "Push the model towards a concept, raw and projected back by the prior: what each push does to the text, token by token.",
        ":material/tune:",
        {"steering_strength": "0.6"},
    ),
    Card(
        "steering",
        "Steer a conversation",
        "The same push on a chat answer, with the norm-restored baseline as a fourth column.",
        ":material/forum:",
        {
            "steering_mode": "chat",
            "steering_prompt": "What should I cook for dinner tonight?",
            "steering_direction": "Formal",
            "steering_strength": "0.4",
            "steering_extra": "norm-restored",
        },
    ),
    Card(
        "neurons",
        "Browse meta-neurons",
        "Hidden neurons of the prior: which of them fire on a text, and on what else?",
        ":material/hub:",
        {},
    ),
    Card(
        "concepts",
        "Find a concept's neuron",
        "113 concepts, each with the neuron that detects it best, against three baselines.",
        ":material/category:",
        {},
    ),
    Card(
        "scaling",
        "See what compute buys",
        "Loss and downstream scores against training compute, with the fitted law.",
        ":material/show_chart:",
        {},
    ),
    Card(
        "manifold",
        "Measure manifold distance",
        "How far a text's or a steered token's activation is from real ones.",
        ":material/scatter_plot:",
        {},
    ),
)


def is_there(card: Card) -> bool:
    """Say whether the card's page exists in this version."""
    return (workspace_facts.ROOT / "pages" / f"{card.page}.py").is_file()


def facts(known: workspace_facts.Facts, number_type: str) -> list[tuple[str, str]]:
    """Return the workspace's facts; what has not been measured names the command that does it."""
    evaluate, bench = workspace_facts.report("evaluate") or {}, workspace_facts.report("bench") or {}
    pairs = [
        ("LLM", known.llm),
        ("Modelled", f"output of layer {known.layer}, {known.d_input} dimensions, median norm {known.median_norm:.0f}"),
        ("GLP", f"{known.glp_parameters / 1e6:.1f} M parameters, {known.glp_shape}"),
        ("Trained on", _count(known.activations_seen)),
        ("Validation loss", _loss(known, evaluate)),
        ("Cost of a projection", _delta(evaluate)),
        ("Speed", _speed(bench)),
        ("Device", f"{resources.device_title()}, {number_type}"),
    ]
    return pairs


def _count(seen: int | None) -> str:
    return f"{seen / 1e6:.1f} M activations" if seen else "not recorded"


def _loss(known: workspace_facts.Facts, evaluate: Json) -> str:
    loss = evaluate.get("validation_loss", known.validation_loss)
    if loss is None:
        return f"not measured: run {workspace_facts.command('evaluate')}"
    gaussian = evaluate.get("gaussian_loss")
    return f"{loss:.3f}" + (f" (Gaussian prior {gaussian:.3f})" if gaussian else "")


def _delta(evaluate: Json) -> str:
    delta = evaluate.get("delta_lm", {})
    if "glp" not in delta:
        return f"not measured: run {workspace_facts.command('evaluate')}"
    others = f"Gaussian mean +{delta['gaussian_mean']:.2f}, mean ablation +{delta['mean_ablation']:.2f}"
    return f"+{delta['glp']:.3f} nats LM loss at noise level 0.5 ({others})"


def _speed(bench: Json) -> str:
    times = bench.get("projection", {}).get("fast", {})
    if not times:
        return "not measured: run make bench"
    told = ", ".join(f"{ratio:.1f}× at batch {batch}" for batch, ratio in times.items() if batch in ("1", "16", "1024"))
    machine = bench.get("machine", {})
    where = machine.get("cpu", "") if isinstance(machine, dict) else str(machine)
    return f"projection {told}, against a plain implementation" + (f" ({where})" if where else "")


def picture(layer: int, *, dark: bool) -> str:
    """Return the data flow as SVG: text, layers, activation, push, GLP, layers, text; and what is read on the way."""
    ink = DARK_TEXT if dark else LIGHT_TEXT
    boxes = [
        (10, "text", "your prompt", charts.GREY),
        (190, "layers", f"0 to {layer}", charts.GREY),
        (370, "activation", "+ strength × direction", charts.ORANGE),
        (590, "GLP", "add noise, denoise", charts.BLUE),
        (790, "layers", f"{layer + 1} to the last", charts.GREY),
        (970, "text", "steered and fluent", charts.GREY),
    ]
    widths = [150, 150, 190, 170, 150, 150]
    parts = []
    for (x, title, words, colour), width in zip(boxes, widths, strict=True):
        parts.append(
            f'<rect x="{x}" y="96" width="{width}" height="66" rx="10" fill="{colour}" fill-opacity="0.14" stroke="{colour}" '
            f'stroke-width="2"/>{_words(x + width / 2, 124, title, ink, bold=True)}{_words(x + width / 2, 146, words, ink)}'
        )
    for (x, *_), width, (after, *_) in zip(boxes, widths, boxes[1:], strict=False):
        parts.append(f'<path d="M{x + width + 3} 129H{after - 6}" stroke="{ink}" stroke-width="2" marker-end="url(#tip)"/>')
    reads = [(465, "Manifold distance", "how far from a real activation?"), (675, "Meta-neurons", "the GLP's hidden neurons")]
    for x, title, words in reads:
        parts.append(f'<path d="M{x} 94V66" stroke="{ink}" stroke-width="1.5" stroke-dasharray="4 4" marker-end="url(#tip)"/>')
        parts.append(_words(x, 32, title, ink, bold=True) + _words(x, 52, words, ink))
    tip = '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    tip += f'<path d="M0 0L8 4L0 8z" fill="{ink}"/></marker>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1130 172" font-family="sans-serif"><defs>{tip}</defs>'
        f"{''.join(parts)}</svg>"
    )


def _words(x: float, y: float, words: str, ink: str, *, bold: bool = False) -> str:
    weight = ' font-weight="600" font-size="17"' if bold else ' font-size="14" opacity="0.85"'
    return f'<text x="{x:.0f}" y="{y}" fill="{ink}" text-anchor="middle"{weight}>{html.escape(words)}</text>'
