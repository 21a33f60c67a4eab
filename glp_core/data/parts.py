"""Collect a store in parts, by any scheduler on any machines, and join them to what one process would have collected.

A part is a range of documents in a store of its own; joining cuts at the number of activations that was asked for.
"""

import math
from collections.abc import Sequence
from pathlib import Path

from glp_core.checked.tensors import read_tensors
from glp_core.data.corpus import Documents
from glp_core.data.moments import Moments
from glp_core.data.store import ROWS, ActivationStore
from glp_core.errors import GlpError
from glp_core.files import Json, copy_file, write_json, write_tensors
from glp_core.llm.model import Llm

MARGIN = 1.02
"""Tokens read for each activation asked for: massive ones are left out."""
DOCUMENTS_AT_ONCE = 4096
ALIKE = ("llm", "layer", "dtype", "texts", "texts_state", "tokens_per_document")
SAME_NORM = 1e-2
"""Relative difference of parts' median norms: each machine measures its own, and its last digits differ."""


def documents_for(llm: Llm, documents: Documents, n_activations: int, tokens_per_document: int, group: int) -> int:
    """Return how many documents, in whole groups, give at least `n_activations` (all, where they do not).

    Texts are only turned into ids.
    """
    left, first = n_activations * MARGIN, 0
    while left > 0 and (some := documents[first : first + DOCUMENTS_AT_ONCE]):
        for ids in llm.encode_all([document.text for document in some], max_tokens=tokens_per_document):
            if left <= 0:
                break
            left -= len(ids) - 1
            first += 1
    return first + len(documents[first : -(-first // group) * group])


def span_of(part: int, n_parts: int, n_documents: int, group: int) -> range:
    """Return the documents of part `part` of `n_parts`, counted from 1; parts meet between groups that are read together.

    Raises:
        GlpError: there are fewer groups than parts.
    """
    groups = -(-n_documents // group)
    if groups < n_parts:
        raise GlpError(
            f"{n_documents:,} documents are too few for {n_parts} parts: at most {groups}, of {group:,} documents each. "
            "Collect them in one call, or ask for more activations."
        )
    edges = [min(n_documents, groups * i // n_parts * group) for i in range(n_parts + 1)]
    return range(edges[part - 1], edges[part])


def join(folder: Path, parts: Sequence[Path], n_activations: int) -> ActivationStore:
    """Make a store of parts, in their order, as if one call had collected `n_activations`.

    Raises:
        GlpError: a part is missing, is not done, or does not follow the one before it.
    """
    missing = next((place for place, part in enumerate(parts, 1) if not (part / "manifest.json").is_file()), None)
    if missing is not None:
        raise GlpError(f"Part {missing} of {len(parts)} is not in {folder}: collect it with --part {missing}/{len(parts)}.")
    stores = [ActivationStore(part) for part in parts]
    manifest = {key: value for key, value in stores[0].manifest.items() if key not in ("span", "statistics_of")}
    end, shards = 0, []
    for store in stores:
        span = store.manifest.get("span")
        first, last = span or (-1, -1)
        if first != end or store.n_documents != last - first:
            raise GlpError(
                f"{store.folder} holds {store.n_documents:,} documents of the span {span}, wanted all from {end:,} on. "
                "Let every `collect --part` end before they are joined."
            )
        source = store.manifest.get("source")  # an earlier version's parts have none
        if source is not None and manifest.setdefault("source", source) != source:
            raise GlpError(
                f"{store.folder} is of {source}, the parts before it of {manifest['source']}. Join parts of one model."
            )
        near = math.isclose(store.median_norm, stores[0].median_norm, rel_tol=SAME_NORM)
        if not near or any(store.manifest.get(key) != manifest.get(key) for key in ALIKE):
            raise GlpError(f"{store.folder} was collected otherwise than {stores[0].folder}. Collect all parts alike.")
        end = last
        shards += [(store.folder / shard["file"], shard) for shard in store.manifest["shards"]]
    held_out = manifest["validation"]["file"]
    copy_file(stores[0].folder / held_out, folder / held_out)
    write_json(folder / "manifest.json", manifest | {"shards": _joined(folder, shards, n_activations)})
    store = ActivationStore(folder)
    parts_of_store = (store.acts(number) for number in range(len(store.shards)))
    write_tensors(folder / "statistics.safetensors", Moments.of(parts_of_store).statistics())
    write_json(folder / "manifest.json", store.manifest | {"statistics_of": store.n_activations})
    return ActivationStore(folder)


def _joined(folder: Path, shards: Sequence[tuple[Path, Json]], n_activations: int) -> list[Json]:
    """Copy shards until `n_activations` are there, the last of them cut; return the list for the manifest."""
    listed: list[Json] = []
    for number, (path, shard) in enumerate(shards):
        left = n_activations - sum(one["activations"] for one in listed)
        if left <= 0:
            break
        facts = shard | {"file": f"train-{number:05d}.safetensors"}
        if shard["activations"] > left:
            write_tensors(
                folder / facts["file"], {name: values[:left] for name, values in read_tensors(path, ROWS).tensors.items()}
            )
            facts |= {"activations": left, "cut": True}
        else:
            copy_file(path, folder / facts["file"])
        listed.append(facts)
    return listed
