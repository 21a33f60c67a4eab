"""The shipped index against the shipped models: what the pages show is what the GLP says. The long comparison is
`python -m tests.bench.check_index`."""

import numpy as np
import pytest
import torch

from glp_core.neuron_index.reader import NeuronIndex
from glp_core.neuron_index.reading import draw_noise
from glp_core.neurons.over_text import read_text

TEXT = "The pitcher threw a fastball, and the naïve crowd 🙂 cheered.\nThen it rained in Paris."


@pytest.fixture(scope="module")
def index(demo):
    return NeuronIndex.open(demo.neurons)


def test_the_index_is_of_this_glp_and_counts_every_token_of_every_neuron(index, demo):
    from glp_core.files import file_digest

    assert index.facts["glp"] == file_digest(demo.folder / "glp" / "final.safetensors")
    probed = demo.report("probing")
    assert probed is not None and probed["reading"] == index.reading.to_json()
    for number in np.random.default_rng(0).choice(index.n_neurons, 300, replace=False).tolist():
        assert int(index.neuron(*divmod(number, index.d_mlp)).counts.sum()) == index.n_tokens


def test_values_on_the_page_equal_the_glps_neurons(index, demo, demo_llm, demo_glp):
    reading = index.reading
    read = read_text(demo.site(demo_llm), demo_glp, TEXT, reading, tail=index.tail, max_tokens=400)
    acts = demo_llm.activations([demo_llm.encode(TEXT)], demo.layer)[0][1:]
    draws = draw_noise(demo_glp, reading) if reading.draws else torch.zeros(1, demo_glp.d_input)
    values = [demo_glp.neurons(acts, sigma=reading.sigma, noise=noise.expand(acts.shape)) for noise in draws]
    expected = torch.stack(values).mean(0).flatten(1).numpy()
    massive = demo.site(demo_llm).is_massive(acts).numpy()
    assert "".join(read.pieces) == TEXT and not massive.all()
    np.testing.assert_allclose(read.values[~massive], expected[~massive], rtol=1e-3, atol=1e-4)


def test_listed_texts_are_in_order_distinct_and_of_the_corpus(index):
    for layer, neuron in index.interesting(20):
        page = index.neuron(layer, neuron)
        for side, sign in ((page.top, 1), (page.bottom, -1)):
            values = [sign * snippet.value for snippet in side]
            assert len(side) == 20 and values == sorted(values, reverse=True)
            assert len({snippet.document for snippet in side}) == 20
            assert all(snippet.values[snippet.peak] == np.float32(snippet.value) for snippet in side)
        assert page.quantiles == sorted(page.quantiles, key=lambda entry: entry[1])
