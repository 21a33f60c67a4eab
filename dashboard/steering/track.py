"""The zones of strength under the slider's track: where raw and walked texts hold, drift and break. HTML of numbers only."""

import html

from dashboard.service.directions.pushes import STRONGEST
from dashboard.service.directions.zones import Zone, Zones

LOW, HIGH = -STRONGEST, STRONGEST
"""Ends of the slider."""
STYLE = """
.glp-track{position:relative;margin:-1.2rem .375rem -.3rem;font-size:.72rem;line-height:1rem;opacity:.95}
.glp-track div{position:relative;height:1rem}
.glp-track b{position:absolute;top:.28rem;height:.45rem;font-weight:400}
.glp-track .holds{background:#2A9D6F}
.glp-track .drifts{background:repeating-linear-gradient(135deg,#DDA010 0 4px,#DDA01066 4px 7px)}
.glp-track .breaks{background:repeating-linear-gradient(45deg,#D03C3C 0 6px,#D03C3C88 6px 8px)}
.glp-track span{position:absolute;right:50.5%;white-space:nowrap;opacity:.85}
.glp-track i{position:absolute;top:.05rem;height:1.9rem;border-left:2px solid currentColor;z-index:1}
"""


def track(zones: Zones) -> str:
    """Return the strips of both arms, aligned with a slider from -3 to 3, and a mark at the recommended strength."""
    sentences = {arm: f"{arm} {words(zone)}" for arm, zone in zones.arms.items()}
    rows = "".join(f"<div><span>{html.escape(sentences[arm])}</span>{_strip(zone)}</div>" for arm, zone in zones.arms.items())
    mark = ""
    if zones.recommended is not None:
        mark = f'<i style="left:{_at(zones.recommended):.2f}%" title="recommended: {zones.recommended:g}"></i>'
    label = html.escape("; ".join(sentences.values()), quote=True)
    return f'<div class="glp-track" role="img" aria-label="Zones of strength: {label}">{mark}{rows}</div>'


def words(zone: Zone) -> str:
    """Return where a zone's borders are, in words."""
    if zone.drifting is None:
        return f"holds to {zone.end:g}"
    drifts = f"drifts from {zone.drifting:g}"
    return drifts if zone.broken is None else f"{drifts}, breaks from {zone.broken:g}"


def _strip(zone: Zone) -> str:
    drifting = zone.end if zone.drifting is None else zone.drifting
    broken = zone.end if zone.broken is None else zone.broken
    parts = [("holds", 0.0, min(drifting, broken)), ("drifts", drifting, broken), ("breaks", broken, zone.end)]
    return "".join(
        f'<b class="{name}" style="left:{_at(low):.2f}%;width:{_at(high) - _at(low):.2f}%" title="{name} {low:g} to {high:g}"></b>'
        for name, low, high in parts
        if high > low
    )


def _at(strength: float) -> float:
    return 100 * (strength - LOW) / (HIGH - LOW)
