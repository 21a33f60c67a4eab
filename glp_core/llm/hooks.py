"""Record and edit a transformer layer's output, safely while other requests use the same model.

One permanent hook per layer reads a ContextVar, so a request sees only what it asked for itself: no hook is added or removed
while another request runs. Knows modules and tensors; knows nothing of GLPs, tokens or steering.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import NamedTuple

import torch
from torch import Tensor, nn

from glp_core.errors import GlpError
from glp_core.jobs.pause import pause

Edit = Callable[[Tensor], Tensor]
"""Takes a layer's output (batch, tokens, d), returns the tensor to go on with; never writes in place."""

Output = Tensor | tuple[Tensor, ...]
"""What a block returns, by family and version of transformers."""

LAYER_PATHS = (
    *("model.layers", "transformer.h", "gpt_neox.layers", "model.language_model.layers", "language_model.layers"),
    *("model.decoder.layers", "transformer.blocks", "backbone.layers"),  # OPT, MPT, Mamba
    *("backbone.blocks", "rwkv.blocks", "biogpt.layers"),
)
HOOKED = "_glp_core_hooked"
"""Attribute of a layer that has the permanent hook."""
LAYERS_AT = "_glp_core_layers_at"
"""Attribute of a model whose list of blocks was named by a person."""
EDITED_ON = "_glp_core_edited_on"
"""Attribute of a model whose layers lie on several devices: where edits compute and records are."""


class _Tap(NamedTuple):
    layer: nn.Module
    apply: Edit
    device: torch.device | None
    """Where the edit computes; None where the layer does."""


class _StopForward(Exception):
    """Ends a forward pass once the layer that was asked for has run."""


_taps: ContextVar[tuple[_Tap, ...]] = ContextVar("glp_core_taps", default=())
_installing = Lock()


def layers_of(model: nn.Module) -> nn.ModuleList:
    """Return the model's list of transformer blocks.

    Raises:
        GlpError: the model keeps its blocks at none of the known places.
    """
    return model.get_submodule(layers_path(model))  # type: ignore[return-value]


def layers_path(model: nn.Module) -> str:
    """Return where the model keeps its blocks: where `name_layers` said, or the first of the known places.

    Raises:
        GlpError: it is none of the known places; the message names the lists of modules that there are.
    """
    named: str | None = getattr(model, LAYERS_AT, None)
    if named:
        return named
    place = next((path for path in LAYER_PATHS if _blocks_at(model, path) is not None), None)
    if place is None:
        raise GlpError(
            f"{type(model).__name__} keeps its layers at none of the known places ({', '.join(LAYER_PATHS[:3])}, …): name the place with "
            f"`collect --layers-at`. {_lists_of(model)}"
        )
    return place


def name_layers(model: nn.Module, path: str) -> None:
    """Say where a model of an unknown family keeps its blocks, for example `backbone.blocks`.

    Raises:
        GlpError: there is no list of modules; the message names those that there are.
    """
    if not _blocks_at(model, path):
        raise GlpError(f"{type(model).__name__} has no list of layers at {path!r}. {_lists_of(model)}")
    setattr(model, LAYERS_AT, path)


def edit_on(model: nn.Module, device: torch.device) -> None:
    """Let edits and records of a model whose layers lie on several devices see and give tensors of one device."""
    setattr(model, EDITED_ON, device)


def edit_device(model: nn.Module) -> torch.device | None:
    """Return the device that `edit_on` said; None for a model on one device."""
    return getattr(model, EDITED_ON, None)


def _blocks_at(model: nn.Module, path: str) -> nn.ModuleList | None:
    blocks: object = model
    for name in path.split("."):
        blocks = getattr(blocks, name, None)
    return blocks if isinstance(blocks, nn.ModuleList) else None


def _lists_of(model: nn.Module) -> str:
    """Say which lists of modules a model has, the outermost ones."""
    lists = {path: module for path, module in model.named_modules() if isinstance(module, nn.ModuleList) and len(module)}
    outer = [path for path in lists if not any(path.startswith(f"{other}.") for other in lists)]
    words = [f"{path} ({len(lists[path])} of {type(lists[path][0]).__name__})" for path in outer]
    return f"It has lists of modules at {', '.join(words)}." if words else "It has no list of modules."


def layer_at(model: nn.Module, index: int) -> nn.Module:
    """Return block `index`, counted from 0; raise GlpError when there is none."""
    layers = layers_of(model)
    if not 0 <= index < len(layers):
        raise GlpError(f"Layer {index} does not exist: {type(model).__name__} has layers 0 to {len(layers) - 1}.")
    return layers[index]


@contextmanager
def edit(model: nn.Module, edits: Mapping[int, Edit]) -> Iterator[None]:
    """Replace the output of layers while the block runs, in this thread's requests only.

    Use:
        with edit(model, {14: lambda h: h + direction}):
            model(ids)
    """
    taps = tuple(_Tap(_with_hook(layer_at(model, index)), apply, edit_device(model)) for index, apply in edits.items())
    token = _taps.set(_taps.get() + taps)
    try:
        yield
    finally:
        _taps.reset(token)


@contextmanager
def record(model: nn.Module, layers: list[int], *, stop: bool = False) -> Iterator[dict[int, Tensor]]:
    """Collect layer outputs (batch, tokens, d) by layer; with several forwards, the last one's.

    With `stop`, the forward ends after the last of `layers` has run, and `model(...)` raises nothing outside the block.

    Use:
        with record(model, [14], stop=True) as acts:
            model(ids)
        acts[14]
    """
    seen: dict[int, Tensor] = {}

    def keep(index: int) -> Edit:
        def apply(hidden: Tensor) -> Tensor:
            seen[index] = hidden
            if stop and index == max(layers):
                raise _StopForward
            return hidden

        return apply

    try:
        with edit(model, {index: keep(index) for index in layers}):
            yield seen
    except _StopForward:
        pass


def active_edits(model: nn.Module) -> dict[int, Edit]:
    """Return this request's edits by layer, those of one layer after one another."""
    taps, edits = _taps.get(), dict[int, Edit]()
    for index, layer in enumerate(layers_of(model)):
        edits_here = [tap.apply for tap in taps if tap.layer is layer]
        if edits_here:
            edits[index] = _one_after_another(edits_here)
    return edits


def pause_between_blocks(model: nn.Module) -> None:
    """Let long work that runs the model on a CPU pause before every block; nothing where the blocks are at none of the known places."""
    place = next((path for path in LAYER_PATHS if _blocks_at(model, path) is not None), None)
    for block in layers_of(model) if place else ():
        if _pause_before not in block._forward_pre_hooks.values():
            block.register_forward_pre_hook(_pause_before)


def _pause_before(_block: nn.Module, inputs: tuple[object, ...]) -> None:
    if inputs and isinstance(inputs[0], Tensor) and inputs[0].is_cpu:
        pause()


def _one_after_another(edits: list[Edit]) -> Edit:
    def apply(hidden: Tensor) -> Tensor:
        for one in edits:
            hidden = one(hidden)
        return hidden

    return apply


@contextmanager
def no_edits() -> Iterator[None]:
    """Leave this request's edits out while the block runs."""
    token = _taps.set(())
    try:
        yield
    finally:
        _taps.reset(token)


def _with_hook(layer: nn.Module) -> nn.Module:
    """Install the permanent hook once; first in line, so that transformers' own recording sees edited outputs."""
    with _installing:
        if not getattr(layer, HOOKED, False):
            layer.register_forward_hook(_run_taps, prepend=True)
            setattr(layer, HOOKED, True)
    return layer


def _run_taps(layer: nn.Module, _inputs: tuple[object, ...], output: Output) -> Output | None:
    taps = [tap for tap in _taps.get() if tap.layer is layer]
    if not taps:
        return None
    hidden = output[0] if isinstance(output, tuple) else output
    for tap in taps:
        hidden = _applied(tap, hidden)
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


def _applied(tap: _Tap, hidden: Tensor) -> Tensor:
    there = hidden if tap.device is None else hidden.to(tap.device)
    edited = tap.apply(there)
    return hidden if edited is there else edited.to(hidden.device)
