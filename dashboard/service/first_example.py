"""What to expect of the example that the Steering page opens with, from the report of `first-press`, in words for pages."""

from contextlib import suppress

from dashboard.service import workspace_facts
from glp_core.building.state import BuildState
from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.steering import holding


def small_effect() -> str:
    """Return why the example shows little of what a prior is for, and the way out; empty where it shows it, or was not measured."""
    with suppress(GlpError, KeyError, TypeError, ValueError):  # damaged, or of an older version
        press = workspace_facts.report("first_press") or {}
        return "" if _shows(press) else f"{_measured(press)} {_way_out()}"
    return ""


def _shows(press: Json) -> bool:
    broken, walked = press["broken"], press["columns"]["walk"]
    return holding.tells(broken["raw"], broken["walk"]) and walked["concept"] >= holding.SHOWING


def _measured(press: Json) -> str:
    broken, columns = press["broken"], press["columns"]
    concept = {arm: f"{columns[arm]['concept']:.2f}" for arm in ("unsteered", "walk")}
    return (
        f"Expect a small effect of this workspace's prior. At strength {press['strength']:g}, where it is greatest of all that were "
        f"tried, {broken['raw']:.0%} of raw texts break and {broken['walk']:.0%} of walked ones, on {press['settings']['prefixes']} "
        f"prefixes; the example's walked text shows the concept with probability {concept['walk']}, the unsteered one with "
        f"{concept['unsteered']}."
    )


def _way_out() -> str:
    folder = workspace_facts.folder()
    build = BuildState.read(folder)
    if build.glp or build.effort == "full":
        return f"Train it further: `python -m glp_core train --run longer --from {folder / 'glp'} --install`."
    return f"A prior that is trained longer shows more: `{workspace_facts.command('build --effort full')}`."
