"""Measure the workspace's GLP: held-out loss, Frechet distance, Delta LM loss; write reports/evaluate.json and reference.json.

Of an LLM that can chat, reports/conversations.json too: the GLP's error on conversations beside that on text.
"""

import argparse

import torch
from torch import Tensor

from glp_core.cli.console import add_workspace_arguments, check_counts, open_workspace, reporter, say
from glp_core.data.store import ActivationStore
from glp_core.errors import GlpError
from glp_core.evaluation import fidelity
from glp_core.evaluation.conversations import CONVERSATIONS, conversation_report
from glp_core.evaluation.layers import layers_report
from glp_core.files import Json
from glp_core.llm.model import Llm
from glp_core.prior.checkpoint import read_statistics
from glp_core.prior.distance import make_reference
from glp_core.prior.facts import GlpFacts
from glp_core.prior.gaussian import GaussianPrior, gaussian_loss, latent_covariance
from glp_core.prior.glp import GLP
from glp_core.stats import bootstrap_mean
from glp_core.workspace import DIGEST_LENGTH, Workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser, store=True)
    parser.add_argument("--activations", type=int, default=16_384, help="held-out activations of the loss (default: 16,384)")
    parser.add_argument("--samples", type=int, default=10_000, help="of the Frechet distance (default: 10,000)")
    parser.add_argument("--documents", type=int, default=128, help="held-out documents of the Delta LM loss (default: 128)")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of each document (default: 128)")
    about = f"held-out conversations, 0 for none (default: {CONVERSATIONS})"
    parser.add_argument("--conversations", type=int, default=CONVERSATIONS, metavar="N", help=about)
    about = (
        "measure this alone: conversations, which needs no activations, or the Frechet distance in an evaluation that is there"
    )
    parser.add_argument("--only", choices=("conversations", "frechet"), help=about)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    check_counts(args, ("activations", "samples", "documents", "tokens"), 2)
    check_counts(args, ("conversations",), 1 if args.only == "conversations" else 0)
    workspace = open_workspace(args)
    if args.only == "conversations":
        measure_conversations(workspace, workspace.load_llm(), workspace.load_glp(), args.conversations)
        return
    if args.only == "frechet":
        measure_frechet_again(workspace, args)
        return
    store = workspace.open_store(args.store)
    llm = workspace.load_llm()  # first: one that does not fit is told before work, as are texts that are too short
    ids = held_out_rows(workspace, llm, args)
    whole, facts = workspace.load_glp(whole=True), GlpFacts.read(workspace.folder / "glp")
    glp = whole.at(workspace.layer)
    if "covariance" not in read_statistics(workspace.folder / "glp"):
        workspace.keep_covariance(store.statistics()["covariance"])
    prior = GaussianPrior(glp.normalizer.mean[0], workspace.covariance())
    report: Json = {"n_activations_trained": facts.activations_seen, "about": facts.about} | history(workspace, facts)
    if "transfer_from" in report:
        say(f"The GLP was trained on {report['transfer_from']}: what follows is a transfer to {workspace.llm.label}.")
    say("Held-out loss and the reference of manifold distance ...")
    report |= loss_report(workspace, store, glp, args.activations)
    workspace.save_report("reference", make_reference(glp, store.validation()))
    report["frechet"] = frechet(workspace, store, glp, prior, args.samples)
    report["delta_lm"] = fidelity.delta_lm_report(workspace.site(llm), glp, prior, ids, progress=reporter("delta LM"))
    workspace.save_report("evaluate", report)
    others = [layer for layer in whole.layers if layer != workspace.layer and layer < llm.n_layers]
    if others:
        measured = layers_report(llm, whole, ids, others, progress=reporter("other layers"))
        workspace.save_report("layers", {"layers": measured})
    else:
        workspace.report_path("layers").unlink(missing_ok=True)
    workspace.report_path("conversations").unlink(missing_ok=True)
    if args.conversations:
        try:
            measure_conversations(workspace, llm, glp, args.conversations)
        except GlpError as error:
            say(f"Conversations are left out: {error}")
    say(f"{workspace.folder / 'reports' / 'evaluate.json'}: {summary(report)}")


def frechet(workspace: Workspace, store: ActivationStore, glp: GLP, prior: GaussianPrior, n: int) -> Json:
    """Return Frechet distances of so many samples to held-out activations."""
    rows = store.validation_rows()
    held_out = fidelity.Rows(rows["acts"], rows["documents"])
    return fidelity.frechet_report(glp, prior, held_out, workspace.median_norm, n=n, progress=reporter("frechet"))


def measure_frechet_again(workspace: Workspace, args: argparse.Namespace) -> None:
    """Measure the Frechet distance anew, and keep the rest of this prior's evaluation, which must be there."""
    report = workspace.report("evaluate") or {}
    if report.get("glp_digest") != workspace.glp_digest():
        raise GlpError(
            f"{workspace.report_path('evaluate')} is no evaluation of this prior. Leave --only out: all is measured."
        )
    store, glp = workspace.open_store(args.store), workspace.load_glp()
    prior = GaussianPrior(glp.normalizer.mean[0], workspace.covariance())
    measured = frechet(workspace, store, glp, prior, args.samples) | {"made_by": workspace.stamp()}
    workspace.save_report("evaluate", report | {"frechet": measured})
    say(f"{workspace.report_path('evaluate')}: {summary(workspace.report('evaluate') or {})}")


def held_out_rows(workspace: Workspace, llm: Llm, args: argparse.Namespace) -> Tensor:
    """Return ids (--documents, --tokens) of held-out texts; of fewer tokens, which is said, where the texts are short."""
    ids = llm.long_rows([document.text for document in workspace.documents("validation")], args.documents, args.tokens)
    if ids.shape[1] < args.tokens:
        say(f"No held-out text has {args.tokens:,} tokens: {ids.shape[1]:,} of each are read, which half of them have.")
    return ids


def measure_conversations(workspace: Workspace, llm: Llm, glp: GLP, n: int) -> None:
    """Measure the GLP on so many held-out conversations; write reports/conversations.json."""
    documents = workspace.documents("validation")[:n]
    report = conversation_report(workspace.site(llm), glp, documents, progress=reporter("conversations"))
    workspace.save_report("conversations", report)
    told = ", ".join(
        f"{part} {one['value']:.3f} [{one['ci'][0]:.3f}, {one['ci'][1]:.3f}]" for part, one in report["ratios"].items()
    )
    say(f"Median denoising error in conversations, text is 1: {told}.")


def history(workspace: Workspace, facts: GlpFacts) -> Json:
    """Return where the prior comes from: the LLM that it is transferred from, and what was measured of the one that it went on from."""
    origin = workspace.transferred_from()
    report: Json = {"transfer_from": origin} if origin else {}
    before, went_on_from = workspace.report("evaluate") or {}, facts.about.get("went_on_from")
    start = str(went_on_from.get("sha256", "")) if isinstance(went_on_from, dict) else ""
    if start and before.get("glp_digest") == start[:DIGEST_LENGTH]:
        kept = ("glp_digest", "validation_loss", "delta_lm", "frechet", "transfer_from")
        report["before"] = {name: before[name] for name in kept if name in before}
    elif before.get("glp_digest") == workspace.glp_digest() and "before" in before:
        report["before"] = before["before"]  # measured again
    return report


def loss_report(workspace: Workspace, store: ActivationStore, glp: GLP, n: int) -> Json:
    """Return the loss on held-out activations (interval over documents) beside that of the best linear denoiser."""
    rows = store.validation_rows(n)
    errors = fidelity.held_out_errors(glp, rows["acts"])
    by_document = fidelity.mean_by(errors, rows["documents"])
    over_documents = bootstrap_mean(by_document)
    statistics = {"var": glp.normalizer.var[0].cpu(), "covariance": workspace.covariance()}
    return {
        "validation_loss": errors.mean().item(),
        "validation": {
            "activations": len(errors),
            "documents": len(by_document),
            "mean_over_documents": over_documents.value,
            "mean_over_documents_ci": over_documents.ci,
            "noise_draws": 2,
            "noise_levels": "stratified over [0, 1]",
            "dtype": str(glp.dtype).removeprefix("torch."),
        },
        "gaussian_loss": gaussian_loss(latent_covariance(statistics)),
        "gaussian_loss_held_out": gaussian_loss(torch.cov(glp.normalize(store.validation()).T)),
    }


def summary(report: Json) -> str:
    """Return the headline numbers in one line."""
    delta, frechet = report["delta_lm"], report["frechet"]
    before = f" Before it went on: Delta LM {report['before']['delta_lm']['glp']:.3f}." if "before" in report else ""
    return (
        f"validation loss {report['validation_loss']:.3f} (Gaussian {report['gaussian_loss']:.3f}), "
        f"Frechet {frechet['generated_real']:.1f} (real {frechet['real_real']:.1f}), "
        f"Delta LM {delta['glp']:.3f} (Gaussian {delta['gaussian_mean']:.3f}, mean {delta['mean_ablation']:.2f}).{before}"
    )
