"""Regions of a map, from planted clusters with planted words."""

import numpy as np

from glp_core.neurons.regions import find_regions


def planted(seed=0):
    rng = np.random.default_rng(seed)
    centres = np.array([[0, 0], [10, 0], [0, 10]])
    points = np.concatenate([centre + 0.3 * rng.standard_normal((60, 2)) for centre in centres])
    labels = [["sport", "the"]] * 40 + [["the"]] * 20 + [["medicine"]] * 50 + [["the"]] * 10 + [[f"word{i}"] for i in range(60)]
    return points, labels


def test_regions_are_the_clusters_and_carry_what_their_neurons_share():
    points, labels = planted()
    regions = {region.name: region for region in find_regions(points, labels)}
    assert len(regions) == 2
    sport = next(region for name, region in regions.items() if "sport" in name)
    assert np.hypot(sport.x, sport.y) < 1 and set(sport.members) <= set(range(60)) and len(sport.members) > 40
    medicine = regions["medicine"]
    assert abs(medicine.x - 10) < 1 and abs(medicine.y) < 1


def test_a_cluster_whose_neurons_share_nothing_has_no_name_and_few_points_no_regions():
    points, labels = planted()
    assert all(region.x < 11 and region.y < 5 for region in find_regions(points, labels))  # the third has none
    assert find_regions(points[:10], labels[:10]) == []


def test_a_label_names_one_region_only():
    rng = np.random.default_rng(0)
    points = np.concatenate([[10 * i, 0] + 0.3 * rng.standard_normal((60, 2)) for i in range(5)])
    labels = [["news", "sport"]] * 60 + [["news", "law"]] * 60 + [[f"word{i}"] for i in range(180)]
    names = [name for region in find_regions(points, labels) for name in region.name.split(" · ")]
    assert sorted(names) == ["law", "news", "sport"]
