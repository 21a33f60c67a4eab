"""The index of meta-neurons against a brute-force scan of the same texts, whatever way its parts came to be."""

import itertools
import random
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import dispatch_model
from safetensors import safe_open
from scipy import stats

from glp_core.data.collecting import collect
from glp_core.data.corpus import Document
from glp_core.errors import GlpError
from glp_core.files import write_json, write_tensors
from glp_core.llm.site import Site
from glp_core.neuron_index import samples
from glp_core.neuron_index.corpus_pass import StoreSource, TextSource, first_of_text, index_part, merge_parts, read_state
from glp_core.neuron_index.counting import PRECISION, Counter, bin_values, count_on_device
from glp_core.neuron_index.distributions import distributions
from glp_core.neuron_index.format import (
    INTERVAL_REACH,
    LINEAR_PART,
    PACKED_PRECISION,
    QUANTILES,
    REACH,
    decode,
    encode,
    reach_for,
)
from glp_core.neuron_index.neuron_data import Reading, SideEvidence
from glp_core.neuron_index.reader import NeuronIndex
from glp_core.neuron_index.reading import noise_axis, read_neurons
from glp_core.neuron_index.statistics import NeuronStatistics, table_bytes
from glp_core.neuron_index.write_directions import token_effects, write_direction, write_directions
from glp_core.neuron_index.writer import finish
from tests.support import tiny

LAYER = 2
READING = Reading(sigma=0.2)
BLOCK = 20
WORDS = """the cat sat on a mat and looked at rain while she said that film
    was wonderful dull model mind 🙂 naïve""".split()  # noqa: SIM905 - readable


@pytest.fixture(scope="module")
def documents():
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(1, 60))) for _ in range(70)]
    texts[41], texts[55] = texts[3], texts[3].upper()
    return [Document(text, f"set {i % 3}") for i, text in enumerate(texts)]


@pytest.fixture(scope="module", autouse=True)
def small_blocks():
    patch = pytest.MonkeyPatch()
    patch.setattr("glp_core.neuron_index.corpus_pass.DOCUMENTS_PER_BLOCK", BLOCK)
    patch.setattr("glp_core.neuron_index.corpus_pass.TOKENS_PER_CHUNK", 300)
    patch.setattr("glp_core.neuron_index.statistics.SAMPLED_DOCUMENTS", 16)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def brute(documents, tiny_llm, tiny_glp):
    """Every neuron's values on every document, one document at a time."""
    values = []
    for document in documents:
        acts = tiny_llm.activations([tiny_llm.encode(document.text, max_tokens=128)], LAYER)[0][1:]
        values.append(tiny_glp.neurons(acts, sigma=0.2, noise=0).flatten(1).numpy())
    return values


@pytest.fixture(scope="module")
def source(documents, tiny_llm):
    return TextSource(Site(tiny_llm, LAYER, 1e9), documents, first_of_text(documents))


@pytest.fixture(scope="module")
def whole(source, tiny_glp, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "part.safetensors"
    index_part(tiny_glp, READING, source, range(source.blocks), path, identity={"glp": "tiny"})
    return path


@pytest.fixture(scope="module")
def opened(whole, documents, tiny_llm, tiny_glp, tmp_path_factory):
    statistics, facts = merge_parts([whole])
    folder = tmp_path_factory.mktemp("index")
    finish(statistics, tiny_glp, tiny_llm, READING, documents, folder, facts=facts)
    return NeuronIndex.open(folder)


def bf16(values):
    return torch.from_numpy(np.asarray(values, np.float32)).bfloat16().double().numpy()


def test_first_of_text_ignores_case_and_spaces_and_keeps_the_first():
    texts = ["a b", "A  B", "c", "a b "]
    assert first_of_text([Document(t, "") for t in texts]).tolist() == [True, False, True, False]


def test_of_a_store_with_longer_texts_only_what_the_index_shows_of_a_text_is_read(tiny_llm, tmp_path):
    texts = [Document(" ".join([word] * 120), "long") for word in ("cat", "rain", "mind")]
    stores = [
        collect(tiny_llm, LAYER, texts, texts, tmp_path / str(n), n_activations=9_999, tokens_per_document=n)
        for n in (128, 200)
    ]
    assert stores[1].n_activations > stores[0].n_activations
    short, long = (list(StoreSource(store, np.ones(3, bool)).chunks(0, 999)) for store in stores)
    assert short
    for one, other in zip(short, long, strict=True):
        assert torch.equal(one.positions, other.positions) and torch.allclose(one.acts, other.acts, atol=1e-5)
        assert one.documents.tolist() == other.documents.tolist()


def test_lists_are_those_of_a_brute_force_scan(opened, brute, documents):
    distinct = [i for i in range(len(documents)) if i not in (41, 55)]
    for layer, neuron in [(0, 0), (0, 63), (1, 5), (1, 40)]:
        index = layer * 64 + neuron
        page = opened.neuron(layer, neuron)
        for snippets, sign in ((page.top, 1), (page.bottom, -1)):
            best = {i: (sign * brute[i][:, index]).max() for i in distinct}
            listed = [snippet.document for snippet in snippets]
            assert len(set(listed)) == 20 and set(listed) <= set(distinct)
            # by value, not by number: near ties fall either way, as a product's rounding depends on its batch
            np.testing.assert_allclose([best[i] for i in listed], sorted(best.values(), reverse=True)[:20], atol=1e-5)
            for snippet in snippets:
                expected = brute[snippet.document][:, index]
                assert sign * expected[snippet.peak] == pytest.approx((sign * expected).max(), abs=1e-5)
                assert snippet.value == pytest.approx(expected[snippet.peak], abs=1e-4)
                text = "".join(snippet.pieces).rstrip("\ufffd")  # a cut may go through a character
                assert documents[snippet.document].text.startswith(text) and len(snippet.pieces) == len(expected)
                assert snippet.source == documents[snippet.document].source
                assert (snippet.start, snippet.stop) == (
                    max(0, snippet.peak - REACH),
                    min(len(expected), snippet.peak + REACH + 1),
                )
                window = snippet.values[snippet.start : snippet.stop]
                kept = expected[snippet.start : snippet.stop]
                assert (np.abs(window - kept) <= (PACKED_PRECISION + 0.01) * np.abs(kept) + 1e-4 * page.scale).all()
                assert np.isnan(np.delete(snippet.values, range(snippet.start, snippet.stop))).all()


def test_distributions_are_those_of_all_values(opened, brute):
    everything = np.concatenate(brute)
    assert opened.n_tokens == len(everything)
    for index in (0, 17, 100, 127):
        page = opened.neuron(*divmod(index, 64))
        values = bf16(everything[:, index])
        assert page.counts.sum() == len(everything)
        assert np.abs(page.counts - np.histogram(values, page.edges)[0]).sum() <= 8  # values that lie on an edge
        assert (page.edges[0], page.edges[-1]) == pytest.approx((values.min(), values.max()))
        bends = np.arcsinh(page.edges / (LINEAR_PART * page.tail))
        np.testing.assert_allclose(np.diff(bends), (bends[-1] - bends[0]) / 50, rtol=1e-3)
        assert page.tail == pytest.approx(np.sort(np.abs(values))[-max(1, round(len(values) / 1000))])
        active = float(opened.table()["active_share"].iloc[index])
        assert active == pytest.approx((np.abs(values) > page.tail / 4).mean(), abs=page.counts.max() / len(values))
        moments = [values.mean(), values.std(), stats.skew(values), stats.kurtosis(values)]
        np.testing.assert_allclose([page.mean, page.std, page.skewness, page.kurtosis], moments, rtol=1e-3, atol=1e-3)
        expected = np.quantile(values, QUANTILES, method="inverted_cdf")
        np.testing.assert_allclose([v for _, v in page.quantiles], expected, rtol=1e-5, atol=2.0**-24)


def test_interval_texts_lie_in_their_intervals(opened, brute):
    for index in (3, 90):
        page = opened.neuron(*divmod(index, 64))
        assert [i.low_quantile for i in page.intervals] == [0, 0.2, 0.4, 0.6, 0.8]
        assert sum(len(i.texts) for i in page.intervals) > 15
        for interval in page.intervals:
            assert len({s.document for s in interval.texts}) == len(interval.texts)
            for s in interval.texts:
                assert interval.low - 1e-6 <= bf16(s.value) <= interval.high + 1e-6
                assert s.value == pytest.approx(brute[s.document][s.peak, index], abs=1e-4)
                assert s.stop - s.start <= 2 * INTERVAL_REACH + 1
                assert s.values[s.start : s.stop] == pytest.approx(
                    brute[s.document][s.start : s.stop, index], rel=PACKED_PRECISION + 0.01, abs=2e-4 * page.scale
                )


def test_of_many_neurons_fewer_documents_are_held_at_once(whole, documents, tiny_llm, tiny_glp, opened, tmp_path, monkeypatch):
    statistics, facts = merge_parts([whole])
    n, sample = statistics.n_neurons, statistics.sample()
    assert table_bytes(n) >= sum(
        getattr(statistics, name).nbytes for name in ("counts", "values", "documents", "peaks", "windows")
    )
    monkeypatch.setattr(samples, "NEURONS_AT_ONCE", 7)
    finish(statistics, tiny_glp, tiny_llm, READING, documents, tmp_path / "blocks", facts=facts)
    for name in ("units", "texts"):
        file = f"{name}.safetensors"
        assert (tmp_path / "blocks" / file).read_bytes() == (opened.folder / file).read_bytes()
    monkeypatch.setattr(samples, "VALUES", n * int(sample.starts[4] + 1))
    finish(statistics, tiny_glp, tiny_llm, READING, documents, tmp_path / "few", facts=facts)
    index = NeuronIndex.open(tmp_path / "few")
    index.check_shape(index.n_layers, index.d_mlp)
    with pytest.raises(GlpError, match=f"the prior has {index.n_layers} x {index.d_mlp + 1}: it was made with another one"):
        index.check_shape(index.n_layers, index.d_mlp + 1)
    shown = {s.document for i in range(n) for one in index.neuron(*divmod(i, 64)).intervals for s in one.texts}
    assert shown == set(sample.documents[:4].tolist())


def same(one, two):
    assert np.array_equal(one.counts, two.counts)
    assert (one.n_tokens, one.n_documents, one.n_massive) == (two.n_tokens, two.n_documents, two.n_massive)
    for name in ("values", "documents", "peaks"):
        assert torch.equal(getattr(one, name), getattr(two, name))
    assert torch.equal(one.windows.nan_to_num(99), two.windows.nan_to_num(99))
    for a, b in zip(one.sample(), two.sample(), strict=True):
        assert (torch.equal(a, b)) if isinstance(a, torch.Tensor) else np.array_equal(a, b)


def test_merged_parts_equal_the_whole(source, whole, tiny_glp, tmp_path):
    paths = []
    for first, last in ((2, 4), (0, 1), (1, 2)):
        paths.append(tmp_path / f"{first}.safetensors")
        index_part(tiny_glp, READING, source, range(first, last), paths[-1], identity={"glp": "tiny"})
    same(merge_parts(paths)[0], NeuronStatistics.load(whole)[0])
    with pytest.raises(GlpError, match="missing or there twice"):
        merge_parts([paths[0], paths[1]])
    with pytest.raises(GlpError, match="missing or there twice"):
        merge_parts([*paths, paths[0]])


def test_a_killed_pass_goes_on_where_it_was(source, whole, tiny_glp, tmp_path, monkeypatch):
    monkeypatch.setattr("glp_core.neuron_index.corpus_pass.SECONDS_BETWEEN_SAVES", 0.0)
    monkeypatch.setattr("glp_core.progress.WORK_PER_SAVE", 0.0)
    path = tmp_path / "part.safetensors"
    steps = []

    def die(done, _total, _words):
        steps.append(done)
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index_part(tiny_glp, READING, source, range(4), path, identity={"glp": "tiny"}, progress=die)
    assert read_state(path)["done"] == 2
    with pytest.raises(GlpError, match="not finished"):
        merge_parts([path])
    with pytest.raises(GlpError, match=r"reading differ\). Delete it to begin anew"):
        index_part(tiny_glp, Reading(sigma=0.3), source, range(4), path, identity={"glp": "tiny"})
    index_part(tiny_glp, READING, source, range(4), path, identity={"glp": "tiny"}, progress=lambda d, *_: steps.append(d))
    assert steps == [1, 2, 3, 3, 4]
    same(NeuronStatistics.load(path)[0], NeuronStatistics.load(whole)[0])


def test_a_finished_part_of_something_else_is_replaced(source, whole, tiny_glp, tmp_path):
    path = tmp_path / "part.safetensors"
    index_part(tiny_glp, Reading(sigma=0.3), source, range(1, 2), path, identity={"glp": "another"})
    stopped = index_part(tiny_glp, READING, source, range(4), path, identity={"glp": "tiny"}, cancelled=lambda: True)
    assert stopped is None and read_state(path)["done"] == 0
    index_part(tiny_glp, READING, source, range(4), path, identity={"glp": "tiny"})
    same(NeuronStatistics.load(path)[0], NeuronStatistics.load(whole)[0])


@pytest.mark.parametrize("at", [0, 1, 4, 8])
def test_a_pass_that_is_stopped_within_a_block_reads_no_chunk_of_it_twice(source, whole, tiny_glp, tmp_path, monkeypatch, at):
    path, asked, added = tmp_path / "part.safetensors", itertools.count(), []
    add = NeuronStatistics.add
    monkeypatch.setattr(NeuronStatistics, "add", lambda self, *what: added.append(what) or add(self, *what))
    assert index_part(tiny_glp, READING, source, range(4), path, identity={}, cancelled=lambda: next(asked) == at) is None
    assert len(added) == at
    monkeypatch.setattr(source, "chunk", 10**6)  # as on another device
    index_part(tiny_glp, READING, source, range(4), path, identity={})
    assert NeuronStatistics.load(path)[0].n_tokens == NeuronStatistics.load(whole)[0].n_tokens
    documents = [number for _, chunk in added for number in chunk.documents]
    assert len(documents) == len(set(documents))


def heavy_tailed(n_tokens=3000, n_neurons=8, seed=0):
    """Return values (tokens, neurons) of Cauchy tails over many magnitudes; the first neuron is exactly 0 for 42% of the tokens."""
    rng = np.random.default_rng(seed)
    values = rng.standard_cauchy((n_tokens, n_neurons)) * 10.0 ** np.arange(-3, n_neurons - 3)
    values[rng.random(n_tokens) < 0.42, 0] = 0
    values[7, 1] = -3e6
    return torch.from_numpy(values.astype(np.float32))


def test_tails_of_heavy_tailed_values_are_the_exact_quantiles_to_the_stated_precision():
    values = heavy_tailed()
    counter = Counter(8)
    counter.add(values, np.array([0, 1000, 3000]))
    tables = distributions(counter.counts, len(values))
    exact = np.quantile(values.double().numpy(), QUANTILES, axis=0, method="inverted_cdf").T
    np.testing.assert_allclose(tables["quantiles"], exact, rtol=PRECISION, atol=2.0**-24)
    magnitudes = np.sort(values.abs().double().numpy(), axis=0)
    np.testing.assert_allclose(tables["tail"], magnitudes[-3], rtol=PRECISION)  # 3 of 3,000 tokens reach it
    np.testing.assert_allclose(tables["range"], np.stack([values.amin(0), values.amax(0)], 1), rtol=PRECISION)
    assert tables["range"][1, 0] < -2.9e6  # nothing is clamped
    assert (tables["counts"].sum(1) == len(values)).all()


def test_intervals_are_over_the_values_that_differ():
    values = heavy_tailed()
    counter = Counter(8)
    counter.add(values, np.array([0, 3000]))
    tables = distributions(counter.counts, len(values))
    zeros = (values[:, 0] == 0).double().mean()
    assert tables["repeated"][0] == pytest.approx(float(zeros)) and (tables["repeated"][1:] == 0).all()
    assert (np.diff(tables["edges"], axis=1) > 0).all()
    others = values[values[:, 0] != 0, 0].double().numpy()
    exact = np.quantile(others, [0, 0.2, 0.4, 0.6, 0.8, 1], method="inverted_cdf")
    np.testing.assert_allclose(tables["edges"][0], exact, rtol=PRECISION)


def test_counting_by_tensor_operations_equals_the_compiled_loop():
    values, starts = heavy_tailed(), np.array([0, 5, 5, 1200, 3000])
    compiled = Counter(8)
    one = compiled.add(values, starts)
    counts = torch.zeros_like(compiled.counts)
    two = count_on_device(values, starts, counts)
    assert torch.equal(counts, compiled.counts) and int(counts.sum()) == values.numel()
    assert torch.equal(one.lows, two.lows) and torch.equal(one.highs, two.highs)


def test_many_neurons_keep_shorter_windows():
    assert reach_for(100) == REACH and 8 <= reach_for(20_000) < REACH


def test_neurons_that_fire_nowhere_have_no_held_out_tokens_the_last_one_too(tmp_path):
    tensors = {"firing_starts": torch.tensor([0, 0, 2, 2]), "firing_tokens": torch.tensor([1, -4])}
    write_tensors(tmp_path / "neurons.safetensors", tensors)
    with safe_open(tmp_path / "neurons.safetensors", "np") as file:
        firings = [NeuronIndex.firing(SimpleNamespace(_neurons=file), number) for number in range(3)]
    assert [firing.rows.tolist() for firing in firings] == [[], [0, 3], []]
    assert firings[1].signs.tolist() == [1, -1]


def test_held_out_firing_names_the_sampled_tokens_above_the_tail(whole, opened, tiny_glp):
    sample = NeuronStatistics.load(whole)[0].sample()
    values = read_neurons(tiny_glp, sample.acts, READING).numpy()
    for index in (5, 77):
        firing = opened.firing(index)
        np.testing.assert_array_equal(firing.rows, np.flatnonzero(np.abs(values[:, index]) > opened.tail[index]))
        np.testing.assert_array_equal(firing.signs, np.sign(values[firing.rows, index]))
    held_out = opened.held_out()
    assert held_out.documents == sample.documents.tolist() and len(held_out.pieces) == len(values)
    first = sample.positions[: sample.starts[1]] - 1
    assert held_out.pieces[: len(first)] == [opened.document(held_out.documents[0]).pieces[i] for i in first]


def test_bins_hold_every_bfloat16_value_of_their_range():
    values = bin_values()
    assert (np.diff(values) > 0).all()
    assert np.array_equal(bf16(values), values)
    assert values[len(values) // 2] == 0


def test_packing_keeps_values_to_its_stated_precision_and_reads_the_older_format():
    values = np.array([0.0, 1e-4, -0.5, 4.0, -4.0, 0.0123, np.nan], np.float32)
    back = decode(encode(values, np.full(7, 4.0)), 4.0)
    assert np.isnan(back[6])
    np.testing.assert_allclose(back[:6], values[:6], rtol=PACKED_PRECISION + 1e-6, atol=4.0 * 1e-4)
    assert back[3] == 4.0 and back[4] == -4.0 and back[0] == 0
    roots = np.array([-127, -64, 0, 64, 127, -128], np.int8)
    np.testing.assert_allclose(
        decode(roots, 4.0, version=1)[:5], [-4, -4 * (64 / 127) ** 2, 0, 4 * (64 / 127) ** 2, 4], rtol=1e-6
    )


def test_effects_and_write_directions_match_a_nudge_of_the_network(tiny_glp, tiny_llm, opened):
    directions = write_directions(tiny_glp)
    glp = tiny_glp
    layer, neuron = 1, 7
    nudge = glp.network.layers[layer].down_proj.weight[:, neuron]
    raw = -(glp.network.out_proj.weight @ (glp.network.ln.weight * nudge)) * glp.normalizer.std[0]
    expected = raw / raw.norm()
    torch.testing.assert_close(directions[layer * 64 + neuron], expected)
    np.testing.assert_allclose(write_direction(glp, layer, neuron), expected.numpy(), rtol=1e-5)
    tokens, scores = token_effects(tiny_llm, directions[:3])
    weight = tiny_llm.model.lm_head.weight * tiny_llm.model.model.norm.weight
    logits = directions[:3] @ (weight - weight.mean(0)).T
    assert torch.equal(tokens[:, 0, 0], logits.argmax(1)) and torch.equal(tokens[:, 1, 0], logits.argmin(1))
    promoted = opened.neuron(0, 0).promoted
    assert promoted[0].text == tiny_llm.tokenizer.decode([int(tokens[0, 0, 0])])
    assert promoted[0].score == pytest.approx(float(scores[0, 0, 0]), rel=1e-3)  # kept in half precision


FINAL = "ln_f|(?:final_layer_?|embedding_|final_)norm|norm_f|norm"


def read_by_head(model, directions):
    """Return the logits that directions (n, d) of mean 0 add, by the model's own modules: half the difference of both ways."""
    norms = {name: module for name, module in model.named_modules() if re.fullmatch(rf"[a-z_.]+\.({FINAL})", name)}
    [norm] = [module for name, module in norms.items() if "vision" not in name and "projector" not in name] or [
        torch.nn.Identity()
    ]
    project = getattr(getattr(model.model, "decoder", None), "project_out", None) if hasattr(model, "model") else None
    ways = [norm(way * directions) for way in (1, -1)]
    ways = [project(way) for way in ways] if project is not None else ways
    return (model.get_output_embeddings()(ways[0]) - model.get_output_embeddings()(ways[1])) / 2


@pytest.mark.parametrize("kind", sorted((tiny.SIZES | tiny.OTHERS).keys() - {"xlstm"}))
@torch.no_grad()
def test_tokens_are_those_of_the_head_in_every_family(kind):
    llm = tiny.make_tiny_llm(kind)
    generator = torch.Generator().manual_seed(1)
    for name, weight in llm.model.named_parameters():
        if weight.ndim == 1 and name.endswith("weight"):
            weight += 0.3 * torch.randn(weight.shape, generator=generator)
    directions = torch.randn(3, tiny.WIDTH, generator=generator)
    directions -= directions.mean(1, keepdim=True)
    directions *= tiny.WIDTH**0.5 / directions.norm(dim=1, keepdim=True)
    logits = read_by_head(llm.model, directions)
    logits -= logits.mean(1, keepdim=True)
    tokens, scores = token_effects(llm, directions, k=5)
    assert torch.equal(tokens[:, 0], logits.topk(5).indices) and torch.equal(
        tokens[:, 1], logits.topk(5, largest=False).indices
    )
    torch.testing.assert_close(scores[:, 0], logits.topk(5).values, atol=1e-3, rtol=1e-3)


def test_tokens_are_those_of_a_head_that_lies_on_the_disk(tiny_llm, tmp_path):
    directions = torch.randn(3, tiny_llm.d_model)
    whole = token_effects(tiny_llm, directions)
    llm = tiny.make_tiny_llm()
    llm.model.load_state_dict(tiny_llm.model.state_dict())
    where = {
        "model.embed_tokens": "cpu",
        "model.layers": "cpu",
        "model.rotary_emb": "cpu",
        "model.norm": "disk",
        "lm_head": "disk",
    }
    dispatch_model(llm.model, where, main_device="cpu", offload_dir=tmp_path, force_hooks=True)
    assert llm.model.lm_head.weight.is_meta and llm.model.model.norm.weight.is_meta
    for got, wanted in zip(token_effects(llm, directions), whole, strict=True):
        torch.testing.assert_close(got, wanted)


def test_neighbours_by_write_direction_are_the_largest_cosines(tiny_glp, opened):
    columns = torch.cat([block.down_proj.weight.T for block in tiny_glp.network.layers])
    cosines = torch.nn.functional.cosine_similarity(columns[70:71], columns)
    cosines[70] = 0
    found = opened.neuron(1, 6).nearest_write
    assert [n.layer * 64 + n.neuron for n in found] == cosines.abs().topk(10).indices.tolist()
    assert found[0].similarity == pytest.approx(float(cosines[cosines.abs().argmax()]), abs=1e-3)


def test_table_search_and_tails_agree_with_the_pages(opened):
    table = opened.table()
    assert len(table) == opened.n_neurons == 128
    page = opened.neuron(1, 3)
    row = table.iloc[67]
    assert (row["layer"], row["unit"], row["kurtosis"]) == (1, 3, pytest.approx(page.kurtosis))
    quantiles = dict(page.quantiles)
    assert [row["low"], row["high"]] == pytest.approx([min(0, quantiles[1e-4]), max(0, quantiles[0.9999])])
    assert row["tail"] == page.tail == opened.tail[67]
    token = page.top[0].pieces[page.top[0].peak].strip()
    assert token and 67 in opened.search(token)
    assert opened.search("no such words at all") == []
    assert opened.interesting(3)[0] == tuple(table.loc[table["kurtosis"].idxmax(), ["layer", "unit"]])
    assert opened.map("concepts") is None


def test_missing_and_damaged_indexes_are_refused(opened, tmp_path):
    with pytest.raises(GlpError, match="python -m glp_core index"):
        NeuronIndex.open(tmp_path)
    (tmp_path / "index.json").write_bytes((opened.folder / "index.json").read_bytes())
    with pytest.raises(GlpError, match="damaged"):
        NeuronIndex.open(tmp_path)
    with pytest.raises(GlpError, match="layers go to 1, neurons to 63"):
        opened.neuron(2, 0)


def test_readings_are_deterministic_and_average_their_draws(tiny_glp):
    acts = torch.randn(5, tiny_glp.d_input, generator=torch.Generator().manual_seed(0))
    mean = read_neurons(tiny_glp, acts, Reading(0.3, draws=2, seed=4))
    noise = torch.randn(2, tiny_glp.d_input, generator=torch.Generator().manual_seed(4))
    each = [tiny_glp.neurons(acts, sigma=0.3, noise=n.expand(5, -1)).flatten(1) for n in noise]
    torch.testing.assert_close(mean, (each[0] + each[1]) / 2)
    torch.testing.assert_close(read_neurons(tiny_glp, acts[2:3], Reading(0.3, draws=2, seed=4)), mean[2:3])
    axis = noise_axis(tiny_glp, acts, 1, 2, sigmas=(0.0, 0.5), seeds=3)
    assert axis.values.shape == (2, 3, 5)
    np.testing.assert_allclose(axis.values[0], np.broadcast_to(axis.noise_free[0], (3, 5)), rtol=1e-5)
    with pytest.raises(GlpError, match="out of range"):
        Reading(sigma=1.5)


def test_neurons_that_can_be_read_come_before_those_of_highest_kurtosis(opened, tmp_path):
    shutil.copytree(opened.folder, tmp_path / "index")
    plain = opened.interesting(opened.n_neurons)
    kurtosis = [opened.neuron(*neuron).kurtosis for neuron in plain]
    assert kurtosis == sorted(kurtosis, reverse=True) and not opened.most_readable()

    def told(keys, precision, firing=40):
        return SideEvidence("words", keys, precision, precision, 40, firing).to_json()

    last = [layer * opened.d_mlp + neuron for layer, neuron in plain[-5:]]
    sides = {
        last[0]: (told(["river"], 0.6), None),
        last[1]: (None, told(["ocean"], 0.9)),
        last[2]: (told(["ocean"], 0.8), None),
    }
    sides |= {last[3]: (told(["sea"], 0.7), None), last[4]: (told(["valley"], 0.65, firing=3), None)}
    stored = {"units": [["words", "automatic"]] * opened.n_neurons}
    stored["sides"] = [sides.get(place, (None, None)) for place in range(opened.n_neurons)]
    write_json(tmp_path / "index" / "descriptions.json", stored)
    index = NeuronIndex.open(tmp_path / "index")
    assert index.interesting(6) == [divmod(last[i], index.d_mlp) for i in (1, 2, 3, 4, 0)] + [plain[0]]
    found = [(one.layer * index.d_mlp + one.neuron, one.side) for one in index.most_readable()]
    assert found == [(last[1], "low"), (last[0], "high")], "ocean once, no word of three letters, none that hardly fires"
