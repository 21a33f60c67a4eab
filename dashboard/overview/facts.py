"""The workspace's facts on the Overview, each with its source; what has not been measured names the command that does it."""

from dashboard.service import machine, workspace_facts
from glp_core.files import Json
from glp_core.prior.facts import GlpFacts
from glp_core.workspace import Workspace

SHOWN_BATCHES = ("1", "16", "1024")
"""Of projection, whose speed is told."""


def facts(workspace: Workspace, glp: GlpFacts, number_type: str) -> list[tuple[str, str]]:
    """Return the workspace's facts; what has not been measured names the command that does it."""
    evaluate, bench = workspace_facts.report("evaluate") or {}, workspace_facts.report("bench") or {}
    pairs = [
        ("LLM", workspace.llm.label),
        ("Modelled", f"output of layer {workspace.layer}{_width(glp)}, median norm {_norm(workspace.median_norm)}"),
        ("GLP", f"{glp.parameters / 1e6:.1f} M parameters, {glp.shape}" if glp.parameters else "not readable"),
        ("Trained on", _trained_on(glp.activations_seen, workspace.transferred_from())),
        ("Validation loss", _loss(glp, evaluate)),
        ("Cost of a projection", _delta(evaluate)),
        ("Speed", _speed(bench)),
        ("Device", f"{machine.device_title()}, {number_type}"),
    ]
    return pairs


def _width(glp: GlpFacts) -> str:
    return f", {glp.d_input:,} dimensions" if glp.d_input else ""


def _norm(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _trained_on(seen: int | None, elsewhere: str) -> str:
    words = f"{seen / 1e9:.2f} billion" if seen and seen >= 1e9 else f"{(seen or 0) / 1e6:,.1f} M"
    count = f"{words} activations" if seen else ""
    if elsewhere:
        return f"{count or 'activations'} of {elsewhere}: a transfer" + ("" if count else "; how many is not recorded")
    return f"{count}, repeats counted" if count else "not recorded"


def _loss(glp: GlpFacts, evaluate: Json) -> str:
    loss = evaluate.get("validation_loss", glp.validation_loss)
    if loss is None:
        return f"not measured: run {workspace_facts.command('evaluate')}"
    gaussian = evaluate.get("gaussian_loss")
    activations = evaluate.get("validation", {}).get("activations")
    of = f", on {activations:,} held-out activations" if activations else ""
    return f"{loss:.3f}" + (f" (Gaussian prior {gaussian:.3f})" if gaussian else "") + of


def _delta(evaluate: Json) -> str:
    delta = evaluate.get("delta_lm", {})
    if "glp" not in delta:
        return f"not measured: run {workspace_facts.command('evaluate')}"
    others = f"Gaussian prior {delta['gaussian_mean']:.2f}, mean ablation {delta['mean_ablation']:.2f}"
    before = evaluate.get("before", {}).get("delta_lm", {}).get("glp")
    earlier = "" if before is None else f"; {before:.3f} before it was trained further"
    of = (
        f", on {delta['documents']:,} held-out texts of {delta['tokens']:,} tokens"
        if {"documents", "tokens"} <= delta.keys()
        else ""
    )
    return f"raises the LLM's loss by {delta['glp']:.3f} nats at noise level 0.5 ({others}{earlier}){of}"


def _speed(bench: Json) -> str:
    times = bench.get("projection", {}).get("ab2", {})
    if not times:
        return "not measured: run make bench"
    speeds = ", ".join(f"{ratio:.0f} × (batch {int(batch):,})" for batch, ratio in times.items() if batch in SHOWN_BATCHES)
    machine = bench.get("machine", {})
    where = machine.get("cpu", "") if isinstance(machine, dict) else str(machine)
    return f"in 4 network calls, projection is {speeds} as fast as a plain implementation in 10{f': {where}' if where else ''}"
