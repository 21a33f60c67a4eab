"""Train GLPs of several sizes on one store, one after another, score their checkpoints, and put their logs into the workspace."""

import argparse
import shutil
from pathlib import Path

from glp_core.activations import ActivationStore
from glp_core.checkpoint_scores import WAYS, Scorer, score_run
from glp_core.cli.console import add_workspace_argument, open_workspace, reporter, say, stopping
from glp_core.cli.train import publish
from glp_core.errors import GlpError
from glp_core.files import replacing
from glp_core.training import Trainer
from glp_core.training_plan import TrainConfig
from glp_core.workspace import DTYPES, Workspace, torch_dtype

SIZES = {
    "small": (288, 576, 3),
    "middle": (576, 1152, 3),
    "middle-deep": (576, 1152, 6),
    "demo": (1152, 2304, 3),
    "demo-deep": (1152, 2304, 6),
}
"""Name to d_model, d_mlp, n_layers."""
RATE, WIDTH = 1.5e-3, 1152
"""Peak learning rate of that width; other widths get RATE * sqrt(WIDTH / width)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_argument(parser)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES), metavar="SIZE", help=f"of {', '.join(SIZES)}")
    parser.add_argument("--activations", type=int, default=10_000_000, help="activations each sees (default: 10,000,000)")
    parser.add_argument("--store", type=Path, metavar="FOLDER", help="collected activations (default: the workspace's)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="training folders (default: the cache folder)")
    parser.add_argument("--dtype", choices=DTYPES, default="auto", help="of the arithmetic (default: bfloat16 where native)")
    parser.add_argument("--existing", nargs="+", metavar="RUN", help="train nothing: score and publish these runs in --out")
    parser.add_argument("--scores", nargs="*", choices=WAYS, default=[], help="of every kept checkpoint (default: none)")
    parser.add_argument("--samples", type=int, default=4000, help="of the Frechet distance (default: 4,000)")
    parser.add_argument("--documents", type=int, default=32, help="of the Delta LM loss (default: 32)")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    workspace = open_workspace(args)
    store = ActivationStore(args.store or workspace.store_folder)
    home = args.out or workspace.training_folder
    scorer = Scorer(workspace, store, samples=args.samples, n_documents=args.documents)
    for name in args.existing or args.sizes:
        folder = home / name
        if args.existing:
            if folder.parent != home or not (folder / "train.csv").is_file():
                raise GlpError(f"There is no run {name!r} in {home}.")
        elif not train(name, args, store, folder):
            publish_run(workspace, name, folder)
            say(f"\nStopped in run {name}; start the same command again: it goes on from there.")
            return 130
        if args.scores:
            score_run(folder, scorer, args.scores, progress=reporter(name))
        publish_run(workspace, name, folder)
    say(f"The logs are in {workspace.folder / 'runs'}; `python -m glp_core scaling` fits the law.")
    return 0


def train(name: str, args: argparse.Namespace, store: ActivationStore, folder: Path) -> bool:
    """Train one size to its end, going on where it was; return False when it was stopped."""
    d_model, d_mlp, n_layers = SIZES[name]
    rate = RATE * (WIDTH / d_model) ** 0.5
    config = TrainConfig(
        d_model=d_model, d_mlp=d_mlp, n_layers=n_layers, activations=args.activations, learning_rate=round(rate, 6)
    )
    trainer = Trainer(config, store, folder, dtype=torch_dtype(args.dtype))
    if trainer.step < config.steps:
        with stopping(at_once=False) as stop:
            trainer.run(progress=reporter(name), stop=stop)
    return trainer.step == config.steps


def publish_run(workspace: Workspace, name: str, folder: Path) -> None:
    """Copy a run's configuration, log and scores into the workspace."""
    publish(workspace, name, folder)
    if (folder / "evals.csv").is_file():
        with replacing(workspace.folder / "runs" / name / "evals.csv") as scratch:
            shutil.copyfile(folder / "evals.csv", scratch)
