"""What the stages of a build are, whatever the model: titles, pages, files; needs no torch, so that pages have it at once."""

from dataclasses import dataclass


@dataclass(frozen=True)
class About:
    """What a stage is, whatever the model."""

    title: str
    page: str
    """The pages that it lights up."""
    makes: tuple[str, ...]
    """Files of the workspace; @store and @sae stand for those in the cache folder."""
    needs: tuple[str, ...] = ()
    """Stages whose files it reads."""
    supply: bool = False
    """Whether it makes only what other stages read, and is left alone when none of them runs."""
    of_prior: bool = True
    """Whether another prior makes its files stale."""


ABOUT = {
    "collect": About(
        "activations of the layer", "all", ("workspace.json", "@store/statistics.safetensors"), supply=True, of_prior=False
    ),
    "prior": About("the prior", "all", ("glp/final.safetensors", "glp/statistics.safetensors"), ("collect",), of_prior=False),
    "evaluate": About(
        "how good the prior is; the reference of distances",
        "Overview, Manifold",
        ("reports/reference.json", "reports/evaluate.json"),
        ("prior", "collect"),
    ),
    "directions": About("directions to steer along", "Steering", (), ("collect",), of_prior=False),
    "index": About("the index of meta-neurons", "Meta-neurons", ("neurons/index.json",), ("prior", "collect")),
    "sae": About("a sparse autoencoder to compare with", "Concepts", ("@sae",), ("collect",), supply=True, of_prior=False),
    "probing": About(
        "113 concepts probed",
        "Concepts",
        ("reports/probing.json", "neurons/concepts.safetensors", "neurons/task_scores.parquet"),
        ("prior", "sae"),
    ),
    "bank": About(
        "real activations to compare with", "Manifold", ("bank/bank.json", "reports/measures.json"), ("evaluate", "collect")
    ),
    "tuning": About("how walks go", "Steering", ("reports/walk_tuning.json",), ("evaluate", "directions")),
    "strengths": About(
        "strengths to recommend, and the first example",
        "Steering",
        ("reports/strengths.json", "reports/first_press.json"),
        ("evaluate", "directions"),
    ),
    "map": About("maps of the meta-neurons", "Meta-neurons", ("neurons/maps.json",), ("index", "probing")),
    "detection": About(
        "what each measure of distance detects", "Manifold", ("reports/detection.json",), ("bank", "directions")
    ),
    "zones": About("at which distances text breaks", "Manifold", ("reports/zones.json",), ("evaluate", "directions")),
    "steering": About(
        "what steering gains and costs", "Manifold, Steering", ("reports/pareto.json",), ("evaluate", "directions")
    ),
    "scorecard": About("the prior beside simpler ones", "Manifold", ("reports/scorecard.json",), ("prior", "sae")),
    "solvers": About("the two-call solver and its error", "in code", ("reports/solvers.json",), ("prior", "collect")),
    "scaling": About("what compute buys", "Scaling", ("reports/scaling.json",), ("directions", "probing")),
}
"""Name to what it is, in the order of a build."""
