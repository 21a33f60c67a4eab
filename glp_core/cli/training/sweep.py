"""Train GLPs of several sizes on one store, one after another, score their checkpoints, and put their logs into the workspace.

All read the same stream in the same order, with the same seed, held-out rows and schedule rule; only size and length differ. Each
step of it goes on where it was stopped: a run in training, the checkpoints that have no score yet.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from glp_core.checked.shapes import Limits, check
from glp_core.cli.console import add_workspace_arguments, open_workspace, reporter, say, stopping
from glp_core.data.store import ActivationStore
from glp_core.devices import named_dtype
from glp_core.errors import GlpError
from glp_core.evaluation.checkpoint_scores import WAYS, Scorer, score_run
from glp_core.files import read_json
from glp_core.training.kept_weights import keep_final
from glp_core.training.plan import TrainConfig, peak_rate
from glp_core.training.publishing import publish
from glp_core.training.trainer import Trainer
from glp_core.workspace import DTYPES

SIZES = {
    "small": (288, 576, 3),
    "middle": (576, 1152, 3),
    "middle-deep": (576, 1152, 6),
    "demo": (1152, 2304, 3),
    "demo-deep": (1152, 2304, 6),
}
"""Name to d_model, d_mlp, n_layers."""
ACTIVATIONS = 10_000_000
STORED = {"train": {"first_checkpoint": Limits(int, 1, 10**15)}}
"""What is taken from a run's run.json."""
FEWEST_CHECKPOINTS = 8
"""Kept of a run: the first one comes early enough for so many doublings."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser, store=True)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, metavar="SIZE", help=f"of {', '.join(SIZES)} (default: all)")
    words = f"activations each sees, or SIZE=N for one size (default: {ACTIVATIONS:,})"
    parser.add_argument("--activations", nargs="+", default=[], metavar="N", help=words)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="training folders (default: the cache folder)")
    parser.add_argument("--dtype", choices=DTYPES, help="of the arithmetic (default: bfloat16 where native)")
    parser.add_argument("--existing", nargs="+", metavar="RUN", help="train nothing: score and publish these runs in --out")
    words = "put the final weights of these runs beside their logs: priors to choose on the pages"
    parser.add_argument("--keep-weights", nargs="+", default=[], metavar="RUN", help=words)
    add_score_arguments(parser.add_argument_group("scores"))


def add_score_arguments(group: argparse._ArgumentGroup) -> None:
    """Add what the scores of checkpoints are measured with; the defaults are `Scorer`'s."""
    group.add_argument("--scores", nargs="*", choices=WAYS, default=[], help="of every kept checkpoint (default: none)")
    group.add_argument("--again", action="store_true", help="measure anew what was measured with other settings")
    group.add_argument("--samples", type=int, default=Scorer.samples, help="of the Frechet distance (default: %(default)s)")
    group.add_argument("--documents", type=int, default=Scorer.n_documents, help="of the Delta LM loss (default: %(default)s)")
    words = "last-token activations of `probe --activations FOLDER`; what is missing there is added (default: the cache folder)"
    group.add_argument("--probing", type=Path, metavar="FOLDER", help=words)
    words = "of the steering score (default: %(default)s)"
    group.add_argument("--direction", default=Scorer.direction, metavar="NAME", help=words)
    group.add_argument("--prefixes", type=int, default=Scorer.prefixes, metavar="N", help=words)
    group.add_argument("--strengths", type=float, nargs="+", default=list(Scorer.strengths), metavar="X", help=words)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    given = [name for name in ("sizes", "activations", "dtype") if getattr(args, name)]
    if args.existing and given:
        raise GlpError(f"--{given[0]} is of runs that are trained, and --existing trains none: leave one of the two out.")
    workspace = open_workspace(args)
    store = workspace.open_store(args.store)
    home = args.out or workspace.training_folder
    lengths = activations_of(args.activations)
    names = args.existing or args.sizes or list(SIZES)
    stray = [name for name in args.keep_weights if name not in names]
    if stray:
        raise GlpError(f"--keep-weights names {stray[0]!r}, which is none of this command's runs: {', '.join(names)}.")
    scorer = Scorer(
        workspace,
        store,
        samples=args.samples,
        n_documents=args.documents,
        probing=args.probing,
        direction=args.direction,
        prefixes=args.prefixes,
        strengths=tuple(args.strengths),
        progress=reporter("texts of the probing tasks"),
    )
    for name in names:
        folder = home / name
        if args.existing:
            if folder.parent != home or not (folder / "train.csv").is_file():
                raise GlpError(f"There is no run {name!r} in {home}.")
        elif not train(plan(name, lengths[name], folder), store, folder, dtype=args.dtype or "auto", device=workspace.device):
            publish(folder, workspace.folder / "runs" / name)
            say(f"\nStopped in run {name}; start the same command again: it goes on from there.")
            return 130
        publish(folder, workspace.folder / "runs" / name)
        if args.scores:
            with stopping(at_once=True):
                score_run(folder, scorer, args.scores, again=args.again, progress=reporter(name))
            publish(folder, workspace.folder / "runs" / name)
        if name in args.keep_weights:
            keep_final(folder, workspace.folder / "runs" / name / "glp")
    say(f"The logs are in {workspace.folder / 'runs'}; `python -m glp_core scaling` fits the law.")
    return 0


def activations_of(words: Sequence[str]) -> dict[str, int]:
    """Return the activations that each size is to see, from words like 3000000 and demo=10000000.

    Raises:
        GlpError: a word is neither.
    """
    lengths = dict.fromkeys(SIZES, ACTIVATIONS)
    for word in sorted(words, key=lambda word: "=" in word):
        name, _, number = word.rpartition("=")
        digits = number.replace("_", "").replace(",", "")
        if not digits.isdecimal() or int(digits) < 1 or (name and name not in SIZES):
            raise GlpError(f"--activations got {word!r}, wanted a number, or SIZE=number with SIZE one of {', '.join(SIZES)}.")
        lengths |= {name: int(digits)} if name else dict.fromkeys(SIZES, int(digits))
    return lengths


def plan(name: str, activations: int, folder: Path) -> TrainConfig:
    """Return how a size is trained; a run that is made longer keeps the checkpoints that it began with."""
    d_model, d_mlp, n_layers = SIZES[name]
    config = TrainConfig(
        d_model=d_model, d_mlp=d_mlp, n_layers=n_layers, activations=activations, learning_rate=peak_rate(d_model)
    )
    if (folder / "run.json").is_file():
        stored = check(read_json(folder / "run.json"), STORED, f"{folder / 'run.json'} is damaged")
        return replace(config, first_checkpoint=stored["train"]["first_checkpoint"])
    while config.first_checkpoint > 1 and n_checkpoints(config) < FEWEST_CHECKPOINTS:
        config = replace(config, first_checkpoint=config.first_checkpoint // 2)
    return config


def n_checkpoints(config: TrainConfig) -> int:
    """Return how many checkpoints a run keeps."""
    return sum(config.keeps(step) for step in range(1, config.steps + 1))


def train(config: TrainConfig, store: ActivationStore, folder: Path, *, dtype: str, device: str = "cpu") -> bool:
    """Train one size to its end, going on where it was; return False when it was stopped."""
    trainer = Trainer(config, store, folder, dtype=named_dtype(dtype, device), device=device)
    if trainer.step < config.steps:
        with stopping(at_once=False) as stop:
            trainer.run(progress=reporter(folder.name), stop=stop)
    return trainer.step == config.steps
