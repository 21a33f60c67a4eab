"""Make a GLP from elsewhere, ours or a released one, the prior of a workspace: checked first, and with what its folder may lack."""

from pathlib import Path

from glp_core.errors import GlpError
from glp_core.files import copy_file, file_digest, together, write_tensors
from glp_core.prior.checkpoint import glp_folder, read_glp, read_statistics
from glp_core.prior.facts import GlpFacts, stored_facts

CONFIGURATIONS = ("config.json", "config.yaml")


def check_prior(where: str, width: int, layer: int | None = None) -> GlpFacts:
    """Return what a GLP's folder says of it, before anything is read or copied.

    Args:
        where: a folder, or a hub id, with @commit to pin it.
        width: of the activations that it is to serve.
        layer: of the LLM that it is to serve, where that is known.
    Raises:
        GlpError: there is no GLP, or it is of activations of another width or of another layer.
    """
    folder = glp_folder(where)
    stored_facts(folder)  # a folder that is none says so
    facts = GlpFacts.read(folder)
    if facts.d_input != width:
        raise GlpError(
            f"The GLP {where} is of activations of width {facts.d_input}, the LLM's have {width}: it was trained on another model."
        )
    if layer is not None and facts.layers and layer not in facts.layers:
        served = ", ".join(map(str, facts.layers))
        raise GlpError(
            f"The GLP {where} serves layer {served}, not {layer}. Take one of that layer, or make a workspace of a layer that it serves."
        )
    return facts


def prior_digest(where: str) -> str:
    """Return what tells a GLP's final weights from all others; GlpError when it has none."""
    path = glp_folder(where) / "final.safetensors"
    if not path.is_file():
        raise GlpError(f"The GLP {where} has no final.safetensors: wanted a folder with its weights.")
    return file_digest(path)


def install_from(where: str, target: Path, activations: Path, width: int, layer: int) -> GlpFacts:
    """Copy a GLP into `target`, the workspace's glp folder, and return what it says of itself.

    Args:
        activations: the workspace's store, whose covariance is taken where the GLP's statistics have none, or serve several layers.
    Raises:
        GlpError: as `check_prior`, or the GLP is damaged.
    """
    facts, folder = check_prior(where, width, layer), glp_folder(where)
    read_glp(folder)  # a damaged one is not installed
    statistics = read_statistics(folder)
    if facts.depth or "covariance" not in statistics:  # that of several layers is of one that is not named
        statistics["covariance"] = read_statistics(activations)["covariance"]
    there = [name for name in (*CONFIGURATIONS, "final.safetensors") if (folder / name).is_file()]
    with together():
        write_tensors(target / "statistics.safetensors", statistics)
        for name in there:
            copy_file(folder / name, target / name)
    for name in {*CONFIGURATIONS} - {*there}:
        (target / name).unlink(missing_ok=True)
    return facts
