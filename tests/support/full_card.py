"""A CUDA card that is not there: its memory as torch and the driver would count it, and what torch keeps of freed tensors."""

import torch


class Card:
    """Counts bytes; `cached` are taken until torch gives them back."""

    def __init__(self, free: int, cached: int = 0) -> None:
        self.free, self.cached, self.capturing = free, cached, False

    def empty_cache(self) -> None:
        if self.capturing:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.free, self.cached = self.free + self.cached, 0


def insert(monkeypatch, free: int, cached: int = 0) -> Card:
    """Let torch claim a card with so many bytes free and so many cached."""
    card = Card(free, cached)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: card.capturing)
    monkeypatch.setattr(torch.cuda, "empty_cache", card.empty_cache)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device=None: (card.free, 80_000_000_000))
    return card
