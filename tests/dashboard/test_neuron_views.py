"""What the neuron pages are made of: lists, highlighted texts, figures, concept tables; no server, no model but a tiny one."""

import html
import io
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from dashboard.concepts import own_view, tables
from dashboard.neurons import figures, map_figure
from dashboard.service import neurons
from dashboard.service.directions import neuron_directions
from dashboard.service.results import KEPT_RESULTS, Results
from dashboard.widgets import neuron_texts, starred
from dashboard.widgets.texts import two_classes
from glp_core.data.task_words import task_words
from glp_core.errors import GlpError
from glp_core.neurons.regions import Region
from glp_core.neurons.search import ConceptNeurons
from glp_core.stats import Interval
from tests.support import neuron_fakes

NEURON = neuron_fakes.FakeIndex().neuron(1, 3)


def test_a_list_survives_the_url():
    neurons = [(1, 1044), (0, 0), (2, 7)]
    assert starred.parse_neurons(starred.format_neurons(neurons)) == neurons
    assert starred.parse_neurons(" L1/1044 , 0/0,1/1044,") == [(1, 1044), (0, 0)]


@pytest.mark.parametrize("text", ["1-2", "1/x", "-1/2", "1/2/3", "1/99999999", "١/٢"])
def test_what_is_no_neuron_is_refused(text):
    with pytest.raises(GlpError, match="is not a neuron"):
        starred.parse_neurons(text)


def test_a_list_that_no_url_holds_is_refused():
    with pytest.raises(GlpError, match="201 neurons, wanted at most 200"):
        starred.parse_neurons(",".join(f"0/{i}" for i in range(201)))


def test_toggling_a_star_twice_leaves_the_list_as_it_was():
    once = starred.toggled("0/1,1/2", (2, 3))
    assert once == "0/1,1/2,2/3"
    assert starred.toggled(once, (2, 3)) == "0/1,1/2"


def test_a_full_list_stays_as_it_is():
    full = starred.format_neurons([(0, i) for i in range(starred.LONGEST_LIST)])
    with pytest.raises(GlpError, match="take a star away first"):
        starred.toggled(full, (1, 0))
    assert len(starred.parse_neurons(starred.toggled(full, (0, 7)))) == starred.LONGEST_LIST - 1


def test_no_cell_of_a_csv_is_a_formula_and_the_text_is_still_there():
    cells = ["=1+1", "+a", "-b", "@c", "\td", "\re", "plain", ""]
    table = pd.DataFrame({"text": cells, "number": range(len(cells))})
    read = pd.read_csv(io.StringIO(starred.as_csv(table)), keep_default_na=False)
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in read["text"])
    assert read["text"].iloc[0] == "'=1+1" and read["text"].iloc[6] == "plain"
    assert read["number"].tolist() == list(range(len(cells)))


def test_listed_rows_keep_the_order_of_the_list_and_leave_out_strangers():
    table = neuron_fakes.FakeIndex().table()
    rows = starred.list_rows([(1, 3), (9, 9), (0, 4)], table)
    assert list(zip(rows["layer"], rows["neuron"], strict=True)) == [(1, 3), (0, 4)]


def test_a_neuron_as_json_holds_its_texts_and_null_where_nothing_is_kept():
    neuron = neuron_fakes.FakeIndex().neuron(1, 3)
    read = json.loads(starred.neuron_json(neuron))
    assert read["top"][1]["pieces"] == neuron_fakes.HOSTILE
    assert read["top"][0]["values"][50:] == [None] * 10
    assert sum(read["counts"]) == neuron.counts.sum()


def test_shades_are_odd_monotone_and_reach_the_end_of_the_scale():
    values = np.linspace(-8, 8, 41)
    shades = [neuron_texts.shade(value, 8.0) for value in values]
    assert shades == sorted(shades)
    np.testing.assert_allclose(shades, [-s for s in reversed(shades)], atol=1e-12)
    assert shades[-1] == 1 and neuron_texts.shade(100.0, 8.0) == 1
    assert neuron_texts.shade(float("nan"), 8.0) == 0


def test_every_kept_token_says_its_value_in_its_true_digits():
    one = neuron_fakes.snippet(6.0, 3)
    shown = neuron_texts.texts_html(NEURON, [one], context="full")
    titles = re.findall(r'title="([+−]\d+\.\d+|0) tails \(raw ([+−]\d+\.\d+|0)\)">[^+−]', shown)
    tails, raw = (np.array([float(word.replace("−", "-")) for word in words]) for words in zip(*titles, strict=True))
    np.testing.assert_allclose(raw, one.values[:50], rtol=0.05)  # two digits; the last ten are not kept
    np.testing.assert_allclose(tails, one.values[:50] / NEURON.tail, rtol=0.05)
    assert titles[one.peak] == ("+1.50", "+6.00") and ">+1.50<" in shown and "+6.00<br>" in shown


def test_a_snippet_shows_sixteen_tokens_around_the_peak_and_the_text_behind_it():
    one = neuron_fakes.snippet(6.0, 25)
    head, whole = neuron_texts.texts_html(NEURON, [one], context="snippet").split("</summary>")
    shown = re.findall(r"word(\d+)", head)
    assert shown == [str(i) for i in range(9, 42)]
    assert "…" in head and "word59" in whole


def test_hostile_tokens_stay_text_in_lists_chips_and_figures():
    one = neuron_fakes.snippet(6.0, 0, pieces=neuron_fakes.HOSTILE)
    shown = neuron_texts.texts_html(NEURON, [one], context="full")
    chips = figures.effects_html([(piece, 1.0) for piece in neuron_fakes.HOSTILE])
    for markup in (shown, chips):
        assert "<img" not in markup and "</style" not in markup
        assert "\u202e" not in markup and "\x00" not in markup
        assert "<img src=x onerror=alert(1)>" in html.unescape(markup)
    figure = figures.heat_map(neuron_fakes.HOSTILE, ["L0/1"], np.zeros((1, len(neuron_fakes.HOSTILE))))
    assert not any("<" in word for word in figure.layout.xaxis.ticktext)


def test_line_breaks_can_be_shown_as_one_sign():
    one = neuron_fakes.snippet(6.0, 0, pieces=["a", "\n", "b"])
    assert "<br>" in neuron_texts.texts_html(NEURON, [one], breaks=True)
    assert "<br>" not in neuron_texts.texts_html(NEURON, [one], breaks=False).split("<div>")[1].split("</div>")[0]


def test_the_histogram_holds_every_token_and_its_marker_stays_inside():
    neuron = neuron_fakes.FakeIndex().neuron(1, 3)
    figure = figures.histogram(neuron, log=False, markers={"word": 99.0, "other": -99.0})
    assert sum(figure.data[0].y) == neuron.counts.sum()
    assert figure.layout.shapes[0].x0 == len(neuron.counts)  # the right end
    notes = figure.layout.annotations
    assert [note.xanchor for note in notes] == ["right", "left"] and {note.yanchor for note in notes} == {"bottom"}
    assert figure.layout.margin.t >= 2 * (notes[1].yshift - notes[0].yshift), "both stand above the bars, inside the figure"
    assert 0 in figures.axis_ticks(neuron.edges) and len(figures.axis_ticks(neuron.edges)) > 2
    log = figures.histogram(neuron, log=True, markers={})
    assert log.layout.yaxis.type == "log" and np.isnan(log.data[0].y[0])  # counts[0] is 0


def test_the_noise_figure_draws_the_strongest_tokens_with_their_spread():
    axis = neuron_fakes.noise_axis(neuron_fakes.read_text("a b c d e f g h"), 0, 1)
    figure = figures.noise_figure(axis, list("abcdefgh"))
    spread = [line for line in figure.data if line.error_y.array is not None]
    assert len(spread) == figures.NOISE_LINES
    strongest = "abcdefgh"[int(np.abs(axis.noise_free).max(0).argmax())]
    assert spread[0].name == strongest
    np.testing.assert_allclose(spread[0].y, axis.values[:, :, "abcdefgh".index(strongest)].mean(1))


@pytest.mark.parametrize("colouring", ["layer", "kurtosis", "best task"])
def test_the_map_draws_every_neuron_once_and_each_point_carries_its_neuron(colouring):
    index = neuron_fakes.FakeIndex()
    frame = index.map("concepts").merge(index.table(), on=["layer", "unit"])
    figure = map_figure.map_figure(frame, colouring, matches=[0, 31])
    carried = [point[0] for trace in figure.data for point in trace.customdata]
    assert sorted(carried) == sorted(f"{layer}/{neuron}" for layer, neuron in zip(frame["layer"], frame["unit"], strict=True))
    assert (figure.layout.clickmode, figure.layout.dragmode) == ("event+select", "pan")
    assert figure.data[0].name == "no match" and len(figure.data[0].x) == len(frame) - 2
    assert all(trace.type == "scattergl" for trace in figure.data)
    assert not any("<b>" in text for trace in figure.data for text in trace.text)


def test_regions_are_named_on_the_map_and_names_do_not_cover_one_another():
    frame = neuron_fakes.FakeIndex().map("concepts").merge(neuron_fakes.FakeIndex().table(), on=["layer", "unit"])
    regions = [Region("sport <b>", 0.0, 0.0, np.arange(9)), Region("on top of it", 0.0, 0.0, np.arange(5)), *(
        Region(f"crowded {i}", 0.0, 0.001, np.arange(4)) for i in range(8)
    )]  # fmt: skip
    drawn = map_figure.map_figure(frame, "layer", regions=regions).layout.annotations
    assert drawn[0].text == "sport &lt;b&gt;" and 1 < len(drawn) < len(regions)


def test_the_page_opens_on_a_task_that_explains_itself():
    assert tables.first_task(["67_social-security", "159_code_Python", "96_spam_is"], [1.0, 0.5, 0.9]) == "96_spam_is"
    assert tables.first_task(["67_social-security"], [1.0]) == "67_social-security"
    assert task_words("159_code_Python").title == "Code in Python" and "Java" in task_words("159_code_Python").positive
    assert task_words("9_not_one-of them").title == "not one of them"


@pytest.mark.parametrize(
    ("p", "low", "n", "words"),
    [(0.9, 0.3, 6, "No evidence (p = 0.9)"), (0.01, 0.4, 30, "Weak evidence"), (0.001, 0.8, 30, "There is a neuron for it")],
)
def test_the_verdict_on_an_own_concept_comes_first(p, low, n, words):
    found = ConceptNeurons([], Interval(0.8, low, 0.95), p, n, n, 1000, np.zeros(2 * n), [])
    said = own_view.verdict(found, 60)
    assert said.startswith(f"**{words}") and ("texts a side are few" in said) == (n < 20)
    assert "AUC 0.80 (" in said


def test_tasks_are_found_by_all_their_words():
    table = tables.task_table(neuron_fakes.probing_report())
    assert tables.matching(table, "SENTIMENT positive")["task"].tolist() == ["1_positive_sentiment"]
    assert len(tables.matching(table, "")) == 3
    assert tables.matching(table, "sentiment python").empty
    assert tables.matching(table, "l1/2")["title"].tolist() == ["python code"]


@pytest.mark.parametrize(
    ("interval", "said"), [([0.01, 0.09], "ahead"), ([-0.09, -0.01], "behind"), ([-0.01, 0.02], "cannot be told apart")]
)
def test_the_verdict_says_whichever_way_it_falls(interval, said):
    report = neuron_fakes.probing_report() | {"paired_difference_ci": interval}
    assert said in tables.verdict(report)


def test_the_dots_are_the_aucs_with_the_neurons_interval():
    table = tables.task_table(neuron_fakes.probing_report())
    figure = tables.dots_figure(table)
    dots = {trace.name: trace for trace in figure.data}
    assert set(dots) == set(tables.KINDS.values())
    glp = dots["GLP neuron"]
    np.testing.assert_allclose(glp.x + glp.error_x.array, table["high"])
    np.testing.assert_allclose(glp.x - glp.error_x.arrayminus, table["low"])


def test_the_score_histogram_counts_each_class_by_itself():
    values, labels = np.r_[np.zeros(30), np.ones(10)], np.repeat([0, 1], [30, 10])
    figure = tables.scores_figure(values, labels, name="L0/1")
    assert [trace.name for trace in figure.data] == ["negative class (n = 30)", "positive class (n = 10)"]
    assert all(trace.histnorm == "percent" for trace in figure.data)


def test_texts_are_read_from_boxes_and_files():
    assert two_classes.texts_of(" a \n\nb\na\n") == ["a", "b"]
    data = 'label,Text\n1,"yes, ""quoted"""\n0,no\n1,\n0,never\n'.encode("utf-8-sig")
    assert two_classes.texts_of_file(data).of() == (['yes, "quoted"'], ["no", "never"])
    with pytest.raises(GlpError, match=r"wanted at most 2,097,152 \(2 MB\)"):
        two_classes.texts_of_file(b"x" * ((2 << 20) + 1))


def test_texts_that_do_not_make_a_concept_are_refused():
    five = [f"text {i}" for i in range(5)]
    with pytest.raises(GlpError, match="Got 4 positive texts, wanted 5 to 500"):
        two_classes.TwoClasses(five[:4], five).check()
    with pytest.raises(GlpError, match="in both classes"):
        two_classes.TwoClasses(five, [*five[1:], "other"]).check()
    with pytest.raises(GlpError, match="2,001 characters"):
        two_classes.TwoClasses(["x" * 2001, *five], [f"no {i}" for i in range(5)]).check()


def test_a_neuron_is_a_direction_of_neuron_norm_without_a_probe(tiny_glp):
    from types import SimpleNamespace

    name = neuron_directions.name_of(1, 3)
    assert (
        neuron_directions.is_neuron(name)
        and not neuron_directions.is_neuron("unit:1")
        and not neuron_directions.is_neuron("sentiment")
    )
    direction = neuron_directions.make(SimpleNamespace(layer=2, median_norm=5.0), tiny_glp, name)
    assert direction.vector.norm().item() == pytest.approx(1.0, abs=1e-5)
    assert direction.concept(torch.zeros(2, len(direction.vector))).isnan().all()
    with pytest.raises(GlpError, match="no neuron"):
        neuron_directions.make(SimpleNamespace(layer=2, median_norm=5.0), tiny_glp, "unit:9/3")


def test_raising_a_neuron_moves_the_denoised_activation_along_its_direction(tiny_glp):
    """Independent of the formula: add a little to one neuron inside the network and look where the activation goes."""
    from types import SimpleNamespace

    layer, neuron, sigma = 1, 3, 0.3
    direction = neuron_directions.make(
        SimpleNamespace(layer=2, median_norm=5.0), tiny_glp, neuron_directions.name_of(layer, neuron)
    )
    z = torch.randn(64, tiny_glp.d_input, generator=torch.Generator().manual_seed(0))
    network, block = tiny_glp.network, tiny_glp.network.layers[layer]

    def denoised(push):
        emb = network.embed(torch.tensor([sigma]))
        x = network.in_proj(z).unflatten(0, (1, -1))
        for one in network.layers:
            hidden = one.hidden(x, emb)
            if one is block:
                hidden = hidden.clone()
                hidden[..., neuron] += push
            x = x + one.down_proj(hidden)
        velocity = network.out_proj(network.ln(x)).flatten(0, 1)
        return tiny_glp.denormalize(z - sigma * velocity)

    with torch.no_grad():
        moved = (denoised(0.01) - denoised(0.0)).mean(0)
    assert torch.cosine_similarity(moved, direction.vector, dim=0) > 0.8


def test_only_the_last_results_are_kept():
    kept = Results()
    for i in range(KEPT_RESULTS + 1):
        kept.put(i, "text", i)
    assert kept.get("text", 0) is None
    assert kept.get("text", KEPT_RESULTS) == KEPT_RESULTS


def test_the_noise_axis_leaves_out_massive_tokens():
    reading = neuron_fakes.read_text("one two three")
    reading.massive[1] = True
    assert neurons.noise_tokens(reading) == [0, 2]


def test_a_neuron_without_a_tail_says_so_on_its_axis():
    figure = figures.histogram(replace(NEURON, tail=0.0), log=False, markers={})
    assert figure.layout.xaxis.title.text == "value: this neuron has no tail"
