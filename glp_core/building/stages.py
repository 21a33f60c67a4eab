"""The stages of a build for one model: which files each makes, from what, and by which commands of `python -m glp_core`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from glp_core.building.about import ABOUT, About
from glp_core.building.sizes import Sizes, on_other_device
from glp_core.building.subject import Subject
from glp_core.data.store import TOKENS_PER_DOCUMENT
from glp_core.steering.origins.recipes import PERSONAS, RECIPES
from glp_core.training.plan import TrainConfig, peak_rate

STORE = "@store"
"""Stands for the folder of the workspace's activations in a command: it is no setting."""
Command = tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """A stage as it is made for one model."""

    name: str
    about: About
    makes: tuple[str, ...]
    """All its files."""
    needs: tuple[str, ...]
    commands: tuple[Command, ...]
    """Words after `python -m glp_core`, without --workspace and --device."""
    first: Command = ()
    """Further words of the first command while there is no workspace yet."""
    weights: str = ""
    """Digest of weights from elsewhere that it takes, whose folder may come to hold others."""
    elsewhere: tuple[Command, ...] = ()
    """The commands that make it, for the same effort, on a device of the other kind: its files serve as well."""

    @property
    def settings(self) -> list[str]:
        """What decides its files beside the prior: equal settings, equal files."""
        return self._with_weights(self.commands)

    def made_as(self, settings: list[str]) -> bool:
        """Say whether files of these settings are what it makes, here or on another device; earlier versions kept no weights."""
        return settings in (self.settings, _lines(self.commands), self._with_weights(self.elsewhere))

    def _with_weights(self, commands: Sequence[Command]) -> list[str]:
        return [*_lines(commands), *([f"weights {self.weights}"] if self.weights else [])]


def _lines(commands: Sequence[Command]) -> list[str]:
    return [" ".join(command) for command in commands]


def stages(subject: Subject, sizes: Sizes) -> tuple[Stage, ...]:
    """Return the stages that make this model's workspace in these sizes, in their order."""
    commands, elsewhere = _commands(subject, sizes), _commands(subject, on_other_device(sizes))
    made = []
    for name, about in ABOUT.items():
        if name not in commands:
            continue
        makes, needs = about.makes, about.needs
        if name == "directions":
            makes = tuple(f"directions/{one}.safetensors" for one in direction_names(subject, sizes))
        if name in ("strengths", "steering") and "tuning" in commands:
            needs = (*needs, "tuning")
        if name == "index" and sizes.probe_first:
            needs = (*needs, "probing")
        first, weights = subject.new_words if name == "collect" else (), subject.weights if name == "prior" else ""
        made.append(Stage(name, about, makes, needs, commands[name], first, weights, elsewhere[name]))
    return tuple(made)


def direction_names(subject: Subject, sizes: Sizes) -> tuple[str, ...]:
    """Return the directions that a build makes: personas only where the LLM can chat."""
    return sizes.directions or tuple(one.name for one in (*RECIPES, *(PERSONAS if subject.chat else ())))


def _commands(subject: Subject, sizes: Sizes) -> dict[str, tuple[Command, ...]]:
    """Return each stage's commands."""
    listed = {
        "collect": (_collect(subject, sizes),),
        "prior": (("install", subject.glp) if subject.glp else (*_train(subject, sizes, 1), "--install"),),
        **_about_prior(sizes),
        **_about_neurons(sizes),
        **_about_steering(direction_names(subject, sizes), sizes),
        "scaling": _scaling(subject, sizes),
    }
    return listed if sizes.tuned else {name: made for name, made in listed.items() if name != "tuning"}


def _collect(subject: Subject, sizes: Sizes) -> Command:
    asked = {"chat": sizes.chat if subject.chat else 0.0, "tokens_per_document": sizes.longest}
    return words(
        "collect", activations=sizes.activations, **_other(asked, {"chat": 0.0, "tokens_per_document": TOKENS_PER_DOCUMENT})
    )


def _train(subject: Subject, sizes: Sizes, narrower: int) -> Command:
    width = prior_width(subject, sizes, narrower)
    recipe = {"sigma_groups": sizes.sigma_groups, "decay": sizes.decay, "ema": sizes.ema}
    return words(
        "train",
        run=_run_name(subject, sizes, narrower),
        d_model=width,
        d_mlp=2 * width,
        n_layers=sizes.blocks,
        activations=sizes.trained,
        batch=sizes.batch,
        learning_rate=peak_rate(width),
        validation=sizes.held_out,
        **({"warmup": sizes.warmup * sizes.batch} if sizes.warmup else {}),
        **_other(recipe, vars(TrainConfig)),
    )


def _other(asked: Mapping[str, float], own: Mapping[str, float]) -> dict[str, float]:
    """Return the options that are other than a command's own, so that settings stay equal when an option is added."""
    return {name: value for name, value in asked.items() if value != own[name]}


def _scaling(subject: Subject, sizes: Sizes) -> tuple[Command, ...]:
    """Return how the law is found: narrower priors, scores of all checkpoints, the fit."""
    times = narrower_priors(subject, sizes)
    smaller = tuple(_train(subject, sizes, narrower) for narrower in times)
    runs = [_run_name(subject, sizes, narrower) for narrower in (*([] if subject.glp else [1]), *times)]
    scores = words("sweep", existing=runs, scores=sizes.scores, samples=sizes.score_samples)
    return (*smaller, scores, ("scaling",))


def _run_name(subject: Subject, sizes: Sizes, narrower: int) -> str:
    return f"{sizes.name}-{prior_width(subject, sizes, narrower)}"


def prior_width(subject: Subject, sizes: Sizes, narrower: int = 1) -> int:
    """Return the d_model of the prior, or of one that is so many times narrower."""
    return max(8, sizes.width * subject.width // narrower)


def narrower_priors(subject: Subject, sizes: Sizes) -> tuple[int, ...]:
    """Return how many times narrower the priors are that only the scaling law needs: one more where the first is not trained here."""
    return (*sizes.smaller, 2 * sizes.smaller[-1]) if subject.glp else sizes.smaller


def _about_prior(sizes: Sizes) -> dict[str, tuple[Command, ...]]:
    fit = {"documents": sizes.documents, "tokens": sizes.tokens}
    return {
        "evaluate": (
            words("evaluate", activations=sizes.held_out, samples=sizes.samples, conversations=sizes.documents, **fit),
        ),
        "bank": (words("bank", activations=sizes.bank, reference=sizes.reference),),
        "detection": (words("detect", activations=sizes.detected, likelihood=sizes.likelihood),),
        "scorecard": (words("scorecard", samples=sizes.samples, tested=sizes.tested, **fit),),
        "solvers": (words("solvers", training=sizes.solver_rows, held_out=2 * sizes.solver_rows),),
    }


def _about_neurons(sizes: Sizes) -> dict[str, tuple[Command, ...]]:
    train, validation, test = sizes.rows
    return {
        "index": (words("index", store=STORE),),
        "sae": (words("sae", activations=sizes.sae_activations, expansion=sizes.sae_expansion),),
        "probing": (words("probe", train=train, validation=validation, test=test),),
        "map": (("map",),),
    }


def _about_steering(names: Sequence[str], sizes: Sizes) -> dict[str, tuple[Command, ...]]:
    some, along = list(names[: max(2, len(names) // 2)]), {"directions": names, "tokens": sizes.written}
    return {
        "directions": (words("directions", only=names),),
        "tuning": (words("tune-walk", limit=sizes.tuned, **along),),
        "strengths": (
            words("strengths", limit=sizes.advice, strengths=sizes.strengths, **along),
            words("first-press", limit=sizes.advice),
        ),
        "zones": (words("zones", steered=sizes.zones, directions=some, tokens=sizes.written),),
        "steering": (
            words("steer", limit=sizes.steered, strengths=sizes.steering_strengths, documents=sizes.elsewhere, **along),
            words("pareto", directions=names),
        ),
    }


def words(command: str, **options: object) -> Command:
    """Return a command line: options by their names, True for a flag, several values of a sequence; empty ones are left out."""
    line = [command]
    for name, value in options.items():
        values = [value] if isinstance(value, str | bool) or not isinstance(value, Sequence) else list(value)
        if values:
            line += [f"--{name.replace('_', '-')}", *(str(one) for one in values if one is not True)]
    return tuple(line)
