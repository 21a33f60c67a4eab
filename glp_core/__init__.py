"""GLP Explorer's core: generative latent priors over LLM activations, and the hooks to use them.

Names are imported when first used, so that a page can show a workspace's facts before torch is loaded.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glp_core.errors import GlpError
    from glp_core.llm.model import load_llm
    from glp_core.prior.checkpoint import load_glp, save_glp
    from glp_core.prior.glp import GLP
    from glp_core.prior.network import DenoiserConfig

__all__ = ["GLP", "DenoiserConfig", "GlpError", "load_glp", "load_llm", "save_glp"]

_HOMES = {
    "GLP": "prior.glp",
    "DenoiserConfig": "prior.network",
    "GlpError": "errors",
    "load_glp": "prior.checkpoint",
    "load_llm": "llm.model",
    "save_glp": "prior.checkpoint",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
