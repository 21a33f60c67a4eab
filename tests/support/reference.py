"""A plain second implementation of the GLP, written from the paper and the released files' layout, to test and time ours against.

It runs the way the paper's code runs: network in fp32, time embedding and its projections for every row in every call,
separate gate and up projections, a scheduler that is asked step by step. It shares no line with glp_core.
"""

import math
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn


def embed_number(x, width, longest=10000):
    """Cosines, then sines, of x at geometrically falling frequencies; a zero at the end when the width is odd."""
    count = width // 2
    powers = torch.arange(count, dtype=torch.float32) / count
    angles = x.to(torch.float32).reshape(-1, 1) * torch.exp(-math.log(longest) * powers).reshape(1, -1)
    out = torch.zeros(len(angles), width)
    out[:, :count], out[:, count : 2 * count] = torch.cos(angles), torch.sin(angles)
    return out


class PlainBlock(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.ln = nn.LayerNorm(width)
        self.up_proj = nn.Linear(width, hidden)
        self.gate_proj = nn.Linear(width, hidden)
        self.time_proj = nn.Linear(width, hidden)
        self.down_proj = nn.Linear(hidden, width)

    def neurons(self, x, condition):
        h = self.ln(x)
        gate = self.gate_proj(h) * self.time_proj(condition)
        return gate * torch.sigmoid(gate) * self.up_proj(h)


class PlainModel(nn.Module):
    def __init__(self, d_input, d_model, d_mlp, n_layers, multi_layer_n_layers=None):
        super().__init__()
        self.width, self.depth = d_model, multi_layer_n_layers
        self.in_proj = nn.Linear(d_input, d_model)
        self.layers = nn.ModuleList([PlainBlock(d_model, d_mlp) for _ in range(n_layers)])
        self.ln = nn.LayerNorm(d_model)
        self.out_proj = nn.Linear(d_model, d_input)
        self.time_embed = nn.Sequential(nn.Linear(d_model, d_model), nn.SiLU(), nn.Linear(d_model, d_model))
        if multi_layer_n_layers:
            self.layer_embed = nn.Sequential(nn.Linear(d_model, d_model), nn.SiLU(), nn.Linear(d_model, d_model))

    def forward(self, z, timestep, layer=None):
        """z (n, d_input), timestep (n,) of 0 to 1000, layer (n,): the predicted noise minus data, and all hidden neurons."""
        condition = self.time_embed(embed_number(timestep, self.width))
        if self.depth:
            condition = condition + self.layer_embed(embed_number(layer.float() / (self.depth - 1), self.width))
        x, hidden = self.in_proj(z), []
        for block in self.layers:
            hidden.append(block.neurons(x, condition))
            x = x + block.down_proj(hidden[-1])
        return self.out_proj(self.ln(x)), torch.stack(hidden, dim=1)


class StepScheduler:
    """Keeps a grid of timesteps and walks along it, one Euler step a call."""

    def __init__(self, steps):
        self.timesteps = torch.linspace(1000.0, 1.0, steps)
        self.sigmas = torch.cat([self.timesteps / 1000, torch.zeros(1)])
        self.index = 0

    def step(self, velocity, z):
        z = z + (self.sigmas[self.index + 1] - self.sigmas[self.index]) * velocity
        self.index += 1
        return z


class ReferenceGlp:
    """What the paper's code does with a GLP's weights."""

    def __init__(self, shape, weights, mean, var):
        self.model = PlainModel(**shape).eval().requires_grad_(False)
        self.model.load_state_dict({name.removeprefix("model."): t.float() for name, t in weights.items()})
        self.mean = mean.reshape(-1, shape["d_input"])
        self.std = var.reshape(-1, shape["d_input"]).sqrt()

    @classmethod
    def read(cls, folder, checkpoint="final"):
        """Read a released folder."""
        shape = yaml.safe_load((Path(folder) / "config.yaml").read_text())["glp_kwargs"]["denoiser_config"]
        statistics = torch.load(Path(folder) / "rep_statistics.pt", weights_only=True)
        return cls(shape, load_file(Path(folder) / f"{checkpoint}.safetensors"), statistics["mean"], statistics["var"])

    def _at(self, table, layer):
        return table[layer if len(table) > 1 else 0]

    def normalize(self, acts, layer=None):
        return (acts - self._at(self.mean, layer)) / self._at(self.std, layer)

    def denormalize(self, z, layer=None):
        return z * self._at(self.std, layer) + self._at(self.mean, layer)

    @torch.no_grad()
    def call(self, z, sigma, layer=None):
        sigma = torch.as_tensor(sigma, dtype=torch.float32).expand(len(z))
        layers = None if layer is None else torch.as_tensor(layer).expand(len(z))
        return self.model(z, sigma * 1000, layers)

    def velocity(self, z, sigma, layer=None):
        return self.call(z, sigma, layer)[0]

    def neurons(self, acts, sigma, noise, layer=None):
        z = self.normalize(acts, layer)
        return self.call((1 - sigma) * z + sigma * noise, sigma, layer)[1]

    def denoising_error(self, acts, sigma, noise, layer=None):
        z = self.normalize(acts, layer)
        error = self.velocity((1 - sigma) * z + sigma * noise, sigma, layer) - (noise - z)
        return error.pow(2).mean(dim=1)

    @torch.no_grad()
    def _walk(self, z, scheduler, layer):
        layers = None if layer is None else torch.full((len(z),), layer)
        while scheduler.index < len(scheduler.timesteps):
            timestep = scheduler.timesteps[scheduler.index].expand(len(z))
            z = scheduler.step(self.model(z, timestep, layers)[0], z)
        return self.denormalize(z, layer)

    def sample(self, noise, steps, layer=None):
        return self._walk(noise, StepScheduler(steps), layer)

    def project(self, acts, noise_level, steps, noise, layer=None):
        scheduler = StepScheduler(steps)
        scheduler.index = int((torch.tensor([1 - noise_level]) * steps).long())
        sigma = scheduler.sigmas[scheduler.index]
        z = self.normalize(acts, layer)
        return self._walk((1 - sigma) * z + sigma * noise, scheduler, layer)


def write_released_folder(
    folder,
    *,
    d_input=24,
    d_model=48,
    d_mlp=96,
    n_layers=3,
    multi=None,
    layers=(7,),
    statistics="flat",
    checkpoint="final",
    seed=0,
    prefix="model.",
):
    """Write a folder of random weights in the released layout; `statistics` is flat (D,), broad (1, 1, D) or layered (L, D).

    `layers` are those of the LLM that it serves, `multi` how many the LLM has.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = {"d_input": d_input, "d_model": d_model, "d_mlp": d_mlp, "n_layers": n_layers, "multi_layer_n_layers": multi}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = PlainModel(**shape)
    weights = {}
    for name, p in model.state_dict().items():
        scale = 1.5 if p.ndim == 2 else 1.0
        weights[prefix + name] = (p * scale + 0.05 * torch.randn(p.shape, generator=generator)).contiguous()
    (folder / checkpoint).parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / f"{checkpoint}.safetensors")
    layout = {"flat": (d_input,), "broad": (1, 1, d_input), "layered": (multi, d_input)}[statistics]
    mean = 3 * torch.randn(layout, generator=generator)
    torch.save({"mean": mean, "var": 0.2 + 9 * torch.rand(layout, generator=generator)}, folder / "rep_statistics.pt")
    traced = {"layers": [f"model.layers.{layer}" for layer in layers], "retain": "output"}
    config = {"glp_kwargs": {"denoiser_config": shape, "tracedict_config": traced}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder
