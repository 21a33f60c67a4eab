"""Collect a layer's activations over the corpus; with --llm and --layer, make the workspace first."""

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

from glp_core.cli.console import add_workspace_arguments, device_of, open_workspace, part_of, reporter, say, stopping
from glp_core.data.collecting import bytes_stored, collect, documents_per_group
from glp_core.data.parts import documents_for, join, span_of
from glp_core.data.readings import MOST_TOKENS
from glp_core.data.store import TOKENS_PER_DOCUMENT, ActivationStore
from glp_core.data.texts.source import WANTED, OwnTexts
from glp_core.devices import named_dtype
from glp_core.errors import GlpError
from glp_core.files import expanded
from glp_core.llm.decoding import check_decoding
from glp_core.llm.loading import load_llm
from glp_core.llm.model import Llm
from glp_core.llm.sources import SMOLLM2, LlmSource, weights_digest
from glp_core.memory import gigabytes
from glp_core.places import free_name
from glp_core.workspace import DTYPES, Workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser)
    parser.add_argument(
        "--activations", type=int, default=10_000_000, metavar="N", help="how many to store (default: 10 million)"
    )
    words = "share of them from conversations: corpus texts as user turns, and the model's own answers (default: 0)"
    parser.add_argument("--chat", type=float, default=0.0, metavar="SHARE", help=words)
    words = "a longer text is cut there (default: %(default)s)"
    parser.add_argument("--tokens-per-document", type=int, default=TOKENS_PER_DOCUMENT, metavar="N", help=words)
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where to store them (default: the workspace's cache folder)"
    )
    parts = parser.add_argument_group("in parts, which any scheduler may run")
    words = "collect the Ith of N ranges of documents, in a folder of its own; not with --chat, nor to make a workspace"
    parts.add_argument("--part", default="", metavar="I/N", help=words)
    words = "make the store of N parts that are done, as one call would have"
    parts.add_argument("--join", type=int, metavar="N", help=words)
    new = parser.add_argument_group("to make a new workspace")
    new.add_argument("--llm", metavar="WHERE", help="'demo', a folder of transformers' save_pretrained, or hub-id@commit")
    new.add_argument("--layer", type=int, metavar="N", help="the block whose output is modelled, counted from 0")
    add_layers_argument(new)
    new.add_argument("--name", help="the workspace's title (default: the LLM's, and the layer)")
    add_texts_arguments(new)
    new.add_argument("--dtype", choices=DTYPES, help="the LLM's number format (default: auto)")


def add_layers_argument(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add --layers-at."""
    words = "where a model of a family that is not known keeps its layers, as in backbone.blocks"
    parser.add_argument("--layers-at", default="", metavar="PATH", help=words)


def add_texts_arguments(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add --texts and --text-field; `texts_of` reads them."""
    words = f"the texts to read, here and in all later commands: a file or folder of {WANTED}, or hf://datasets/org/name[@revision]/path"
    parser.add_argument("--texts", metavar="SOURCE", help=f"{words} (default: the demo's corpus)")
    words = "the column that holds them (default: text, or the only one with texts)"
    parser.add_argument("--text-field", metavar="NAME", help=words)


def texts_of(args: argparse.Namespace) -> OwnTexts | None:
    """Return the texts that the arguments name, None for the demo's corpus; raise GlpError when they are not there."""
    if args.text_field and not args.texts:
        raise GlpError("--text-field says which column of --texts is read: give both.")
    return OwnTexts.find(args.texts, args.text_field) if args.texts else None


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.activations < 1:
        raise GlpError(f"--activations is {args.activations}, wanted at least 1.")
    check_length(args.tokens_per_document)
    if not 0 <= args.chat < 1:
        raise GlpError(f"--chat is {args.chat:g}, wanted at least 0 and less than 1.")
    if args.chat and (args.part or args.join):
        raise GlpError("Conversations are not collected in parts. Leave --chat out, or --part and --join.")
    if args.part:
        part_of(args.part)
    if args.join is not None and args.join < 1:
        raise GlpError(f"--join is {args.join}, wanted at least 1.")
    if args.part and args.join:
        raise GlpError("--part collects one part, --join makes the store of all: leave one of the two out.")
    new, texts = args.llm is not None, texts_of(args)
    if new and (args.part or args.join):
        raise GlpError("Make the workspace first, with `collect --llm … --layer N --activations 1000`; parts then add to it.")
    if args.layers_at and not new:
        raise GlpError("--layers-at is of a new workspace, with --llm; a workspace keeps what it was made with.")
    if new and (args.workspace / "workspace.json").exists():
        raise GlpError(f"{args.workspace} is a workspace already: leave --llm out to go on with it, or name another folder.")
    if new:
        if args.layer is None:
            raise GlpError("A new workspace needs --layer, for example the middle block.")
        source = replace(llm_source(args.llm), layers_at=args.layers_at)
        device, dtype = device_of(args), args.dtype or "auto"
        llm = load_llm(source, device=device, dtype=named_dtype(dtype, device), tell=say)
        check_decoding(llm, args.layer)
        name = args.name or free_name(
            f"{llm.title}, layer {args.layer}", lambda folder: _is_of(folder, llm, source, texts, args)
        )
        # the median norm is not known before the first activations are; until then the workspace is not written
        workspace = Workspace(args.workspace, name, source, args.layer, dtype, median_norm=1.0, texts=texts)
    else:
        workspace = open_workspace(args)
        _check_kept(workspace, args)
        _check_texts(workspace, texts)
    folder = args.out or workspace.store_folder
    if args.join:
        store: ActivationStore | None = _join(folder, args)
    else:
        store = _collect(llm if new else workspace.load_llm(), workspace, folder, args)
    if store is None:
        return 130
    ending = ""
    if store.n_activations < args.activations and args.join:
        say(f"The parts hold fewer than {args.activations:,} activations: `collect` without --join goes on from them.")
    elif store.n_activations < args.activations and not args.part:
        ending = f" The texts end before the {args.activations:,} activations asked for: what there is is kept."
    if new:
        workspace = replace(workspace, median_norm=store.median_norm)
        workspace.save()
        say(f"Made the workspace {workspace.folder}.")
    words = f" ({store.n_chat:,} of conversations)" if store.n_chat else ""
    say(
        f"{store.n_activations:,} activations of layer {workspace.layer}{words}, median norm {store.median_norm:.1f}, are in "
        f"{store.folder}.{ending}"
    )
    return 0


def check_length(tokens: int, llm: Llm | None = None) -> None:
    """Raise GlpError unless texts can be cut at so many tokens; with a model, unless it reads as many."""
    if tokens < 2:
        raise GlpError(f"--tokens-per-document is {tokens}, wanted at least 2: the first token is never kept.")
    if tokens > MOST_TOKENS:
        raise GlpError(
            f"--tokens-per-document is {tokens:,}, wanted at most {MOST_TOKENS:,}: positions are stored in 16 bits. "
            "Longer texts are cut there."
        )
    if llm is not None and tokens > llm.context_length:
        raise GlpError(
            f"--tokens-per-document is {tokens:,}, and {llm.title} reads at most {llm.context_length:,}: give no more."
        )


def _is_of(folder: Path, llm: Llm, source: LlmSource, texts: OwnTexts | None, args: argparse.Namespace) -> bool:
    """Say whether a folder's activations are those of a workspace that is made again, as after a kill before it was written."""
    if not (folder / "manifest.json").is_file():
        return False
    wanted = {"llm": llm.title, "source": source.identity, "layer": args.layer, "texts": texts.label if texts else ""}
    wanted |= {"dtype": str(llm.dtype).removeprefix("torch."), "tokens_per_document": args.tokens_per_document}
    kept = wanted | {"texts": ""} | ActivationStore(folder).manifest  # an earlier version's say less
    return all(kept[name] == value for name, value in wanted.items())


def _check_kept(workspace: Workspace, args: argparse.Namespace) -> None:
    """Raise GlpError for another layer, number format or title than the workspace has."""
    for name in ("layer", "dtype", "name"):
        own, asked = getattr(workspace, name), getattr(args, name)
        if asked is not None and asked != own:
            raise GlpError(
                f"The {name} of {workspace.folder} is {own!r}, not {asked!r}. A workspace keeps what it was made with: "
                f"leave --{name} out to go on with it, or make another workspace with --llm and --layer."
            )


def _check_texts(workspace: Workspace, asked: OwnTexts | None) -> None:
    """Raise GlpError for other texts than those that the workspace reads."""
    own = workspace.texts
    if asked is None:
        return
    if own is None or (asked.source, asked.field) != (own.source, own.field):
        read = own.label if own else "the demo's corpus"
        raise GlpError(
            f"{workspace.folder} reads {read}, wanted {asked.label}. A workspace keeps its texts: "
            "leave --texts out to go on with it, or make another workspace with --llm, --layer and --texts."
        )


def _collect(llm: Llm, workspace: Workspace, folder: Path, args: argparse.Namespace) -> ActivationStore | None:
    for note in llm.notes:
        say(f"Note: {note}")
    check_length(args.tokens_per_document, llm)
    words = f" over {workspace.texts.label}" if workspace.texts else ""
    say(f"Collecting layer {workspace.layer} of {llm.title}{words} into {folder}.")
    if not args.part:
        say(_room(llm, folder, args.activations))
    options = {"n_activations": args.activations, "chat": args.chat, "tokens_per_document": args.tokens_per_document}
    options |= {"texts": workspace.texts.label if workspace.texts else "", "source": workspace.llm.identity}
    options |= {"texts_state": workspace.texts.state()} if workspace.texts else {}
    if args.part:
        part, n_parts = part_of(args.part)
        folder = part_folder(folder, part, n_parts)
    if (folder / "manifest.json").is_file():
        ActivationStore(folder).check_texts(workspace.texts)
    try:
        with stopping(at_once=True):
            train, validation = workspace.documents("train"), workspace.documents("validation")
            if args.part:
                group = documents_per_group(llm)
                n = documents_for(llm, train, args.activations, args.tokens_per_document, group)
                options["span"] = span_of(part, n_parts, n, group)
            store = collect(llm, workspace.layer, train, validation, folder, **options, progress=reporter("collect"))
    except KeyboardInterrupt:
        have = (folder / "manifest.json").is_file() and ActivationStore(folder).n_activations
        say(f"\nStopped with {have or 0:,} activations stored. Start the same command again: it goes on from there.")
        return None
    return store


def _room(llm: Llm, folder: Path, n_activations: int) -> str:
    """Return what the activations that are missing take on the disk, and what is free there, in words."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    have = ActivationStore(folder).n_activations if (folder / "manifest.json").is_file() else 0
    needed, free = bytes_stored(llm, max(0, n_activations - have)), shutil.disk_usage(there).free
    if not needed:
        return f"All {n_activations:,} of them are there."
    words = f"{n_activations - have:,} activations take at most {gigabytes(needed)}; {gigabytes(free)} are free there."
    return words + (" When the disk is full, what there is is kept and a later call goes on." if needed > free else "")


def _join(folder: Path, args: argparse.Namespace) -> ActivationStore:
    return join(folder, [part_folder(folder, part, args.join) for part in range(1, args.join + 1)], args.activations)


def part_folder(folder: Path, part: int, n_parts: int) -> Path:
    """Return where a part of a store is collected."""
    return folder / f"part-{part:03d}-of-{n_parts:03d}"


def llm_source(where: str) -> LlmSource:
    """Read --llm: 'demo', a local folder, or hub-id@commit."""
    if where == "demo":
        return SMOLLM2
    if expanded(where).is_dir():
        folder = expanded(where).resolve()
        return LlmSource("folder", str(folder), title=folder.name, weights=weights_digest(folder))
    name, _, revision = where.partition("@")
    if not revision:
        raise GlpError(
            f"{where!r} is no folder here. Give 'demo', a folder, or a hub id with its commit, such as org/model@4f3c…"
        )
    return LlmSource("hub", name, revision=revision, title=name.split("/")[-1])
