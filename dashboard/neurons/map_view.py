"""The view "map": all neurons by concept profile or write direction; search, click, lasso, and maps computed anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from dashboard.neurons import map_figure, shared
from dashboard.service import follow, missing, neurons, resources, results, workspace_facts
from dashboard.widgets import frame as components
from dashboard.widgets import starred, url, webgl_figure
from dashboard.widgets.neuron_rows import neuron_rows

if TYPE_CHECKING:
    from glp_core.files import Json
    from glp_core.jobs.job import Cancelled
    from glp_core.neuron_index.reader import NeuronIndex
    from glp_core.neurons.regions import Region
    from glp_core.progress import Progress

MOST_LISTED = 100
CLEAR_AUC = 0.9
"""From which on a neuron's best task names its region."""
MAP_FILES = tuple(f"neurons/{name}" for name in ("index.json", "maps.parquet", "task_scores.parquet", "descriptions.json"))
"""What a map's regions are made from."""
WANTED = "map_wanted"
"""Session key of the settings of a map that is laid out anew."""
LEAST_LETTERS = 3
"""Of a description's word that names a region."""


def draw(index: NeuronIndex) -> list[components.File]:
    """Draw the view; return the points as a file to download."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = st.segmented_control(
            "Neighbours have a similar", list(map_figure.KINDS), format_func=map_figure.KINDS.__getitem__,
            default="concepts", required=True, key="map_kind", bind="query-params",
        )  # fmt: skip
        colouring = st.segmented_control(
            "Colour", shared.COLOURINGS, default="layer", required=True, key="map_colour", bind="query-params"
        )
        words = st.text_input(
            "Search", key="map_search", bind="query-params", placeholder="words of a description, token or task", max_chars=100
        )
        with st.popover("Lay out anew"):
            anew = _settings()
    kind = kind if kind in map_figure.KINDS else "concepts"
    laid_out = _points(index, kind, anew)
    if laid_out is None:
        missing.report("The map", workspace_facts.command("map"), "about a minute", stage="map")
        return []
    points, made = laid_out
    frame = points.merge(index.table(), on=["layer", "unit"], how="left")
    matches = _matches(index, frame, words)
    regions = _regions(index, frame, (kind, *(anew or {}).values()))
    chart = map_figure.map_figure(frame, colouring if colouring in shared.COLOURINGS else "layer", matches, regions)
    count = f"{len(frame):,} neurons" if matches is None else f"{len(matches):,} of {len(frame):,} neurons match"
    st.caption(f"Click a point to open its neuron, drag to move the map; its toolbar has lasso and zoom. {count}, {made}.")
    event = webgl_figure.webgl_figure(
        chart,
        frame[["layer", "unit", "x", "y", "description"]].rename(columns={"unit": "neuron"}),
        key="map_figure",
        alt=f"Map of {len(frame):,} neurons",
        on_select=_clicked,
        selection_mode=("points", "box", "lasso"),
    )
    lassoed = _selected(event)
    if len(lassoed) > 1:
        _listed(frame, lassoed, "in the lasso")
    elif matches:
        rows = frame.iloc[matches]
        _listed(frame, list(zip(rows["layer"].tolist(), rows["unit"].tolist(), strict=True)), "found")
    return [
        components.File(
            "Points, CSV", f"map-{kind}.csv", points.rename(columns={"unit": "neuron"}).to_csv(index=False), "text/csv"
        )
    ]


def _settings() -> Json | None:
    """Draw the settings of a new map; return them when one is wanted."""
    st.caption("Lays out the map with other settings. The stored map stays as it is.")
    with st.form("map_settings", border=False):  # the address holds what was computed, not what is being typed
        neighbours = st.number_input("Neighbours", 2, 200, 15, key="map_neighbours", bind="query-params")
        min_dist = st.number_input("Minimum distance", 0.0, 0.99, 0.1, 0.05, key="map_min_dist", bind="query-params")
        seed = st.number_input("Seed", 0, 10_000, 0, key="map_seed", bind="query-params")
        run = st.form_submit_button("Compute", type="primary", key="map_compute")
    settings = {"neighbours": int(neighbours), "min_dist": float(min_dist), "seed": int(seed)}
    if run or (url.value(shared.MAP_ANEW) and not st.session_state.get(WANTED)):
        st.session_state[WANTED] = settings
    if st.session_state.get(WANTED):
        st.button("Back to the stored map", key="map_stored", on_click=_want, args=(None,))
    return st.session_state.get(WANTED)


def _want(settings: Json | None) -> None:
    """Want a map with these settings, or the stored one; the address says which."""
    st.session_state[WANTED] = settings
    url.put(shared.MAP_ANEW, settings is not None)


def _points(index: NeuronIndex, kind: str, anew: Json | None) -> tuple[pd.DataFrame, str] | None:
    """Return the points and how they were made, or None without a stored map."""
    if anew is None:
        stored = index.map(kind)
        facts = index.map_facts(kind)
        workspace_facts.note_prior("the map of the meta-neurons", facts.get("glp_digest"))
        made = "stored UMAP: " + ", ".join(
            f"{key.replace('_', ' ')} {value}" for key, value in facts.items() if isinstance(value, int | float)
        )
        return None if stored is None else (stored, made)
    made = "UMAP of now: " + ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in anew.items())
    workspace = resources.workspace()
    made_from = ("map", str(workspace.folder), index.facts.get("glp"), kind, tuple(anew.items()))
    points = results.small_results().get(*made_from)
    if points is None:

        def work(cancelled: Cancelled, report: Progress) -> pd.DataFrame:
            from glp_core.neurons.maps import compute_map
            from glp_core.neurons.umap import UmapConfig

            config = UmapConfig(**anew)
            glp, digest = neurons.prior_of(index), workspace.glp_digest()
            return compute_map(glp, kind, workspace.neurons, config, glp_digest=digest, progress=report, cancelled=cancelled)

        _want(None)  # stopping it must not start it again
        points = follow.compute("computing the map", work, stop=True)
        results.small_results().put(points, *made_from)
    _want(anew)
    return points, made


def _matches(index: NeuronIndex, frame: pd.DataFrame, words: str) -> list[int] | None:
    if not words.strip():
        return None
    hits = set(index.search(words))
    flat = frame["layer"] * index.d_mlp + frame["unit"]
    return [position for position, number in enumerate(flat) if number in hits]


def _regions(index: NeuronIndex, frame: pd.DataFrame, of: tuple[object, ...]) -> list[Region]:
    """Return the map's regions, named by tasks that their neurons tell apart well and by words of their descriptions."""
    made_from = ("regions", str(index.folder), workspace_facts.times(*MAP_FILES), *of)
    regions = results.small_results().get(*made_from)
    if regions is None:
        from glp_core.neurons.regions import find_regions

        clearly = frame["best_auc"] >= CLEAR_AUC
        labels = [
            ([neurons.task_title(task, sign)] if clear else []) + [key for key in keys if len(key) >= LEAST_LETTERS]
            for task, sign, clear, keys in zip(frame["best_task"], frame["best_sign"], clearly, frame["keys"], strict=True)
        ]
        regions = find_regions(frame[["x", "y"]].to_numpy(), labels)
        results.small_results().put(regions, *made_from)
    return regions


def _clicked() -> None:
    """Open the neuron of a click; a lasso's neurons are listed when the page runs."""
    members = _selected(st.session_state[webgl_figure.key_of("map_figure")])
    if len(members) == 1:
        shared.open_neuron(*members[0])


def _selected(event: Any) -> list[starred.NeuronId]:
    """Return the neurons that a click or lasso took, from what every point carries."""
    points = event.get("selection", {}).get("points", []) if event else []
    names = [point["customdata"][0] for point in points if point.get("customdata")]
    return [starred.parse_neuron(name) for name in dict.fromkeys(names)]


def _listed(frame: pd.DataFrame, members: list[starred.NeuronId], where: str) -> None:
    rows = frame.set_index(["layer", "unit"], drop=False).loc[members]
    left, right = st.columns([4, 1], vertical_alignment="center")
    first = f", the first {MOST_LISTED}" if len(members) > MOST_LISTED else ""
    left.markdown(f"**{len(members):,} neurons {where}**{first}, each with how readable it is")
    right.button(
        f"Star the first {MOST_LISTED}" if first else "Star them all",
        key="map_star",
        on_click=_star_all,
        args=(members[:MOST_LISTED],),
    )
    listed = shared.table_rows(rows.head(MOST_LISTED))
    neuron_rows(listed, label=f"Neurons {where}", key="map_neurons", on_choose=shared.open_named, height=400)


def _star_all(neurons: list[starred.NeuronId]) -> None:
    merged = list(dict.fromkeys([*shared.starred(), *neurons]))
    shared.keep_stars(starred.format_neurons(merged[: starred.LONGEST_LIST]))
    if len(merged) > starred.LONGEST_LIST:
        st.toast(f"{starred.LONGEST_LIST} neurons are starred, and no list is longer: the last ones are left out.")
