"""What a workspace's reports must hold for those who read them: one checked reader for pages and commands, and one list of shapes.

A report that is not listed is any JSON object. Needs no torch.
"""

import platform
from importlib import metadata
from pathlib import Path

from glp_core.checked.shapes import Limits, Many, Maybe, OneOf, Shape, check
from glp_core.errors import GlpError
from glp_core.files import Json, read_object
from glp_core.prior.reference import Reference

COUNT = Limits(int, 0, 10**15)
SHARE = Limits(float, 0, 1)
INTERVAL = (float, float)
LEVEL = Limits(float, -3, 3)
UNMEASURED = Maybe(float)

REFERENCE = {
    "sigma": SHARE,
    "noise_seed": Limits(int, 0, 2**63 - 1),
    "quantiles": Many((SHARE, Limits(float, 1e-30, 1e30)), 2),
    "n?": COUNT,
}
_DELTA = {"glp": float, "gaussian_mean": float, "mean_ablation": float, "documents?": COUNT, "tokens?": COUNT}
_POSITION = {"layer": COUNT, "unit": COUNT}
_ARM_ZONE = {
    "drifting": Maybe(Limits(float, 1e-9, 3)),
    "broken": Maybe(Limits(float, 1e-9, 3)),
    "rows": Many({"strength": float}, 1),
}
_WALK = {
    "noise_level": SHARE,
    "pushes": Limits(int, 1, 64),
    "hold": SHARE,
    "part?": Limits(float, 0, 1e6),
    "fresh?": bool,
    "tilt?": Limits(float, -1, 1),
    "enough?": Limits(float, 0, 1e6),
}
_STEERED = {
    "arm": str,
    "strength": float,
    "concept": UNMEASURED,
    "log_probability": UNMEASURED,
    "repetition": UNMEASURED,
    "n": COUNT,
    **dict.fromkeys(("concept_ci?", "log_probability_ci?", "repetition_ci?", "repeated_bigrams_ci?"), Maybe(INTERVAL)),
    "repeated_bigrams?": UNMEASURED,
}
_POINT = {"strength": float, "gain": float, "fluency": float}
_VERDICTS = Many(dict.fromkeys(("against", "where", "directions", "mean"), str))
_ALONG = {
    "title": str,
    "n": COUNT,
    "sentence": str,
    "arms": {"*": {"points": Many(_POINT, 1), "hypervolume": float, "hypervolume_ci": INTERVAL}},
    "best": {"*": _POINT},
    "differences": {"*": {"verdict": str}},
    "best_differences": {"*": {"verdict": str}},
}
_MEASURED = {"value": float, "ci": INTERVAL}
_TESTED = {"accuracy": float, "ci": INTERVAL, "drawn": float, "real": float}
_BORDER = {"value": UNMEASURED, "ci?": (UNMEASURED, UNMEASURED)}
_PRESS = {"prompt": str, "direction": str, "strength": LEVEL, "seed": Limits(int, 0, 2**31 - 1)}

SHAPES: dict[str, Shape] = {
    "reference": REFERENCE,
    "evaluate": {
        "validation_loss?": float,
        "gaussian_loss?": UNMEASURED,
        "validation?": {"activations?": COUNT},
        "delta_lm?": _DELTA,
        "before?": {"delta_lm?": {"glp": float}},
    },
    "bench": {"projection?": {"ab2?": {"*": float}}},
    "first_press": {
        **_PRESS,
        "settings": {"tokens": Limits(int, 1, 256), "temperature": Limits(float, 0, 2), "prefixes?": COUNT},
        "broken?": {"raw": SHARE, "walk": SHARE},
        "columns?": {"*": {"concept?": UNMEASURED}},
        "second?": Maybe({**_PRESS, "columns": {"raw": {"repetition": SHARE}, "walk": {"repetition": SHARE}}}),
    },
    "walk_tuning": {
        "chosen": Maybe({"short": _WALK, "long": _WALK, "border": Limits(float, 0, 1e6)}),
        "lengths?": {"*": Limits(float, 0, 1e6)},
    },
    "probing": {
        "n_tasks": COUNT,
        "mean_auc": {"glp": SHARE, "*": SHARE},
        "ci": {"glp": INTERVAL, "*": INTERVAL},
        "best_baseline": OneOf(("mlp", "layer", "sae")),
        "paired_difference": float,
        "paired_difference_ci": INTERVAL,
        "rows": Many(
            {
                "task": str,
                "asks": str,
                **dict.fromkeys(("n_train", "n_validation", "n_test"), COUNT),
                "positive_share": SHARE,
                "glp": _POSITION | {"sign": OneOf((1, -1)), "auc": SHARE, "validation_auc": SHARE, "ci": INTERVAL},
                **dict.fromkeys(("mlp?", "layer?", "sae?"), {"auc": SHARE}),
                "examples": {"positive": Many(str), "negative": Many(str)},
            },
            1,
        ),
    },
    "strengths": {
        "directions": {
            "*": {
                "arms": {"raw": _ARM_ZONE, "walk": _ARM_ZONE},
                "recommended": Maybe(Limits(float, 1e-9, 3)),
                "n": COUNT,
                "digest?": str,
            }
        }
    },
    "pareto": {"directions": {"*": _ALONG}, "summary": {"verdicts": _VERDICTS}},
    "bests": {"verdicts": _VERDICTS, "prefixes": Many(str)},
    "scorecard": {
        "rows": Many(
            {
                "method": str,
                "way": str,
                "delta_lm": Maybe(_MEASURED),
                "frechet": _MEASURED,
                "logistic": {"accuracy": float, "ci": INTERVAL},
                "neighbour": _TESTED,
            },
            1,
        ),
        **dict.fromkeys(("n", "tested", "documents", "tokens", "pca_components"), COUNT),
        "base_loss": float,
        "mean_ablation": {"value": float},
        "sae": object,
        "intervals": str,
    },
    "conversations": {
        "ratios": {"all": _MEASURED, "*": _MEASURED},
        "text_error": float,
        "conversations": COUNT,
        "sigma": SHARE,
    },
    "detection": {
        "rows": Many(
            {
                "kind": str,
                "measure": OneOf(("error", "displacement", "mahalanobis", "neighbour", "likelihood")),
                "auroc": SHARE,
                "ci": INTERVAL,
                "n": COUNT,
                "roc?": Many(float),
            },
            1,
        ),
        "n_real": COUNT,
        "rates?": Many(float),
    },
    "zones": {
        "projection": Many(
            {
                "title": str,
                "strength": float,
                **dict.fromkeys(("lower_percentile", "nearer", "percentile_raw", "percentile_glp"), SHARE),
                "n": COUNT,
            }
        ),
        "bins": Many({"distance": float, "broken": SHARE, "n": COUNT}),
        "borders": {"drifting": _BORDER, "broken": _BORDER, "share_broken": {"drifting": SHARE, "broken": SHARE}},
        "auroc": _MEASURED,
        "limits": {"log_probability": float, "repetition": float},
        "n_texts": COUNT,
        "n_broken": COUNT,
    },
    "measures": {"measures": {"*": {"n": COUNT, "quantiles": Many(float, 2)}}},
    "layers": {"layers": {"*": {"median_norm": Limits(float, 1e-30, 1e30), "reference": REFERENCE}}},
    "scaling": {"gaussian_loss?": UNMEASURED},
}
"""Name of a report to its shape; those that steering_… holds have one shape."""
STEERING = {
    "rows": Many(_STEERED, 1),
    "elsewhere?": Many({"arm": str, "strength": float, "loss_rise": float, "loss_rise_ci": INTERVAL, "n": COUNT}),
    "settings": {"direction?": str, "noise_level?": UNMEASURED},
}


MADE_BY = {
    **dict.fromkeys(("reference", "evaluate", "layers", "conversations"), "evaluate"),
    "measures": "bank",
    "detection": "detect",
    "probing": "probe",
    "first_press": "first-press",
    "walk_tuning": "tune-walk",
    **{name: name for name in ("strengths", "pareto", "scorecard", "zones", "scaling")},
}
"""Name of a report to the command that makes it."""


def read_report(path: Path) -> Json:
    """Return a report, whose name is the file's.

    Raises:
        GlpError: it is missing, damaged, or not what its readers need.
    """
    try:
        return _checked(read_object(path), path.stem, str(path))
    except GlpError as error:
        made_by = MADE_BY.get(path.stem, "steer" if path.stem.startswith("steering_") else "")
        raise GlpError(f"{error} Make it again with `python -m glp_core {made_by}`." if made_by else str(error)) from error


def _checked(report: Json, name: str, where: str) -> Json:
    steering = name.startswith("steering_") and not name.endswith("_vader")
    check(report, SHAPES.get(name, STEERING if steering else {}), f"{where} is damaged")
    rows = report["layers"].values() if name == "layers" else ()
    references = [report] if name == "reference" else [row["reference"] for row in rows]
    try:
        for stored in references:
            Reference(stored)
    except GlpError as error:
        raise GlpError(f"{where} is damaged. {error}") from error
    if name == "probing" and report["best_baseline"] not in report["mean_auc"]:
        raise GlpError(f"{where} is damaged: it lacks the mean AUC of its best baseline.")
    if name == "pareto" and not report["directions"]:
        raise GlpError(f"{where} is damaged: it has no direction.")
    if name == "layers" and not all(layer.isdecimal() and len(layer) < 6 for layer in report["layers"]):
        raise GlpError(f"{where} is damaged: a layer has no number.")
    return report


def versions() -> dict[str, str]:
    """Return the versions of what decides numbers, as reports and workspaces name them."""
    packages = ("torch", "transformers", "numpy")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in packages}
