"""Where texts hold, drift and break along a direction, and which strength is recommended, as `strengths` measured it."""

from typing import NamedTuple

from dashboard.service import workspace_facts
from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.steering.direction_facts import is_of


class Zone(NamedTuple):
    """Where an arm's texts drift and break along a direction."""

    drifting: float | None
    """First measured strength at which a quarter of the texts is broken; None: at none."""
    broken: float | None
    """First at which three quarters are."""
    end: float
    """Largest strength that was measured."""


class Zones(NamedTuple):
    """What `strengths` measured along one direction."""

    arms: dict[str, Zone]
    """raw and walk."""
    recommended: float | None
    """Of the strengths before walked texts drift the one at which they gain most of the concept, if there is one."""
    n: int
    """Texts of each arm at each strength."""


def of(direction: str) -> Zones | None:
    """Return a direction's zones (by its file name), or None where they were not measured along the direction of now."""
    try:
        entry = (workspace_facts.report("strengths") or {})["directions"][direction]
        if not is_of(entry, workspace_facts.read().direction_digest(direction)):
            return None  # of another direction that had the name
        arms = {arm: _zone(entry["arms"][arm]) for arm in ("raw", "walk")}
        return Zones(arms, _number(entry["recommended"]), int(entry["n"]))
    except (GlpError, KeyError, TypeError, ValueError, OverflowError):
        return None


def usually_holds(direction: str, arm: str, strength: float) -> bool:
    """Say whether most texts of an arm held where a direction (its file name) was pushed along so far."""
    measured = of(direction)
    if measured is None or arm not in measured.arms:
        return False
    zone = measured.arms[arm]
    return 0 < strength <= zone.end and (zone.drifting is None or strength < zone.drifting)


def _zone(entry: Json) -> Zone:
    return Zone(_number(entry["drifting"]), _number(entry["broken"]), max(float(row["strength"]) for row in entry["rows"]))


def _number(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or not 0 < value <= 3:
        raise ValueError(f"{value!r} is no strength")
    return float(value)
