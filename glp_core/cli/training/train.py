"""Train a GLP on collected activations; killed and started again, it goes on where it was."""

import argparse
from dataclasses import MISSING, fields
from pathlib import Path

from glp_core.cli.console import (
    add_device_argument,
    add_store_argument,
    add_workspace_argument,
    open_workspace,
    reporter,
    say,
    stopping,
)
from glp_core.data.store import ActivationStore
from glp_core.errors import GlpError
from glp_core.training.kept_weights import keep_final
from glp_core.training.plan import TrainConfig
from glp_core.training.publishing import install, publish
from glp_core.training.start import Start
from glp_core.training.trainer import Trainer
from glp_core.workspace import DTYPES, torch_dtype


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments: one for each field of TrainConfig."""
    add_workspace_argument(parser)
    add_device_argument(parser)
    parser.add_argument("--run", default="main", help="the run's name (default: main)")
    add_store_argument(parser)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="states and checkpoints (default: the cache folder)")
    words = "go on from another GLP's weights, with its shape and statistics: a GLP folder"
    parser.add_argument("--from", dest="start", type=Path, metavar="FOLDER", help=words)
    parser.add_argument("--install", action="store_true", help="make the result the workspace's GLP")
    parser.add_argument(
        "--keep-weights", action="store_true", help="put the final weights beside the run's log: a prior to choose"
    )
    parser.add_argument("--dtype", choices=DTYPES, default="auto", help="of the arithmetic (default: bfloat16 where native)")
    shape = parser.add_argument_group("configuration")
    for one in fields(TrainConfig):
        assert one.default is not MISSING
        flag = "--" + one.name.replace("_", "-")
        shape.add_argument(flag, type=type(one.default), default=one.default, help=f"(default: {one.default:,})", metavar="X")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    workspace = open_workspace(args)
    if not args.run.replace("-", "").replace("_", "").isalnum():
        raise GlpError(f"--run is {args.run!r}, wanted letters, digits, - and _.")
    config = TrainConfig(**{one.name: getattr(args, one.name) for one in fields(TrainConfig)})
    store = ActivationStore(args.store or workspace.store_folder)
    folder = args.out or workspace.training_folder / args.run
    start = Start.read(args.start) if args.start else None
    config = start.shaped(config) if start else config
    device = workspace.device
    trainer = Trainer(config, store, folder, dtype=torch_dtype(args.dtype, device), device=device, start=start)
    say(f"Training run {args.run} in {folder}: step {trainer.step:,} of {config.steps:,}, {config.batch:,} activations a step.")
    if trainer.step < config.steps:
        with stopping(at_once=False) as stop:
            trainer.run(progress=reporter("train"), stop=stop)
    publish(folder, workspace.folder / "runs" / args.run)
    if trainer.step < config.steps:
        say(f"\nStopped at step {trainer.step:,}; the state is saved. Start the same command again: it goes on from there.")
        return 130
    if args.keep_weights:
        keep_final(folder, workspace.folder / "runs" / args.run / "glp")
    if args.install:
        install(folder, workspace.folder / "glp")
        say(
            f"{workspace.folder / 'glp'} now holds this run's GLP. The reports, the meta-neuron index and the solver `fitted` were made "
            "with the one before: make them anew, `python -m glp_core evaluate` and `python -m glp_core solvers` first."
        )
    say(f"Run {args.run} is done; its log is {workspace.folder / 'runs' / args.run / 'train.csv'}.")
    return 0
