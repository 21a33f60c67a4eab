"""GLP Explorer's core: generative latent priors over LLM activations, and the hooks to use them.

    from glp_core import Arm, Workspace, make_projector, record, steer

    demo = Workspace.open()  # the demo; or the folder of your own
    llm, glp = demo.load_llm(), demo.load_glp()
    happy = demo.direction("positive-sentiment").vector
    arms = [Arm("plain"), Arm("steered", happy, 1.0), Arm("projected", happy, 1.0, make_projector("glp", glp=glp))]
    texts = steer(demo.site(llm), "The film was", arms, max_tokens=24)  # name of an arm -> its text
    with record(llm.model, [demo.layer], stop=True) as acts:
        llm.model(llm.pad([llm.encode("A kind word.")])[0])
    words = acts[demo.layer][0, 1:]  # (tokens, d), the first token left out
    projected = glp.project(words, noise_level=0.5)  # (tokens, d)
    neurons = glp.neurons(words, sigma=0.1)  # (tokens, n_layers, d_mlp)

Names are imported when first used, so that a page can show a workspace's facts before torch is loaded.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glp_core.errors import GlpError
    from glp_core.llm.hooks import edit, record
    from glp_core.llm.loading import load_llm
    from glp_core.llm.sources import LlmSource
    from glp_core.prior.checkpoint import load_glp, save_glp
    from glp_core.prior.glp import GLP
    from glp_core.prior.network import DenoiserConfig
    from glp_core.prior.projection import make_projector
    from glp_core.steering.edit import Arm
    from glp_core.steering.generation import steer
    from glp_core.workspace import Workspace

__all__ = [
    "GLP",
    "Arm",
    "DenoiserConfig",
    "GlpError",
    "LlmSource",
    "Workspace",
    "edit",
    "load_glp",
    "load_llm",
    "make_projector",
    "record",
    "save_glp",
    "steer",
]

_HOMES = {
    "GLP": "prior.glp",
    "Arm": "steering.edit",
    "DenoiserConfig": "prior.network",
    "GlpError": "errors",
    "LlmSource": "llm.sources",
    "Workspace": "workspace",
    "edit": "llm.hooks",
    "load_glp": "prior.checkpoint",
    "load_llm": "llm.loading",
    "make_projector": "prior.projection",
    "record": "llm.hooks",
    "save_glp": "prior.checkpoint",
    "steer": "steering.generation",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
