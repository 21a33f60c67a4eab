"""Key-value caches of rows that come together, part, or are put in another order, while each row's text grows.

Rows end at the last column; a row with fewer tokens begins further right, and a mask says where. Knows caches; knows no tokens.
"""

from copy import copy
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

SHARED = (DynamicLayer, DynamicSlidingWindowLayer)
"""Kinds of cache whose rows can be handed out, joined and left out."""


class Read(NamedTuple):
    """How much a cache holds."""

    rows: int
    columns: int
    """Tokens, padding included."""


def keeps_all(cache: DynamicCache) -> bool:
    """Say whether a cache holds keys and values only, which rows can share; states of recurrent layers cannot be handed out."""
    return all(type(layer) in SHARED for layer in cache.layers)


def join(cache: DynamicCache, read: Read, other: DynamicCache, other_read: Read) -> None:
    """Append the rows of another cache of the same model; the shorter rows are padded on the left."""
    columns = max(read.columns, other_read.columns)
    for layer, added in zip(cache.layers, other.layers, strict=True):
        like = next((one.keys for one in (layer, added) if one.is_initialized), None)
        if like is None:
            continue
        if not layer.is_initialized:
            layer.lazy_initialization(like, like)
        width = _width(layer, columns)
        sizes = ((layer, read), (added, other_read))
        for name in ("keys", "values"):
            setattr(layer, name, torch.cat([_widened(getattr(one, name), size, width, like) for one, size in sizes]))
        _count(layer, columns)


def choose_rows(cache: DynamicCache, rows: Tensor, columns: int) -> None:
    """Go on with these rows, in this order and as often as they are named, and with the last `columns` tokens read."""
    for layer in cache.layers:
        if layer.is_initialized:
            where, width = rows.to(layer.keys.device), _width(layer, columns)
            first = layer.keys.shape[2] - width
            layer.keys, layer.values = (kept[where, :, first:] for kept in (layer.keys, layer.values))
            _count(layer, columns)


def first_row(cache: DynamicCache) -> DynamicCache:
    """Return a cache of its own with the first row of another."""
    one = copy(cache)
    one.layers = [copy(layer) for layer in cache.layers]
    for layer in one.layers:
        if layer.is_initialized:
            layer.keys, layer.values = layer.keys[:1].clone(), layer.values[:1].clone()
    return one


def _widened(kept: Tensor | None, read: Read, width: int, like: Tensor) -> Tensor:
    """Return keys or values (rows, heads, width, size), padded on the left."""
    if kept is None or not read.columns:
        return like.new_zeros(read.rows, like.shape[1], width, like.shape[3])
    return F.pad(kept, (0, 0, width - kept.shape[2], 0))


def _width(layer: DynamicLayer, columns: int) -> int:
    """Return how many of the last columns a layer keeps."""
    return min(columns, layer.sliding_window - 1) if isinstance(layer, DynamicSlidingWindowLayer) else columns


def _count(layer: DynamicLayer, columns: int) -> None:
    if isinstance(layer, DynamicSlidingWindowLayer):
        layer.cumulative_length = columns
