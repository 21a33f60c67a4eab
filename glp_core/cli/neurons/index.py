"""Index what every meta-neuron responds to, in one pass over the corpus; in parts on several machines when asked."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from glp_core.cli.console import add_workspace_arguments, folder, open_workspace, part_of, reporter, say, stopping
from glp_core.cli.neurons.describe import describe_all
from glp_core.data.corpus import Documents
from glp_core.data.store import DOCUMENTS_PER_BLOCK, ActivationStore
from glp_core.errors import GlpError
from glp_core.files import Json, file_digest
from glp_core.llm.model import Llm
from glp_core.llm.sources import cache_folder
from glp_core.memory import check_room
from glp_core.neuron_index.corpus_pass import (
    StoreSource,
    TextSource,
    chunk_bytes,
    finished,
    first_of_text,
    in_order,
    index_part,
    merge_parts,
)
from glp_core.neuron_index.neuron_data import Reading
from glp_core.neuron_index.samples import sample_bytes
from glp_core.neuron_index.statistics import NeuronStatistics, table_bytes
from glp_core.neuron_index.writer import finish
from glp_core.workspace import Workspace

DEMO_CORPUS = "glp_core.data.corpus.documents('train')"
MOST = 50_000
"""Documents read when none are stored and no number is asked for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser)
    add_reading_arguments(parser)
    parser.add_argument(
        "--documents", type=int, metavar="N", help="documents to read, in blocks of 1,024 (default: all of a store, or 50,000)"
    )
    parser.add_argument(
        "--store", type=folder, metavar="FOLDER", help="read activations that `collect` stored instead of running the LLM"
    )
    parser.add_argument("--part", default="1/1", metavar="I/N", help="only this part; with the last one the index is made")
    parser.add_argument(
        "--parts",
        type=folder,
        metavar="FOLDER",
        help="where parts are kept until the index is made (default: the cache folder)",
    )
    parser.add_argument("--fresh", action="store_true", help="forget an interrupted pass")


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --sigma and --draws; without them the reading that probing chose is used."""
    parser.add_argument("--sigma", type=float, help="noise level of the reading (default: what probing chose, else 0.2)")
    parser.add_argument("--draws", type=int, help="noise draws averaged, 0 for none (default: what probing chose, else 0)")


def chosen_reading(workspace: Workspace, args: argparse.Namespace) -> Reading:
    """Return the reading of the arguments, or the one that probing chose on validation rows."""
    probed = (workspace.report("probing") or {}).get("reading")
    default = Reading.from_json(probed) if probed else Reading()
    sigma = default.sigma if args.sigma is None else args.sigma
    draws = default.draws if args.draws is None else args.draws
    return Reading(sigma, draws, default.seed)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    part, n_parts = part_of(args.part)
    workspace = open_workspace(args)
    reading = chosen_reading(workspace, args)
    corpus = workspace.documents("train")
    llm, glp = workspace.load_llm(), workspace.load_glp()
    source = _source(workspace, llm, corpus, args)
    blocks = source.blocks if args.documents is None else -(-args.documents // DOCUMENTS_PER_BLOCK)
    if not 0 < blocks <= source.blocks:
        raise GlpError(
            f"{args.documents or 0:,} documents are out of range: there are {source.blocks * DOCUMENTS_PER_BLOCK:,} to read."
        )
    folder = args.parts or cache_folder() / "index" / workspace.store_folder.name
    edges = [blocks * i // n_parts for i in range(n_parts + 1)]
    path = folder / f"part-{part:03d}-of-{n_parts:03d}.safetensors"
    if args.fresh:
        path.unlink(missing_ok=True)
    identity = {
        "glp": file_digest(workspace.folder / "glp" / "final.safetensors"),
        "corpus": workspace.texts.label if workspace.texts else DEMO_CORPUS,
    }
    n = glp.n_layers * glp.d_mlp
    device = glp.device if glp.device.type == "cuda" else "cpu"
    say(check_room(f"The index of {n:,} neurons", table_bytes(n) + sample_bytes(n) + chunk_bytes(source, n), device))
    say(f"Reading {n:,} neurons at {reading.title}, blocks {edges[part - 1]} to {edges[part]} of {blocks}.")
    share = range(edges[part - 1], edges[part])
    with stopping(at_once=False) as stop:
        statistics = index_part(
            glp, reading, source, share, path, identity=identity, progress=reporter("index"), cancelled=stop
        )
    if statistics is None:
        say("Stopped. Start the same command again: it goes on from there.")
        return 130
    paths = [folder / f"part-{i:03d}-of-{n_parts:03d}.safetensors" for i in range(1, n_parts + 1)]
    merged = _merged(paths, glp.device)
    if merged is None:
        say(f"Part {part} is done; the index is made with the last of the {n_parts} parts.")
        return 0
    whole, facts = merged
    facts = facts | {
        "llm": workspace.llm.label,
        "layer": workspace.layer,
        "median_norm": workspace.median_norm,
    }
    finish(whole, glp, llm, reading, corpus, workspace.neurons, facts=facts, progress=reporter("finish"))
    (workspace.neurons / "descriptions.json").unlink(missing_ok=True)  # of an earlier index, should this end before its own
    index = describe_all(workspace)
    for one in paths:
        one.unlink(missing_ok=True)
    size = sum(p.stat().st_size for p in workspace.neurons.iterdir()) / 1e6
    counted = f"{index.n_neurons:,} neurons over {index.n_tokens:,} tokens of {index.facts['documents']:,} documents"
    say(f"{counted}: {size:.1f} MB in {workspace.neurons}.")
    return 0


def _merged(paths: Sequence[Path], device: torch.device) -> tuple[NeuronStatistics, Json] | None:
    """Return the sum of all parts, and its facts; None while one is not finished, and where the process of another has made the index."""
    try:
        return merge_parts(paths, device) if all(finished(path) for path in paths) else None
    except GlpError:
        if all(path.is_file() for path in paths):
            raise
        return None  # that process removed them meanwhile


def _source(workspace: Workspace, llm: Llm, corpus: Documents, args: argparse.Namespace) -> StoreSource | TextSource:
    """Return where activations come from: the store that --store names, or the LLM over as many documents as are asked for."""
    if args.store:
        store = ActivationStore(args.store)
        store.check_texts(workspace.texts)
        # one more document than the store has says whether it has all of them
        source = StoreSource(store, first_of_text(in_order(corpus, store.n_documents + 1)), workspace.device)
        _check_store(source, workspace)
        return source
    n = -(-max(1, args.documents or MOST) // DOCUMENTS_PER_BLOCK) * DOCUMENTS_PER_BLOCK
    return TextSource(workspace.site(llm), corpus, first_of_text(in_order(corpus, n)))


def _check_store(source: StoreSource, workspace: Workspace) -> None:
    subject = {"llm": workspace.llm.label, "layer": workspace.layer}
    stored = {key: source.facts[key] for key in subject}
    if workspace.texts:
        subject["texts"], stored["texts"] = workspace.texts.label, source.store.manifest.get("texts")
    if source.store.folder.resolve() == workspace.store_folder.resolve():
        source.store.check_of(workspace.layer, workspace.llm.identity)  # another model may have that title
    if stored != subject:
        raise GlpError(f"The store holds activations of {stored}, the workspace is about {subject}.")
