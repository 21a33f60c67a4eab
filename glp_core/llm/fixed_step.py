"""A decode step on buffers that stay where they are, so that an accelerator can replay it: one launch where there were hundreds.

The model runs in two parts around the layer that is edited; the edit itself runs between them as ever. Only models whose layers all
keep every key and value are served; the others decode as on the CPU. Knows token ids and a transformer; knows nothing of edits.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

from glp_core.llm.hooks import active_edits, edit_device, layers_path, no_edits, record
from glp_core.speed.replay import RECORDERS, Recorded

ROOM = 64
"""Buffers hold a multiple of this many tokens, so that requests of about one length share them."""
MOST_ROWS = 64
"""More rows keep an accelerator busy without a recording."""
MOST_KEPT, BYTES_KEPT = 4, 1 << 30
"""Steps that wait for requests of their shape, and what all but the last of them may take: it is memory that nobody counts."""
TRIES = 2
"""Failures before no more steps are recorded: one may come of what else was on the card at that moment."""
CLOSE = 1e-2
"""The two parts must give the whole model's logits within this share of the largest."""


class FixedStep:
    """One token of every row; `load` a prompt's cache, `prepare` the first token, then call it once a token, in order."""

    def __init__(self, model: Any, cache: DynamicCache, length: int) -> None:
        rows, device = cache.layers[0].keys.shape[0], cache.layers[0].keys.device
        self.model = model
        self.ids = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self.positions = torch.zeros_like(self.ids)
        self.seen = torch.zeros(rows, length, dtype=torch.bool, device=device)
        self.cache = _FixedCache(cache, length)
        self.read = 0
        self._edited: dict[int, Tensor] = {}
        self._recorded: dict[str, Recorded] = {}

    def load(self, cache: DynamicCache, mask: Tensor | None) -> None:
        """Take over what was read: keys and values, and which tokens each row may look at (rows, tokens), all for None."""
        self.read = self.cache.load(cache)
        self.seen.zero_()
        self.seen[:, : self.read] = True if mask is None else mask.bool()

    def save(self, cache: DynamicCache) -> None:
        """Give what was read to a cache that goes on without fixed buffers."""
        for layer, keys, values in zip(cache.layers, self.cache.keys, self.cache.values, strict=True):
            layer.keys, layer.values = (kept[:, :, : self.read].clone() for kept in (keys, values))

    def prepare(self, ids: Tensor, positions: Tensor) -> None:
        """Record what the next call replays, without an edit: it fails here or not at all, before any edit draws its noise.

        Raises:
            RuntimeError: it cannot be recorded, or the model in two parts is not the whole.
        """
        self._place(ids, positions)
        layer = next(iter(active_edits(self.model)), None)
        with no_edits():
            if layer is None:
                self._replayed("whole", self._whole)
            elif layer not in self._edited:
                hidden = self._replayed(f"to {layer}", lambda: self._first(layer))
                self._edited[layer] = hidden.clone()
                self._check(layer)
                self._replayed(f"from {layer}", lambda: self._second(layer))

    def __call__(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Read ids (rows, 1) at their positions (rows, 1), with one layer edited at most; return the logits (rows, 1, vocabulary)."""
        self._place(ids, positions)
        self.read += 1
        edits = active_edits(self.model)
        with no_edits():
            if not edits:
                return self._replayed("whole", self._whole).clone()
            ((layer, apply),) = edits.items()
            hidden = self._replayed(f"to {layer}", lambda: self._first(layer))
            edited = apply(hidden.clone())
            if layer not in self._edited:
                self._edited[layer] = edited.clone()
            self._edited[layer].copy_(edited)
            return self._replayed(f"from {layer}", lambda: self._second(layer)).clone()

    def _place(self, ids: Tensor, positions: Tensor) -> None:
        self.ids.copy_(ids)
        self.positions.copy_(positions)
        self.cache.slot.fill_(self.read)
        self.seen[:, self.read] = True

    def _check(self, layer: int) -> None:
        """Raise RuntimeError unless the two parts without an edit are the whole."""
        whole, parts = self._whole(), self._second(layer)
        if whole.shape != parts.shape or not (whole - parts).abs().max() <= CLOSE * whole.abs().max():
            raise RuntimeError("the model in two parts is not the whole model")

    def _replayed(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        device = self.ids.device
        recorder = RECORDERS.get(device.type)
        if recorder is None:
            return compute()
        if name not in self._recorded:
            self._recorded[name] = recorder(compute, device)
        recorded = self._recorded[name]
        recorded.replay()
        return recorded.output

    def _whole(self) -> Tensor:
        return self._run(self.model).logits

    def _first(self, layer: int) -> Tensor:
        with record(self.model, [layer], stop=True) as acts:
            self._run(self.model)
        return acts[layer]

    def _second(self, layer: int) -> Tensor:
        return self._run(_model_after(self.model, layer, self._edited[layer])).logits

    def _run(self, model: Any) -> Any:
        return model(
            input_ids=self.ids,
            attention_mask=self.seen[:, None, None],
            position_ids=self.positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )


class FixedSteps:
    """The fixed steps of one model that no request uses now."""

    def __init__(self) -> None:
        self._free: list[FixedStep] = []
        self.failures: list[str] = []
        """Why steps could not be recorded, for reports."""

    @property
    def given_up(self) -> bool:
        """Whether no more steps are recorded."""
        return len(self.failures) >= TRIES

    def take(self, model: Any, cache: DynamicCache, room: int) -> FixedStep | None:
        """Return a step with room for as many more tokens; None where the device does not record or the model cannot be served."""
        if self.given_up or not _served(model, cache):
            return None
        rows, length = cache.layers[0].keys.shape[0], -(-(cache.get_seq_length() + room) // ROOM) * ROOM
        for step in self._free:
            if step.seen.shape == (rows, length):
                self._free.remove(step)
                return step
        return FixedStep(model, cache, length)

    def give_back(self, step: FixedStep) -> None:
        """Keep a step for the next request of its shape, and of those before it the latest that there is room for."""
        free, room = [step], BYTES_KEPT
        for earlier in reversed(self._free[1 - MOST_KEPT :]):
            room -= earlier.cache.size
            if room < 0:
                break
            free.insert(0, earlier)
        self._free = free


def _served(model: Any, cache: DynamicCache) -> bool:
    layers = cache.layers
    if edit_device(model) is not None:  # its layers lie on several devices
        return False
    if not layers or not all(type(layer) is DynamicLayer and layer.is_initialized for layer in layers):
        return False
    keys = layers[0].keys
    records = keys.device.type in RECORDERS and model.config._attn_implementation == "sdpa"
    return records and len(keys) <= MOST_ROWS


class _FixedCache(Cache):  # type: ignore[misc]
    """Keys and values of every layer (rows, heads, length, width); new ones go to the place that `slot` names."""

    def __init__(self, cache: DynamicCache, length: int) -> None:
        super().__init__(layer_class_to_replicate=DynamicLayer)
        self.keys = [_room(layer.keys, length) for layer in cache.layers]
        self.values = [_room(layer.values, length) for layer in cache.layers]
        self.slot = torch.zeros(1, dtype=torch.long, device=self.keys[0].device)

    @property
    def size(self) -> int:
        """Bytes of all keys and values."""
        return sum(kept.nbytes for kept in (*self.keys, *self.values))

    def load(self, cache: DynamicCache) -> int:
        """Copy another cache's keys and values to the first places; return how many tokens there are."""
        read = int(cache.get_seq_length())
        for kept, layer in zip(self.keys, cache.layers, strict=True):
            kept[:, :, :read] = layer.keys
        for kept, layer in zip(self.values, cache.layers, strict=True):
            kept[:, :, :read] = layer.values
        return read

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Keep a layer's new keys and values (rows, heads, 1, width); return all."""
        keys, values = self.keys[layer_idx], self.values[layer_idx]
        keys.index_copy_(2, self.slot, key_states)
        values.index_copy_(2, self.slot, value_states)
        return keys, values


def _room(like: Tensor, length: int) -> Tensor:
    return like.new_zeros(*like.shape[:2], length, like.shape[3])


class _Skipped(nn.Module):
    """Stands in for a layer: gives out what it is given, or a fixed tensor; every other question goes to the layer itself."""

    def __init__(self, layer: nn.Module, output: Tensor | None = None) -> None:
        super().__init__()
        self.__dict__["_layer"], self.__dict__["_output"] = layer, output

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_layer"], name)

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> Tensor:
        output = self.__dict__["_output"]
        return hidden if output is None else output


def _model_after(model: Any, index: int, output: Tensor) -> Any:
    """Return a copy of the model that shares its weights, in which layer `index` gives out `output` and no earlier one runs."""
    *parents, last = layers_path(model).split(".")
    changed = copied = _shared_copy(model)
    for name in parents:
        child = _shared_copy(getattr(copied, name))
        copied._modules[name] = child
        copied = child
    layers = getattr(copied, last)
    skipped = [_Skipped(layer, output if i == index else None) for i, layer in enumerate(layers[: index + 1])]
    copied._modules[last] = nn.ModuleList([*skipped, *layers[index + 1 :]])
    return changed


def _shared_copy(module: nn.Module) -> nn.Module:
    made = copy.copy(module)
    made._modules = dict(module._modules)
    return made
