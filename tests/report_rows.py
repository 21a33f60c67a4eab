"""What the reports say in words: rows for the README's few numbers and for the page of all numbers."""

from typing import NamedTuple


class Row(NamedTuple):
    """One measured number, or a few that belong together."""

    what: str
    measured: str
    matters: bool = False
    """Shown in the README too."""


def evaluate_rows(r):
    delta, frechet = r["delta_lm"], r["frechet"]
    yield Row("activations seen in training, repeats counted", f"{r['n_activations_trained']:,}", True)
    yield Row("validation loss (best linear denoiser)", f"{r['validation_loss']:.3f} ({r['gaussian_loss']:.3f})", True)
    yield Row(
        "rise of the LLM's loss when the layer is noised to 0.5 and denoised: GLP, Gaussian, mean ablation",
        f"+{delta['glp']:.3f}, +{delta['gaussian_mean']:.3f}, +{delta['mean_ablation']:.2f} nats",
        True,
    )
    yield Row(
        f"Frechet distance, generated-real (real-real, other documents), n = {frechet['n']:,}",
        f"{frechet['generated_real']:.1f} ({frechet['real_real']:.1f})",
        True,
    )


def bench_rows(r):
    solver = "{solver}, {calls} calls".format_map(r["fast_solver"])
    kinds = {"bf16": "same calls, native dtype", "int8": "same calls, int8 weights", "fp32": "same calls, fp32"}
    kinds |= {"ab2": "as on the pages, 4 calls for its 10", "fast": f"{solver} for its 10, in code only"}
    sizes = ("1", "3", "16", "128", "1024")
    for kind, words in kinds.items():
        times = r["projection"].get(kind, {})
        shown = [size for size in sizes if size in times]
        if shown:
            what = f"projection against a plain reference, batch {', '.join(shown)}: {words}"
            yield Row(what, ", ".join(f"{float(times[size]):.1f}x" for size in shown), kind == "ab2")
    yield Row(
        f"error of {solver} (of the reference's 10-call Euler), share of the correction",
        f"{r['fast_error']:.3f} ({r['euler10_error']:.3f})",
    )
    if "compare_vs_generate" in r:
        what = "three steered columns against one plain `generate`, 64 tokens"
        yield Row(what, f"{r['compare_vs_generate']:.2f}x the time", True)
    if "walk_vs_generate" in r:
        yield Row("... with the walk as the projection", f"{r['walk_vs_generate']:.2f}x the time")
    if "first_press_walk_vs_generate" in r:
        what = "... with the walk that the workspace's rule takes at the first press's strength"
        yield Row(what, f"{r['first_press_walk_vs_generate']:.2f}x the time")
    if "train_fraction_of_gemm" in r:
        yield Row("training, share of the machine's own matrix-product rate", f"{r['train_fraction_of_gemm']:.0%}")
    if "index_speedup" in r:
        yield Row("indexing all meta-neurons against two plain passes", f"{float(r['index_speedup']):.1f}x")
        yield Row("... share of that time in the models' matrix products", f"{float(r['index_share_of_products']):.0%}")


ARMS = {"raw": "raw", "walk": "walk", "glp": "GLP", "norm": "norm", "gaussian": "Gaussian"}


def steering_rows(r):
    strengths = sorted({row["strength"] for row in r["rows"] if row["strength"] >= 1.0})
    for strength in strengths:
        by_arm = {row["arm"]: row for row in r["rows"] if row["strength"] == strength}
        arms = {title: by_arm[arm] for arm, title in ARMS.items() if arm in by_arm}
        if not {"raw", "GLP"} <= arms.keys():
            continue
        n = next(iter(arms.values()))["n"]
        names = ", ".join(arms)
        what = f"positive sentiment at strength {strength:g}, {n} prefixes: concept score of {names}"
        yield Row(what, ", ".join(f"{row['concept']:.2f}" for row in arms.values()), strength == strengths[0])
        repeated = ", ".join(f"{row['repetition']:.0%}" for row in arms.values())
        yield Row(f"... repeated tokens of {names}", repeated, strength == strengths[0])


def outside_rows(r):
    shown = 0
    for row in r["comparisons"]:
        if row["arm"] == "walk" and row["strength"] >= 1.0:
            shown += 1
            n = r["settings"]["prefixes"]
            what = f"positive sentiment at strength {row['strength']:g}, {n} prefixes written after all choices"
            ratio = {"value": row["repetition_ratio"], "ci": row["repetition_ratio_ci"]}
            yield Row(f"{what}: repeated tokens, walk's as a share of raw's", interval(ratio, ".2f"), shown == 1)
            more = {"value": row["concept_difference"], "ci": row["concept_difference_ci"]}
            yield Row("... concept score, walk's minus raw's", interval(more, "+.2f"))


def pareto_rows(r):
    summary = r["summary"]
    pairs = {theirs: summary[f"walk-{theirs}"]["when_strong_both"] for theirs in ("raw", "glp") if f"walk-{theirs}" in summary}
    if pairs:
        what = f"gain × fluency at strengths >= 1, of {summary['n_directions']} directions: walk, "
        values = [next(iter(pairs.values()))[0], *(both[1] for both in pairs.values())]
        yield Row(what + ", ".join(ARMS[theirs] for theirs in pairs), ", ".join(f"{value:.2f}" for value in values), True)
    volumes = {title: summary["hypervolume"][arm] for arm, title in ARMS.items() if arm in summary["hypervolume"]}
    yield Row(
        f"concept gained against fluency, hypervolume over {summary['n_directions']} directions, of {', '.join(volumes)}",
        ", ".join(f"{one['value']:.3f}" for one in volumes.values()),
    )
    for pair, one in summary.items():
        ours, _, theirs = pair.partition("-")
        if theirs in ARMS and ours in ARMS:
            low, high = one["hypervolume_ci"]
            yield Row(
                f"... {ARMS[ours]} minus {ARMS[theirs]}, with its 95% interval",
                f"{one['hypervolume']:+.3f} [{low:+.3f}, {high:+.3f}]",
            )
            yield Row(
                f"... directions on which {ARMS[ours]} is ahead of, level with, behind {ARMS[theirs]} by it",
                _verdicts(one, "over_strengths"),
            )
            for place, words in (("when_strong", "at strengths of 1 and more"), ("at_best", "each at its own best")):
                if place in one:
                    low, high = one[f"worth_{place}_ci"]
                    numbers = f"{one[f'worth_{place}']:+.3f} [{low:+.3f}, {high:+.3f}]; {_verdicts(one, place)}"
                    yield Row(f"... {ARMS[ours]} minus {ARMS[theirs]} in gain times fluency, {words}; directions", numbers)


def bests_rows(r):
    for one in r["verdicts"]:
        yield Row(
            f"gain × fluency {one['where']}, {len(r['prefixes'])} prefixes on which nothing was chosen: walk and {one['against']}",
            f"{one['mean']}; {one['directions']}",
        )


def _verdicts(one, place):
    return ", ".join(f"{count} {verdict}" for verdict, count in one[place].items())


def vader_rows(r, where="test prefixes"):
    cells = {(row["arm"], row["strength"]): row for row in r["rows"]}
    for strength in sorted({strength for _, strength in cells if strength >= 1.0}):
        arms = {title: cells[arm, strength] for arm, title in ARMS.items() if (arm, strength) in cells}
        n = next(iter(arms.values()))["n"]
        yield Row(
            f"positive sentiment at strength {strength:g}, {n} {where}, as VADER judges it (-1 to 1): {', '.join(arms)}",
            ", ".join(f"{row['vader']:+.2f}" for row in arms.values()),
        )
        if "walk" in arms:
            more = {"value": arms["walk"]["over_raw"], "ci": arms["walk"]["over_raw_ci"]}
            yield Row("... walk minus raw, paired, with its 95% interval", interval(more, "+.2f"))


def outside_vader_rows(r):
    return vader_rows(r, "prefixes written after all choices")


def probing_rows(r):
    auc = r["mean_auc"]
    order = [name for name in ("glp", "layer", "mlp", "sae") if name in auc]
    names = {"glp": "meta-neuron", "layer": "layer output", "mlp": "MLP neuron", "sae": "SAE latent"}
    yield Row(
        f"mean test AUC of the best single {', '.join(names[n] for n in order)} over {r['n_tasks']} probing tasks",
        ", ".join(f"{auc[n]:.3f}" for n in order),
        True,
    )
    low, high = r["paired_difference_ci"]
    words = f"... meta-neuron minus {names[r['best_baseline']]}, paired over tasks, with its 95% interval"
    yield Row(words, f"{r['paired_difference']:+.3f} [{low:+.3f}, {high:+.3f}]")


def zones_rows(r):
    borders = [r["borders"][name] for name in ("drifting", "broken")]
    yield Row(
        f"manifold distance beyond which 25%, 75% of {r['n_texts']} steered texts break",
        ", ".join(interval(one, ".2f") for one in borders),
    )


def detection_rows(r):
    aurocs = {row["kind"]: row["auroc"] for row in r["rows"] if row["measure"] == "error"}
    kinds = [f"steered, strength {strength}" for strength in ("0.25", "0.5", "1")]
    if all(kind in aurocs for kind in kinds):
        words = "AUROC of the denoising error for activations steered at 0.25, 0.5, 1 against real ones"
        yield Row(words, ", ".join(f"{aurocs[kind]:.2f}" for kind in kinds))


def scorecard_rows(r):
    rows = {(row["method"].split(",")[0], row["way"]): row for row in r["rows"]}
    keys = {
        "GLP": ("GLP", "noised to 0.5 and denoised"),
        "PCA": ("PCA", "projected on them"),
        "Gaussian": ("Gaussian", "noised to 0.5, posterior mean"),
        "SAE": ("SAE", "reconstructed"),
    }
    methods = {name: rows[key] for name, key in keys.items() if key in rows}
    for measure, words, form in (("delta_lm", "rise of the LLM's loss", "+.3f"), ("frechet", "Frechet distance", ".0f")):
        yield Row(
            f"{words} when the layer is rebuilt by {', '.join(methods)}",
            ", ".join(f"{row[measure]['value']:{form}}" for row in methods.values()),
        )


def conversation_rows(r):
    parts = {
        "all": "all tokens",
        "user": "user turns",
        "answer": "the model's own answers",
        "template": "the template's tokens",
    }
    for part, words in parts.items():
        if part in r["ratios"]:
            value, (low, high) = (r["ratios"][part][key] for key in ("value", "ci"))
            what = f"median denoising error in conversations, in multiples of text's: {words}"
            yield Row(what if part == "all" else f"... {words}", f"{value:.2f} [{low:.2f}, {high:.2f}]")


SCORES = {
    "probing": "mean 1-D probing AUC",
    "steering": "steering score",
    "delta_lm": "Delta LM loss",
    "frechet": "Frechet distance",
}


def scaling_rows(r):
    law = []
    for name in ("E", "A", "alpha"):
        low, high = r[name]["ci"]
        law.append(f"{name} {rounded(r[name]['value'], 3)} [{rounded(low, 2)}, {rounded(high, 2)}]")
    what = f"loss = E + A C^-alpha in FLOPs C, {r['n_points']} checkpoints of {r['n_runs']} runs"
    yield Row(what, ", ".join(law), True)
    for name, words in SCORES.items():
        if score := r.get("correlations", {}).get(name):
            yield Row(f"... rank correlation of loss and {words}", f"{interval(score, '.2f')}, n = {score['n']}")


def accelerator_rows(r):
    card = r["device"].split(" (")[0]
    for row in r["rows"].values():
        if "ms" in row:
            beside = f", {row['times_faster']:.1f}x the plain network" if "times_faster" in row else ""
            beside += f", one column {row['one_ms']:.1f} ms" if "one_ms" in row else ""
            beside += f", reading the LLM's weights {row['read_ms']:.1f} ms" if "read_ms" in row else ""
            yield Row(f"on an {card}: {row['what']}", f"{row['ms']:.1f} ms{beside}")
        elif "tflops" in row:
            yield Row(
                f"on an {card}: {row['what']}", f"{row['tflops']:.0f} TFLOP/s, {row['activations_per_second']:,} activations/s"
            )
        elif "tokens_per_second" in row:
            yield Row(f"on an {card}: {row['what']}", f"{row['tokens_per_second']:,} tokens/s")


def rounded(value, digits):
    """Return a number with so many digits that count, without an exponent."""
    return f"{float(f'{value:.{digits}g}'):,g}"


def interval(number, form):
    """Return a value with its interval, as reports store it."""
    low, high = number["ci"]
    return f"{number['value']:{form}} [{low:{form}}, {high:{form}}]"


REPORTS = (
    ("evaluate", "python -m glp_core evaluate", evaluate_rows),
    ("bench", "make bench", bench_rows),
    ("steering_sentiment", "python -m glp_core steer --directions positive-sentiment", steering_rows),
    ("steering_outside", "python -m glp_core steer-sentiment --prefixes FILE --report steering_outside", outside_rows),
    ("steering_vader", "python -m tests.bench.vader TEXTS", vader_rows),
    ("steering_outside_vader", "python -m tests.bench.vader TEXTS --report steering_outside_vader", outside_vader_rows),
    ("pareto", "python -m glp_core pareto", pareto_rows),
    ("bests", "python -m tests.bench.bests", bests_rows),
    ("probing", "python -m glp_core probe", probing_rows),
    ("zones", "python -m glp_core zones", zones_rows),
    ("detection", "python -m glp_core detect", detection_rows),
    ("accelerator", "python -m tests.bench.accelerator", accelerator_rows),
    ("scorecard", "python -m glp_core scorecard", scorecard_rows),
    ("conversations", "python -m glp_core evaluate --only conversations", conversation_rows),
    ("scaling", "python -m glp_core scaling", scaling_rows),
)
"""Report, the command that makes it, and its rows."""
