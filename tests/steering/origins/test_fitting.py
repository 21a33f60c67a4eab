"""What fits a direction to two classes, against scikit-learn and closed forms; folds; evidence that is none."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from glp_core.errors import GlpError
from glp_core.steering.direction_facts import METHODS
from glp_core.steering.directions import Direction
from glp_core.steering.origins.evidence import Origin, made_from, measured_on
from glp_core.steering.origins.fitting import FOLDS, Classes, fit

D = 12
ORIGIN = Origin("x", "", "drawn", {"source": "texts"})


class Place:
    """All that is asked of a site."""

    layer, median_norm = 3, 2.0


def classes(shift, *, positive=40, negative=40, seed=0):
    """Two Gaussian clouds of unlike spread along the axes, whose means differ by `shift` (d,)."""
    generator = torch.Generator().manual_seed(seed)
    acts = torch.randn(positive + negative, D, generator=generator) * torch.linspace(0.2, 2, D)
    acts[:positive] += torch.as_tensor(shift)
    return Classes.of(acts, acts, np.repeat([1, 0], [positive, negative]))


def axis(i, length=1.0):
    return torch.eye(D)[i] * length


def test_diffmean_is_the_difference_of_the_class_means():
    drawn = classes(axis(0, 3.0), positive=30, negative=50)
    difference = drawn.acts[:30].mean(0) - drawn.acts[30:].mean(0)
    torch.testing.assert_close(fit(drawn, "diffmean"), difference / difference.norm())


def test_the_principal_component_is_sklearns_over_differences_taken_both_ways():
    drawn = classes(axis(4, 4.0))
    differences = (drawn.acts[:40] - drawn.acts[40:]).double().numpy()
    first = PCA(1).fit(np.concatenate([differences, -differences])).components_[0]
    vector = fit(drawn, "pca")
    assert abs(vector.double().numpy() @ first) == pytest.approx(1, abs=1e-5)
    assert vector @ axis(4) > 0.8  # towards the positive class, whatever the sign that the decomposition gave


def test_pairs_that_differ_by_one_vector_times_any_length_give_that_vector():
    lengths, base = torch.linspace(0.5, 3, 8)[:, None], torch.randn(8, D, generator=torch.Generator().manual_seed(1))
    wanted = torch.ones(D) / D**0.5
    acts = torch.cat([base + lengths * wanted, base])
    torch.testing.assert_close(fit(Classes.of(acts, acts, np.repeat([1, 0], 8)), "pca"), wanted)


def test_pairs_are_told_by_order_and_one_with_a_lost_half_is_left_out():
    base = torch.randn(6, D, generator=torch.Generator().manual_seed(1))
    acts = torch.cat([base + axis(2, 1.0), base])
    acts[0, 0] = torch.nan  # the first text had no words: its partner must not be paired with the second
    torch.testing.assert_close(fit(Classes.of(acts, acts, np.repeat([1, 0], 6)), "pca"), axis(2), atol=1e-5, rtol=0)


def test_the_logistic_probe_points_where_sklearns_does():
    drawn = classes(axis(1, 1.0) + axis(9, 1.0))
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, class_weight="balanced", max_iter=2000))
    pipeline.fit(drawn.acts.double().numpy(), drawn.labels)
    weight = pipeline[-1].coef_[0] / pipeline[0].scale_
    assert fit(drawn, "probe").double().numpy() @ (weight / np.linalg.norm(weight)) == pytest.approx(1, abs=1e-4)


def test_folds_share_out_both_classes_and_never_part_a_pair():
    drawn = classes(axis(0), positive=22, negative=9)
    folds = drawn.folds(seed=3)
    for number in range(9):
        assert len(set(folds[drawn.numbers == number])) == 1
    for label, n in ((1, 22), (0, 9)):
        counts = np.bincount(folds[drawn.labels == label], minlength=FOLDS)
        assert counts.sum() == n and counts.max() - counts.min() <= 1
    assert (folds == drawn.folds(seed=3)).all() and (folds != drawn.folds(seed=4)).any()


def test_every_row_is_scored_along_a_direction_that_was_made_without_it():
    drawn = classes(axis(0, 1.0))
    made = made_from(drawn, Place(), ORIGIN, seed=5)
    folds = drawn.folds(5)
    for row in (0, 17, 55):
        others = folds != folds[row]
        positive, negative = (drawn.acts[torch.from_numpy(others & (drawn.labels == label))].mean(0) for label in (1, 0))
        vector = (positive - negative) / (positive - negative).norm()
        assert made.evidence.scores[row] == pytest.approx(float(drawn.acts[row] @ vector) / Place.median_norm, abs=1e-5)
    torch.testing.assert_close(made.direction.vector, fit(drawn, "diffmean"))


@pytest.mark.parametrize("method", METHODS)
def test_classes_that_differ_are_told_apart_and_classes_that_do_not_are_named_chance(method):
    far = made_from(classes(axis(0, 6.0)), Place(), ORIGIN, method=method)
    assert far.direction.auroc > 0.9 and not far.evidence.is_chance
    assert far.direction.about["auroc_ci"] == far.evidence.auroc.ci and far.direction.about["method"] == method
    chances = [made_from(classes(axis(0, 0.0), seed=seed), Place(), ORIGIN, method=method).evidence for seed in range(6)]
    assert sum(evidence.is_chance for evidence in chances) >= 5


def test_a_direction_from_elsewhere_is_measured_along_itself_and_gets_a_probe():
    drawn = classes(axis(0, 3.0))
    bare = Direction.unmeasured(axis(0, 5.0), name="x", title="X", layer=3, median_norm=2.0, how="", about={"source": "file"})
    assert torch.isnan(bare.probe_weight).all() and bare.vector.norm() == 1
    made = measured_on(bare, drawn)
    np.testing.assert_allclose(made.evidence.scores, drawn.acts[:, 0].numpy() / 2.0, rtol=1e-5)
    assert made.direction.auroc > 0.9 and made.direction.probe_auroc > 0.9 and torch.equal(made.direction.vector, bare.vector)
    assert (
        measured_on(
            Direction.unmeasured(axis(0, -5.0), name="x", title="X", layer=3, median_norm=2.0, how="", about={}), drawn
        ).evidence.auroc.high
        < 0.1
    )


@pytest.mark.parametrize(("positive", "negative"), [(3, 20), (20, 3)])
def test_too_few_texts_of_a_class_are_refused(positive, negative):
    with pytest.raises(GlpError, match=f"Got {positive} positive and {negative} negative texts.*wanted 4 of each"):
        classes(axis(0), positive=positive, negative=negative)


@pytest.mark.parametrize("method", ["diffmean", "pca"])
def test_classes_of_the_same_rows_are_refused(method):
    acts = torch.randn(8, D, generator=torch.Generator().manual_seed(0)).repeat(2, 1)
    with pytest.raises(GlpError, match="the texts of both are the same"):
        made_from(Classes.of(acts, acts, np.repeat([1, 0], 8)), Place(), ORIGIN, method=method)
