"""What to expect of the example that the Steering page opens with, from the report of `first-press`, in words for pages."""

import shlex
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
        if faults := _faults(press):
            return (
                f"Expect a small effect of this workspace's prior: at strength {press['strength']:g}, the most telling one of those that "
                f"were tried, {' and '.join(faults)}. {_way_out()}"
            )
    return ""


def _faults(press: Json) -> list[str]:
    """Return what is not as `first-press` wants it: most raw texts broken, hardly a walked one, and the concept in the one shown."""
    broken, concept, n = press["broken"], press["columns"]["walk"]["concept"], press["settings"]["prefixes"]
    wanted = (
        (broken["raw"] >= holding.SHOWN["raw"], f"only {broken['raw']:.0%} of {n} raw texts break"),
        (broken["walk"] <= holding.SHOWN["walk"], f"{broken['walk']:.0%} of {n} walked texts break too"),
        (concept >= holding.SHOWING, f"the walked text shows the concept with a probability of only {concept:.2f}"),
    )
    return [words for holds, words in wanted if not holds]


def _way_out() -> str:
    folder = workspace_facts.folder()
    build = BuildState.read(folder)
    if build.glp or build.effort == "full":
        further = workspace_facts.command(f"train --run longer --from {shlex.quote(str(folder / 'glp'))} --install")
        return workspace_facts.told(f"Train it further: `{further}`.")
    return f"A full build trains it longer, and measures more: `{workspace_facts.command('build --effort full')}`."
