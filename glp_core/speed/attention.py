"""Attention of a decode step on a CPU whose numbers depend on a row's own tokens only.

Rows of other lengths beside a row pad it, and in bfloat16 torch's own attention rounds by where the padding lies. Here sums are made in
float64 and rounded once: what is padded adds exact zeros, and the order of a sum does not reach the result. Knows tensors and
transformers' registry of attention; knows nothing of texts.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "glp_explorer_row_by_row"
"""In transformers' registry."""
LEAST = torch.finfo(torch.float64).min
"""Score of a column that may not be looked at: a row that may look at none, as one that is all padding, stays finite."""


def attend_row_by_row(model: "PreTrainedModel") -> None:
    """Let a model's decode steps attend row by row where it is on a CPU in bfloat16 and has torch's own attention."""
    if model.device.type != "cpu" or model.dtype != torch.bfloat16 or model.config._attn_implementation != "sdpa":
        return
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def step_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """Return what one token of each row attends to (rows, heads, 1, d_value), computed in float64.

    Args:
        query: (rows, heads, 1, d).
        key: (rows, key heads, columns, d); each key head serves as many neighbouring heads.
        value: (rows, key heads, columns, d_value).
        mask: (rows or 1, 1, 1, columns or more): whether a column may be looked at, or what is added to its score; None: all may.
    """
    rows, heads, _, d = query.shape
    grouped = query.reshape(rows, key.shape[1], -1, d).double()
    scores = grouped @ key.double().transpose(-1, -2) * scaling
    if mask is not None:
        mask = mask[..., : key.shape[2]]
        scores = scores.masked_fill(~mask, LEAST) if mask.dtype == torch.bool else (scores + mask.double()).clamp_min(LEAST)
    return (scores.softmax(-1) @ value.double()).to(query.dtype).reshape(rows, heads, 1, -1)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend as transformers wants it: (rows, tokens, heads, d_value); texts that are read pass torch's own attention."""
    one_mask = attention_mask is None or attention_mask.shape[1] == 1
    if query.shape[2] == 1 and query.is_cpu and one_mask:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        return step_attention(query, key, value, attention_mask, scale).transpose(1, 2).contiguous(), None
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    made: Tensor = sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
    )[0]
    return made, None
