"""Train a GLP on collected activations, or on those of an LLM that reads texts meanwhile; killed and started again, it goes on.

Several processes train together when `torchrun --nproc-per-node 8 -m -- glp_core train` starts them.
"""

import argparse
from dataclasses import MISSING, fields, replace
from pathlib import Path

import torch

from glp_core.cli.console import add_workspace_arguments, open_workspace, reporter, say, stopping
from glp_core.cli.data.collect import check_length
from glp_core.data.store import TOKENS_PER_DOCUMENT, ActivationStore
from glp_core.devices import named_dtype
from glp_core.errors import GlpError
from glp_core.memory import check_room
from glp_core.progress import quiet, unheard
from glp_core.training.kept_weights import keep_final
from glp_core.training.plan import TrainConfig
from glp_core.training.publishing import install, publish
from glp_core.training.ranks import Ranks
from glp_core.training.start import Start
from glp_core.training.stream import FEWEST_BATCHES, StreamConfig, StreamSupply
from glp_core.training.supply import StoreSupply
from glp_core.training.trainer import Trainer
from glp_core.workspace import DTYPES, Workspace

BATCHES_IN_BUFFER = 64
WORDS = {
    "d_model": "the GLP's width; the paper takes twice the LLM's",
    "d_mlp": "neurons of a block; the paper takes twice --d-model",
    "n_layers": "blocks",
    "activations": "activations to see; a store that holds fewer is read again",
    "batch": "activations of a step",
    "sigma_groups": "different noise levels in a batch, of which it must be a multiple",
    "learning_rate": "peak of the schedule",
    "final_factor": "the rate at the end, as a share of the peak",
    "warmup": "activations over which the rate rises, a tenth of the run at most",
    "decay": "share of the run, at its end, in which the rate falls",
    "beta2": "AdamW's memory of squared gradients, a share kept at each step",
    "weight_decay": "AdamW's: this times the rate is the share of each weight that a step takes off",
    "clip": "largest norm of the gradient",
    "ema": "share of the averaged weights that a step keeps; 0: the raw weights are saved",
    "seed": "of weights, noise and order",
    "first_checkpoint": "steps to the first checkpoint that is kept; the others follow at its doublings and at the end",
    "log_every": "steps between rows of train.csv",
    "validation": "held-out activations that the validation loss is measured on",
}
"""What each field of TrainConfig is, with its unit."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments: one for each field of TrainConfig."""
    add_workspace_arguments(parser, store=True)
    parser.add_argument("--run", default="main", help="the run's name (default: main)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="states and checkpoints (default: the cache folder)")
    words = "go on from another GLP's weights, with its shape and statistics: a GLP folder, ours or released, or hub-id@commit"
    parser.add_argument("--from", dest="start", metavar="WHERE", help=words)
    add_stream_arguments(parser.add_argument_group("without a store"))
    parser.add_argument("--install", action="store_true", help="make the result the workspace's GLP")
    parser.add_argument(
        "--keep-weights", action="store_true", help="put the final weights beside the run's log: a prior to choose"
    )
    parser.add_argument("--dtype", choices=DTYPES, default="auto", help="of the arithmetic (default: bfloat16 where native)")
    shape = parser.add_argument_group("configuration")
    for one in fields(TrainConfig):
        assert one.default is not MISSING
        flag = "--" + one.name.replace("_", "-")
        metavar = "X" if isinstance(one.default, float) else "N"
        words = f"{WORDS[one.name]} (default: {one.default:,})"
        shape.add_argument(flag, type=type(one.default), help=words, metavar=metavar)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    workspace = open_workspace(args)
    if not args.run.replace("-", "").replace("_", "").isalnum():
        raise GlpError(f"--run is {args.run!r}, wanted letters, digits, - and _.")
    if args.stream and args.store:
        raise GlpError(
            "--store names activations that are collected, and --stream reads none of them: leave one of the two out."
        )
    folder = args.out or workspace.training_folder / args.run
    start = Start.read(args.start, layer=workspace.layer) if args.start else None
    config = config_of(args, start)
    ranks = Ranks.join(torch.device(workspace.device))
    report, tell = (reporter("train"), say) if ranks.first else (quiet, lambda words: None)
    supply = stream(workspace, args, config, ranks) if args.stream else from_store(workspace, args, config, ranks)
    device, dtype = workspace.device, named_dtype(args.dtype, workspace.device)
    trainer = Trainer(config, supply, folder, dtype=dtype, device=device, start=start, ranks=ranks)
    tell(
        f"Training run {args.run} in {folder}: step {trainer.step:,} of {config.steps:,}, {config.batch:,} activations a step."
    )
    if trainer.step < config.steps:
        with stopping(at_once=False) as stop:
            trainer.run(progress=report, stop=stop)
    if isinstance(supply, StreamSupply) and ranks.any(supply.read_again):
        read = supply.facts()["distinct_activations"]
        tell(f"The texts ended and were read again: they hold {read:,} activations.")
    return finish(workspace, args, trainer) if ranks.first else 0


def config_of(args: argparse.Namespace, start: Start | None) -> TrainConfig:
    """Return what the arguments ask for, in the shape of the GLP that training goes on from.

    Raises:
        GlpError: another shape is asked for than that GLP has.
    """
    asked = {one.name: getattr(args, one.name) for one in fields(TrainConfig) if getattr(args, one.name) is not None}
    config = TrainConfig(**asked)
    if start is None:
        return config
    config = start.shaped(config)
    for name, value in asked.items():
        own = getattr(config, name)
        if own != value:
            flag = "--" + name.replace("_", "-")
            raise GlpError(f"{flag} is {value}, and the GLP of --from has {own}, which training on keeps: leave {flag} out.")
    return config


def add_stream_arguments(group: argparse._ArgumentGroup) -> None:
    """Add what training without a store needs."""
    words = "the LLM reads texts while the GLP trains: nothing is stored"
    group.add_argument("--stream", action="store_true", help=words)
    words = f"activations that batches are drawn from, at least {FEWEST_BATCHES} batches (default: {BATCHES_IN_BUFFER} batches)"
    group.add_argument("--buffer", type=int, default=0, metavar="N", help=words)
    words = "share of the activations that come from conversations (default: 0)"
    group.add_argument("--chat", type=float, default=0.0, metavar="SHARE", help=words)
    words = "a longer text is cut there (default: %(default)s)"
    group.add_argument("--tokens-per-document", type=int, default=TOKENS_PER_DOCUMENT, metavar="N", help=words)


def store_of(workspace: Workspace, args: argparse.Namespace) -> ActivationStore:
    """Return the store that --store names, or the workspace's; raise GlpError for arguments that only a stream takes."""
    if args.buffer or args.chat or args.tokens_per_document != TOKENS_PER_DOCUMENT:
        raise GlpError("--buffer, --chat and --tokens-per-document are of --stream; a store has what `collect` was told.")
    return workspace.open_store(args.store)


def from_store(workspace: Workspace, args: argparse.Namespace, config: TrainConfig, ranks: Ranks) -> StoreSupply:
    """Return the store's activations, when there is room to train on them."""
    store = store_of(workspace, args)
    beside = config.memory(store.width, named_dtype(args.dtype, workspace.device), ranks.size)
    supply = StoreSupply(store, workspace.device, beside=beside)
    window = supply.window_bytes if workspace.device in ("cpu", "mps") else 0
    tell_memory("The GLP in training", beside + window, workspace, ranks)
    return supply


def tell_memory(what: str, needed: int, workspace: Workspace, ranks: Ranks) -> None:
    """Say what training takes on the device, and what is free; GlpError when it does not fit."""
    words = check_room(what, needed, workspace.device)
    if ranks.first:
        say(words)


def stream(workspace: Workspace, args: argparse.Namespace, config: TrainConfig, ranks: Ranks) -> StreamSupply:
    """Load the LLM and return its activations as they are computed."""
    check_length(args.tokens_per_document)
    buffer = args.buffer or BATCHES_IN_BUFFER * config.batch
    texts = workspace.texts.label if workspace.texts else ""
    settings = StreamConfig(buffer // ranks.size, args.chat, args.tokens_per_document, texts, workspace.llm.identity)
    settings.check(config.batch // ranks.size)
    site = workspace.site((workspace if ranks.first else replace(workspace, tell=unheard)).load_llm())
    check_length(args.tokens_per_document, site.llm)
    width = site.llm.d_model
    dtype = named_dtype(args.dtype, workspace.device)
    needed = config.memory(width, dtype, ranks.size) + settings.buffer * width * site.llm.dtype.itemsize
    tell_memory(f"The GLP in training, with a buffer of {settings.buffer:,} activations,", needed, workspace, ranks)
    return StreamSupply(site, workspace.documents("train"), workspace.documents("validation"), settings, ranks)


def finish(workspace: Workspace, args: argparse.Namespace, trainer: Trainer) -> int:
    """Put a run's log, and its weights where wanted, into the workspace; return the command's exit status."""
    folder, config = trainer.folder.path, trainer.config
    publish(folder, workspace.folder / "runs" / args.run)
    if trainer.step < config.steps:
        say(f"\nStopped at step {trainer.step:,}; the state is saved. Start the same command again: it goes on from there.")
        return 130
    if args.keep_weights:
        keep_final(folder, workspace.folder / "runs" / args.run / "glp")
    if args.install:
        before = workspace.glp_digest()
        install(folder, workspace.folder / "glp")
        first = "`python -m glp_core evaluate` and `python -m glp_core solvers` first."
        say(
            f"{workspace.folder / 'glp'} now holds this run's GLP. "
            + (
                "The reports, the meta-neuron index and the solver `fitted` were made with the one before: make them anew, "
                + first
                if before
                else "Reports and the meta-neuron index are made from it, " + first
            )
        )
    say(f"Run {args.run} is done; its log is {workspace.folder / 'runs' / args.run / 'train.csv'}.")
    return 0
