"""What ships in assets/demo belongs together: every artefact was made with the prior that lies beside it."""

import csv
import json

import pytest
from safetensors import safe_open

from glp_core.workspace import DIGEST_LENGTH

NOT_OF_THE_GLP = {"sae"}
"""Reports that measure no GLP."""


def digests(workspace):
    """Return the GLP's digest in every artefact that was made with one; None where it names none."""
    reports = [path.stem for path in (workspace.folder / "reports").glob("*.json")]
    named = {name: workspace.report(name).get("glp_digest") for name in reports if name not in NOT_OF_THE_GLP}
    named["maps"] = json.loads((workspace.neurons / "maps.json").read_text()).get("glp_digest")
    named["bank"] = json.loads((workspace.folder / "bank" / "bank.json").read_text()).get("made_from", {}).get("glp_digest")
    with safe_open(workspace.neurons / "concepts.safetensors", "np") as file:
        named["concepts"] = file.metadata().get("glp_digest")
    return named


def strangers(named, own):
    """Return the artefacts that were not made with the GLP of digest `own`; none where no artefact names any (older versions)."""
    return {} if not any(named.values()) else {name: digest for name, digest in named.items() if digest != own}


def test_every_artefact_is_of_the_prior_that_ships(demo):
    index = json.loads((demo.neurons / "index.json").read_text())["facts"]
    own = demo.glp_digest()
    assert len(own) == DIGEST_LENGTH and index["glp"].startswith(own), "the index"
    assert strangers(digests(demo), own) == {}, "make these again, each with the command that its report names"


@pytest.mark.parametrize(
    ("named", "caught"),
    [({"a": None, "b": None}, {}), ({"a": "1", "b": "1"}, {}), ({"a": "1", "b": None}, {"b"}), ({"a": "2", "b": "1"}, {"a"})],
)
def test_an_artefact_of_another_prior_would_be_caught(named, caught):
    assert set(strangers(named, "1")) == set(caught)


def test_the_law_was_fitted_to_the_runs_that_ship(demo):
    fitted = {run["name"]: (run["parameters"], run["activations"], run["loss"]) for run in demo.report("scaling")["runs"]}
    shipped = {}
    for log in (demo.folder / "runs").glob("*/train.csv"):
        rows = list(csv.DictReader(log.open()))
        started = json.loads((log.parent / "config.json").read_text()).get("start", {}).get("about", {})
        seen, flops = float(rows[-1]["activations"]), float(rows[-1]["flops"])
        loss = [row["validation_loss"] for row in rows if row["validation_loss"]][-1]
        shipped[log.parent.name] = (round(flops / seen / 6), seen + started.get("activations_seen", 0), float(loss))
    assert fitted.keys() == shipped.keys() and len(shipped) > 1
    for name, numbers in fitted.items():
        assert numbers == pytest.approx(shipped[name], rel=1e-4), name
