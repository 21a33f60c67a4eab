"""`python -m tests.bench.checked_walk`: try walks whose every part is checked by likelihood, on validation prefixes.

Two checks by the manifold distance that the prior gives a place (its denoising error is a bound on -log p, up to a factor): a walk
that stops where 95% of real activations lie nearer, and a Metropolis test of every part, for the density p(z) exp(lambda a z) along
the direction a, where a whole push is worth the rise up to that bound. Both beside the same walks without a check, and raw. Writes
reports/walk_checked.json, as `tune-walk` does.
"""

import argparse
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch.special import log_ndtr

from glp_core.cli.console import reporter, say
from glp_core.prior.distance import ManifoldMeter
from glp_core.prior.glp import GLP
from glp_core.prior.projection import make_projector
from glp_core.prior.walk import WalkSettings
from glp_core.steering.trials.tuning import Form, tune, walk_name
from glp_core.workspace import DEMO, Workspace

DIRECTIONS = ["click-bait", "code", "film-reviews", "medicine", "sports", "pirate"]
STRENGTHS = [0.3, 0.6, 1.0, 1.4]


@dataclass(frozen=True, eq=False)
class CheckedWalk:
    """Take a push in parts; keep each part only where its check passes."""

    glp: GLP
    settings: WalkSettings
    meter: ManifoldMeter
    metropolis: bool
    """Test each part by chance; else stop at the first that leaves the bound."""
    name: str = "walk"

    @property
    def draws(self):
        return 2 * self.settings.pushes

    def __call__(self, edited, clean, generator=None, *, noise):
        parts = self.settings.pushes
        now, part = clean, (edited - clean) / parts
        far, bound = self.meter.distance(now), self.meter.band()[1]
        going = torch.ones(len(now), dtype=torch.bool)
        nats = self.glp.d_input / 2 * self.meter.reference.median_error
        for k, level in enumerate(self.settings.levels()):
            single = replace(self.settings, noise_level=level, pushes=1, tilt=0.0)
            after = self.glp.walk_by(single, now, part, noise[k : k + 1])
            distance = self.meter.distance(after)
            if self.metropolis:
                worth = nats * ((bound**2 - 1) / parts - (distance**2 - far**2))
                kept = log_ndtr(noise[parts + k, :, 0].cpu()) < worth  # the normal's share below is uniform
            else:
                going &= distance <= far.clamp_min(bound)
                kept = going
            now = torch.where(kept[:, None], after, now)
            far = torch.where(kept, distance, far)
        return now


def forms(workspace, glp):
    """Return raw, the two walks of the workspace's rule, and each with both checks."""
    rule, meter = workspace.walk(), ManifoldMeter(glp, workspace.report("reference"))
    made = [Form("raw", "raw", None, {})]
    for walk in (rule.short, rule.long):
        name = walk_name(walk)
        made.append(Form(name, "walk", make_projector("walk", glp=glp, walk=walk), asdict(walk)))
        for check, metropolis in (("stops at the bound", False), ("Metropolis", True)):
            projector = CheckedWalk(glp, walk, meter, metropolis)
            made.append(Form(f"{name}, {check}", check, projector, asdict(walk)))
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=DEMO)
    parser.add_argument("--directions", nargs="+", default=DIRECTIONS)
    parser.add_argument("--limit", type=int, default=16, help="prefixes")
    args = parser.parse_args()
    workspace = Workspace.open(args.workspace)
    directions, glp = workspace.directions(args.directions), workspace.load_glp()
    prefixes = workspace.prefixes("validation_prefixes", None)[: args.limit]
    report = tune(
        workspace.load_llm(),
        glp,
        directions,
        forms(workspace, glp),
        prefixes,
        strengths=STRENGTHS,
        progress=reporter("tune"),
    )
    settings = {"directions": args.directions, "prefixes": len(prefixes), "strengths": STRENGTHS}
    workspace.save_report("walk_checked", report | {"settings": settings})
    for row in report["forms"]:
        say(f"{row['hypervolume']:.3f}  {row['hypervolume_ci']}  {row['gain_at_equal_fluency']:.3f}  {row['name']}")


if __name__ == "__main__":
    main()
