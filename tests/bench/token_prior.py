"""`python -m tests.bench.token_prior`: try a prior that is told what the token was, on validation prefixes.

The workspace's prior is trained further on a store of `collect` with the embedding of each activation's token beside its noisy latent,
left out of a quarter of the rows, so that one network serves as both: told and not told. Both are measured by their held-out loss, and
as the prior of the walk and of the paper's projection beside the workspace's own. Writes reports/token_prior.json, as `tune-walk` does.
"""

import argparse
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import BatchSampler, RandomSampler

from glp_core.cli.console import reporter, say
from glp_core.files import replacing
from glp_core.llm.hooks import edit
from glp_core.prior import flow
from glp_core.prior.distance import SHARES
from glp_core.prior.network import Network
from glp_core.prior.projection import make_projector
from glp_core.prior.reference import Reference
from glp_core.prior.walk import WalkRule, walk
from glp_core.steering.trials.tuning import Form, tune
from glp_core.training.loss import stratified_sigmas
from glp_core.workspace import DEMO, Workspace

DIRECTIONS = ["click-bait", "code", "film-reviews", "medicine", "sports", "pirate"]
STRENGTHS = [0.3, 0.6, 1.0, 1.4]
LEVELS = (0.1, 0.25, 0.5, 0.75, 0.95)
UNTOLD = 0.25
BATCH, SIGMA_GROUPS, SAVE_EVERY = 2048, 256, 100


class TokenNetwork(Network):
    """A GLP's network that takes noisy latents and tokens' embeddings in one (n, 2 d); an embedding of zeros says nothing."""

    def __init__(self, start):
        super().__init__(start.config)
        self.load_state_dict(start.state_dict())
        narrow = self.in_proj
        self.in_proj = nn.Linear(2 * narrow.in_features, narrow.out_features)
        with torch.no_grad():
            self.in_proj.weight.copy_(torch.cat([narrow.weight, torch.zeros_like(narrow.weight)], 1))
            self.in_proj.bias.copy_(narrow.bias)

    def velocity(self, z, sigma):
        """Return velocities (n, d) of z (n, 2 d) at one noise level."""
        dtype = self.in_proj.weight.dtype
        return self(z.to(dtype), self.embed(torch.tensor([float(sigma)]))).float()


def standardised_embeddings(llm):
    """Return every token's input embedding (vocabulary, d), each dimension with mean 0 and variance 1 over the vocabulary."""
    weight = llm.model.get_input_embeddings().weight.detach().float()
    return (weight - weight.mean(0)) / weight.std(0)


def loss(network, z, told, sigmas, eps):
    """Return each row's flow-matching loss (n,); row i has noise level sigmas[i // (n / groups)]."""
    noisy = flow.add_noise(z, eps, sigmas.repeat_interleave(len(z) // len(sigmas)))
    return (network(torch.cat([noisy, told], -1), network.embed(sigmas)).float() - (eps - z)).square().mean(-1)


class Training:
    """Train a network further, and go on after a kill: its folder keeps the state."""

    def __init__(self, glp, embeddings, store, folder, activations, rate):
        self.glp, self.embeddings, self.state = glp, embeddings, folder / "state.pt"
        parts = [store.rows(number) for number in range(len(store.shards))]
        self.acts = torch.cat([part["acts"] for part in parts])
        self.tokens = torch.cat([part["tokens"] for part in parts]).long()
        self.steps, self.step = activations // BATCH, 0
        self.network = TokenNetwork(glp.network).float()
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(0.99))
        self.optimizer = torch.optim.AdamW(self.network.parameters(), rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
        self.rates = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, rate, self.steps + 1, pct_start=0.05, cycle_momentum=False
        )
        self.parts = {name: getattr(self, name) for name in ("network", "average", "optimizer", "rates")}
        if self.state.is_file():
            saved = torch.load(self.state, weights_only=True)
            self.step = saved.pop("step")
            for name, part in self.parts.items():
                part.load_state_dict(saved[name])

    def save(self):
        with replacing(self.state) as path:
            torch.save({name: part.state_dict() for name, part in self.parts.items()} | {"step": self.step}, path)

    def batches(self):
        """Yield the rows of all batches from the first on, whatever was done before; the same in every call."""
        generator = torch.Generator().manual_seed(0)
        while True:
            yield from BatchSampler(RandomSampler(self.acts, generator=generator), BATCH, drop_last=True)

    def run(self, progress):
        """Train to the end and return the averaged network."""
        for number, rows in enumerate(self.batches()):
            if number >= self.steps:
                break
            if number < self.step:
                continue
            value = self._step(rows)
            self.step = number + 1
            if self.step % SAVE_EVERY == 0 or self.step == self.steps:
                self.save()
            progress(self.step, self.steps, f"loss {value:.3f}")
        return self.average.module.eval().requires_grad_(requires_grad=False)

    def _step(self, rows):
        generator = torch.Generator().manual_seed(self.step)
        z = self.glp.normalize(self.acts[rows])
        told = self.embeddings[self.tokens[rows]] * (torch.rand(len(z), 1, generator=generator) >= UNTOLD)
        eps = torch.randn(z.shape, generator=generator)
        sigmas = stratified_sigmas(SIGMA_GROUPS, generator)
        with torch.autocast("cpu", torch.bfloat16):
            value = loss(self.network, z, told, sigmas, eps).mean()
        value.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.rates.step()
        self.average.update_parameters(self.network)
        return float(value.detach())


@torch.no_grad()
def losses(network, z, told):
    """Return the loss over all noise levels and at some, of held-out latents (n, d), under the same noise in every call."""
    generator = torch.Generator().manual_seed(0)
    eps = torch.randn(z.shape, generator=generator)
    every = stratified_sigmas(len(z), generator)

    def mean(sigmas):
        parts = zip(*(one.split(BATCH) for one in (z, told, sigmas, eps)), strict=True)
        with torch.autocast("cpu", torch.bfloat16):
            return round(float(torch.cat([loss(network, *part) for part in parts]).mean()), 4)

    return {"all": mean(every)} | {f"{level:g}": mean(torch.full((len(z),), level)) for level in LEVELS}


class Listener:
    """Hears which token each row of a forward is about: the rows of a layer's output are known again by their values."""

    def __init__(self, site, embeddings):
        self.site, self.embeddings = site, embeddings
        self.tokens = self.hidden = None

    @contextmanager
    def listening(self):
        model = self.site.llm.model
        hook = model.get_input_embeddings().register_forward_hook(self._hear)
        try:
            with edit(model, {self.site.layer: self._see}):
                yield
        finally:
            hook.remove()

    def _hear(self, _module, inputs, _output):
        self.tokens = inputs[0][:, -1].clone()

    def _see(self, hidden):
        self.hidden = hidden[:, -1].float().clone()
        return hidden

    def of(self, clean):
        """Return the embeddings (n, d) of the tokens of unedited activations (n, d) of the last forward."""
        same = (clean[:, None] == self.hidden[None]).all(-1)
        if not same.any(1).all():
            raise RuntimeError("A row is none of the last forward's.")
        return self.embeddings[self.tokens[same.float().argmax(1)]]


@dataclass(frozen=True, eq=False)
class TokenPrior:
    """The network as a prior that projects and walks, told the token or not."""

    glp: object
    """Of the same latents: it normalises."""
    network: TokenNetwork
    listener: Listener
    told: bool

    def context(self, clean):
        return self.listener.of(clean) if self.told else torch.zeros_like(clean)

    def velocity(self, z, sigma):
        """Return velocities (n, 2 d) of z (n, 2 d): an embedding is never noised, and stays as it is."""
        noisy, scaled = z.chunk(2, -1)
        embedding = scaled / (1 - sigma)
        return torch.cat([self.network.velocity(torch.cat([noisy, embedding], -1), sigma), -embedding], -1)

    def velocities(self, asked):
        return [self.velocity(z, sigma) for z, sigma in asked]

    def reference(self, acts, embeddings, measured):
        """Return what `make_reference` would of these held-out activations (n, d): the bound is by this prior's own errors."""
        z, sigma = self.glp.normalize(acts), measured["sigma"]
        noise = flow.fixed_noise(z.shape[1], measured["noise_seed"]).expand_as(z)
        told = embeddings if self.told else torch.zeros_like(z)
        found = self.network.velocity(torch.cat([flow.add_noise(z, noise, sigma), told], -1), sigma)
        errors = torch.quantile((found - (noise - z)).square().mean(-1).double(), torch.tensor(SHARES, dtype=torch.float64))
        return Reference(measured | {"quantiles": list(zip(SHARES, errors.tolist(), strict=True)), "n": len(z)})


@dataclass(frozen=True, eq=False)
class TokenProjection:
    """The paper's projection with a prior that is told the token."""

    prior: TokenPrior
    noise_level: float
    name: str = "glp"
    draws: int = 1

    def __call__(self, edited, clean, generator=None, *, noise):
        sigmas, context = flow.projection_schedule(self.noise_level, 20), self.prior.context(clean)
        z = flow.add_noise(self.prior.glp.normalize(edited), noise, sigmas[0])
        for now, after in zip(sigmas, sigmas[1:], strict=False):
            z = z + (after - now) * self.prior.network.velocity(torch.cat([z, context], -1), now)
        return self.prior.glp.denormalize(z)


@dataclass(frozen=True, eq=False)
class TokenWalk:
    """The walk by a rule with a prior that is told the token: an embedding goes beside each latent, and is neither pushed nor noised."""

    prior: TokenPrior
    rule: WalkRule
    name: str = "walk"

    @property
    def draws(self):
        return self.rule.draws

    def __call__(self, edited, clean, generator=None, *, noise):
        glp, context = self.prior.glp, self.prior.context(clean)
        z, after = glp.normalize(clean), torch.empty_like(clean)
        push, noise = glp.normalize(edited) - z, noise.reshape(self.draws, *clean.shape)
        for rows, settings in self.rule.parts(push):
            rows = torch.arange(len(z)) if rows is None else rows
            nothing = torch.zeros_like(z[rows])
            if settings.bound is not None:  # errors are means over twice as many dimensions
                fixed = flow.fixed_noise(z.shape[1], settings.bound.noise_seed)
                settings = replace(settings, bound=replace(settings.bound, error=settings.bound.error / 2))
            else:
                fixed = nothing[0]
            after[rows] = walk(
                self.prior.velocities,
                torch.cat([z[rows], context[rows]], -1),
                torch.cat([push[rows], nothing], -1),
                torch.cat([noise[: settings.draws, rows], nothing.expand(settings.draws, *nothing.shape)], -1),
                settings,
                torch.cat([fixed, nothing[0]]),
            )[:, : z.shape[1]]
        return glp.denormalize(after)


def forms(workspace, glp, priors, references):
    """Return raw, and walk and projections with the workspace's prior, and with the network that is told the token or is not."""
    rule = workspace.walk()
    made = [Form("raw", "raw", None, {})]
    made.append(Form("walk", "walk", make_projector("walk", glp=glp, walk=rule), asdict(rule)))
    for level in (0.25, 0.5):
        made.append(Form(f"glp {level:g}", "glp", make_projector("glp", glp=glp, noise_level=level), {"noise_level": level}))
    for name, prior in priors.items():
        made.append(Form(f"walk, {name}", "walk", TokenWalk(prior, rule.bounded_by(references[name])), asdict(rule)))
        for level in (0.25, 0.5):
            made.append(Form(f"glp {level:g}, {name}", "glp", TokenProjection(prior, level), {"noise_level": level}))
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=DEMO)
    parser.add_argument("--store", type=Path, help="activations of `collect` (default: the workspace's)")
    parser.add_argument(
        "--out", type=Path, help="folder for the network, from which a killed call goes on (default: the cache folder)"
    )
    parser.add_argument(
        "--activations", type=int, default=3_200_000, help="to train on, repeats counted (default: 3.2 million)"
    )
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--directions", nargs="+", default=DIRECTIONS)
    parser.add_argument("--limit", type=int, default=12, help="prefixes")
    args = parser.parse_args()
    workspace = Workspace.open(args.workspace)
    store, out = workspace.open_store(args.store), args.out or workspace.training_folder / "token-prior"
    llm = workspace.load_llm()
    embeddings = standardised_embeddings(llm)
    whole = workspace.load_glp(dtype=torch.float32)
    training = Training(whole, embeddings, store, out, args.activations, args.learning_rate)
    network = training.run(reporter("train"))
    held_out = store.validation_rows(8192)
    z, told = whole.normalize(held_out["acts"]), embeddings[held_out["tokens"].long()]
    nothing = torch.zeros_like(told)
    report = {
        "losses": {
            "as it is": losses(TokenNetwork(whole.network), z, nothing),
            "trained on, not told": losses(network, z, nothing),
            "trained on, told": losses(network, z, told),
        }
    }
    for name, values in report["losses"].items():
        say(f"{name}: " + ", ".join(f"{level} {value:.4f}" for level, value in values.items()))
    report |= steered(workspace, llm, network, held_out["acts"], told, args)
    settings = {"directions": args.directions, "prefixes": args.limit, "strengths": STRENGTHS, "held_out": len(z)}
    settings |= {"activations": training.steps * BATCH, "distinct": len(training.acts), "learning_rate": args.learning_rate}
    workspace.save_report("token_prior", report | {"settings": settings})
    for row in report["forms"]:
        say(f"{row['hypervolume']:.3f}  {row['hypervolume_ci']}  {row['gain_at_equal_fluency']:.3f}  {row['name']}")


def steered(workspace, llm, network, acts, told, args):
    """Return what texts become with the network as prior, told and not, beside the workspace's own."""
    glp, measured = workspace.load_glp(), workspace.report("reference")
    network = network.to(glp.dtype)
    listener = Listener(workspace.site(llm), standardised_embeddings(llm))
    priors = {"told": TokenPrior(glp, network, listener, told=True), "not told": TokenPrior(glp, network, listener, told=False)}
    references = {name: prior.reference(acts, told, measured) for name, prior in priors.items()}
    prefixes = workspace.prefixes("validation_prefixes", None)[: args.limit]
    tried = forms(workspace, glp, priors, references)
    directions = workspace.directions(args.directions)
    with listener.listening():
        return tune(llm, glp, directions, tried, prefixes, strengths=STRENGTHS, progress=reporter("tune"))


if __name__ == "__main__":
    main()
