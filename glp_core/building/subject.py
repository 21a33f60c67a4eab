"""Which model a build is about: found in the workspace that is there, or from what was asked for, and checked before any work."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from glp_core.building.prior import check_prior
from glp_core.data.texts.source import OwnTexts
from glp_core.devices import named_dtype
from glp_core.errors import GlpError
from glp_core.llm.decoding import check_decoding
from glp_core.llm.hooks import layer_at
from glp_core.llm.loading import load_llm
from glp_core.llm.model import Llm
from glp_core.llm.sources import LlmSource
from glp_core.workspace import Workspace


@dataclass(frozen=True)
class Subject:
    """One LLM and one of its layers."""

    workspace: Workspace
    """As it is, or as it will be."""
    where: str
    """The LLM, as --llm takes it."""
    width: int
    """Of the layer's activations."""
    chat: bool
    """Whether the LLM has a chat template."""
    text_words: tuple[str, ...] = ()
    """Its texts, as options of `collect`; empty for the demo's corpus."""
    context: int = sys.maxsize
    """Tokens that the LLM reads at most."""
    glp: str = ""
    """Where its prior comes from; empty when it is trained."""
    weights: str = ""
    """Digest of the weights there."""

    @property
    def new_words(self) -> tuple[str, ...]:
        """What makes the workspace, as options of `collect`; empty when it is there."""
        if (self.workspace.folder / "workspace.json").is_file():
            return ()
        own = self.workspace
        where = ("--layers-at", own.llm.layers_at) if own.llm.layers_at else ()
        return ("--llm", self.where, *where, "--layer", str(own.layer), "--name", own.name, *self.text_words)


@dataclass(frozen=True)
class Asked:
    """What a command line says about the model; None for what it leaves out."""

    where: str | None = None
    source: LlmSource | None = None
    """The LLM that `where` names."""
    layer: int | None = None
    texts: OwnTexts | None = None
    text_words: tuple[str, ...] = ()
    """What `texts` was read from, as options of `collect`."""
    glp: str | None = None


def find_workspace(folder: Path, asked: Asked, device: str, name: str) -> Workspace:
    """Return the workspace in `folder`, or the one that is to be made there, named `name`.

    Where no layer is asked for, a new one's layer and median norm are not known yet: `read_subject` finds them.

    Raises:
        GlpError: another model is asked for than the workspace has, or there is neither a workspace nor a model asked for.
    """
    if (folder / "workspace.json").is_file():
        workspace = Workspace.open(folder, device)
        its = workspace.llm
        if asked.source and replace(asked.source, layers_at=its.layers_at, weights=its.weights) != its:
            raise GlpError(f"{folder} is about {workspace.llm.label}, not {asked.where}. Name another folder with --workspace.")
        if asked.layer is not None and asked.layer != workspace.layer:
            raise GlpError(
                f"{folder} is about layer {workspace.layer}, not {asked.layer}. Name another folder with --workspace."
            )
        own = workspace.texts
        if asked.texts and (own is None or (own.source, own.field) != (asked.texts.source, asked.texts.field)):
            read = own.label if own else "the demo's corpus"
            raise GlpError(f"{folder} reads {read}, not {asked.texts.label}. Name another folder with --workspace.")
        return workspace
    if asked.layer is not None and asked.layer < 0:
        raise GlpError(f"--layer is {asked.layer}, wanted the number of a block, counted from 0.")
    if asked.source is None:
        raise GlpError(f"There is no workspace in {folder} yet. Say which model it is to be about with --llm.")
    return Workspace(folder, name, asked.source, asked.layer or 0, median_norm=1.0, device=device, texts=asked.texts)


def read_subject(workspace: Workspace, asked: Asked, tell: Callable[[str], None]) -> tuple[Subject, Llm]:
    """Load the LLM and return the subject, and the LLM.

    A new workspace for which no layer is asked is about the middle one, or the one nearest to it that its prior serves.

    Raises:
        GlpError: the LLM cannot be loaded or cannot write texts, or has no such layer.
    """
    llm = load_llm(workspace.llm, device=workspace.device, dtype=named_dtype(workspace.dtype, workspace.device), tell=tell)
    if not (workspace.folder / "workspace.json").is_file() and asked.layer is None:
        served = check_prior(asked.glp, llm.d_model).layers if asked.glp else ()
        middle = (llm.n_layers - 1) // 2
        workspace = replace(workspace, layer=min(served, key=lambda layer: abs(layer - middle), default=middle))
    layer_at(llm.model, workspace.layer)
    check_decoding(llm, workspace.layer)
    chat = bool(llm.tokenizer.chat_template)
    words, glp = asked.text_words, asked.glp or ""
    return Subject(workspace, asked.where or "", llm.d_model, chat, words, llm.context_length, glp), llm
