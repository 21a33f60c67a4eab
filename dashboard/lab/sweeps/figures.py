"""Figures of a sweep: concept against fluency, a curve for each arm with strength along it, and noise level against strength."""

import plotly.graph_objects as go

from dashboard.widgets import charts, labels
from glp_core.files import Json

SYMBOLS = {
    "raw": "square",
    "walk": "circle",
    "glp": "diamond",
    "norm": "cross",
    "gaussian": "x",
    "opposite": "triangle-down",
    "random": "hexagon",
}
HEIGHT, DRAWN = 470, (620.0, 380.0)
"""Of the figure in pixels; width and height of the drawing in it, about, for its labels."""
CONTROLS = ("opposite", "random")
BARRED = ("raw", "walk")
"""Arms whose intervals of gain are drawn; hover tells all."""


def frontiers(entry: Json) -> go.Figure:
    """Draw one direction's curves; a point's customdata are its curve, its strength and both intervals."""
    figure = go.Figure()
    room = labels.Room(*DRAWN)
    several: dict[str, int] = {}
    for name, one in entry["series"].items():
        room.line((point["gain"], point["fluency"]) for point in one["points"])
        several[one["arm"]] = several.get(one["arm"], 0) + 1
        _band(figure, name, one)
    for name, one in entry["series"].items():
        _curve(figure, name, one, room, levels=several[one["arm"]] > 1)
    if "prompted" in entry:
        _prompted(figure, entry["prompted"])
    charts.layout(figure, x="Concept gained (share of the way to 1)", y="Fluency (1 = as the model's own)", height=HEIGHT)
    return figure.update_xaxes(range=[-0.04, 1.06]).update_yaxes(range=[-0.04, 1.1])


def title(one: Json, *, levels: bool) -> str:
    """Return a curve's name, with its noise level where its arm has several."""
    level = one["noise_level"]
    return str(charts.ARM_TITLES[one["arm"]]) + (f", {level:g}" if levels and level is not None else "")


def _band(figure: go.Figure, name: str, one: Json) -> None:
    """Shade the intervals of fluency along a curve; those of controls are left out."""
    if one["arm"] in CONTROLS or len(one["points"]) < 2:
        return
    gains = [point["gain"] for point in one["points"]]
    lows, highs = ([point["fluency_ci"][end] for point in one["points"]] for end in (0, 1))
    colour = charts.ARM_COLOURS[one["arm"]].lstrip("#")
    red, green, blue = (int(colour[i : i + 2], 16) for i in (0, 2, 4))
    figure.add_scatter(
        x=[*gains, *reversed(gains)], y=[*highs, *reversed(lows)], fill="toself", mode="none", hoverinfo="skip",
        fillcolor=f"rgba({red},{green},{blue},0.1)", legendgroup=name, showlegend=False,
    )  # fmt: skip


def _curve(figure: go.Figure, name: str, one: Json, room: labels.Room, *, levels: bool) -> None:
    arm, points = one["arm"], one["points"]
    ends = {points[0]["strength"], points[-1]["strength"]} if arm not in CONTROLS else set()
    words = [f"{p['strength']:g}" if p["strength"] in ends else "" for p in points]
    placed = room.label((p["gain"], p["fluency"], text) for p, text in zip(points, words, strict=True))
    called = title(one, levels=levels)
    figure.add_scatter(
        x=[p["gain"] for p in points],
        y=[p["fluency"] for p in points],
        error_x={
            "array": [p["gain_ci"][1] - p["gain"] for p in points],
            "arrayminus": [p["gain"] - p["gain_ci"][0] for p in points],
            "thickness": 0.7, "width": 0,
        } if arm in BARRED else None,
        mode="lines+markers+text",
        name=called,
        legendgroup=name,
        line={"color": charts.ARM_COLOURS[arm], "dash": charts.ARM_DASHES[arm], "width": 2.5 if arm == "walk" else 1.5},
        marker={"symbol": SYMBOLS[arm], "size": 9},
        unselected={"marker": {"opacity": 1}, "textfont": {"color": charts.GREY}},
        text=[label.text for label in placed],
        textposition=[label.place for label in placed],
        customdata=[[name, p["strength"], *p["gain_ci"], *p["fluency_ci"]] for p in points],
        hovertemplate=f"{charts.plain(called)}, strength %{{customdata[1]}}"
        "<br>gain %{x:.2f} [%{customdata[2]:.2f}, %{customdata[3]:.2f}]"
        "<br>fluency %{y:.2f} [%{customdata[4]:.2f}, %{customdata[5]:.2f}]<extra></extra>",
    )  # fmt: skip


def _prompted(figure: go.Figure, point: Json) -> None:
    figure.add_scatter(
        x=[point["gain"]], y=[point["fluency"]], mode="markers", name=charts.ARM_TITLES["prompted"],
        marker={"symbol": "star", "size": 14, "color": charts.ARM_COLOURS["prompted"]},
        unselected={"marker": {"opacity": 1}}, customdata=[["prompted", 0.0]],
        hovertemplate="Asked for in words<br>gain %{x:.2f}, fluency %{y:.2f}<extra></extra>",
    )  # fmt: skip


def heat_arms(entry: Json) -> list[str]:
    """Return the arms that were swept at several noise levels."""
    arms = [one["arm"] for one in entry["series"].values() if one["noise_level"] is not None and one["arm"] not in CONTROLS]
    return [arm for arm in dict.fromkeys(arms) if arms.count(arm) > 1]


def heat_map(entry: Json, arm: str) -> go.Figure:
    """Draw gain times fluency of an arm by noise level and strength."""
    rows = sorted((one for one in entry["series"].values() if one["arm"] == arm), key=lambda one: one["noise_level"])
    strengths = sorted({point["strength"] for one in rows for point in one["points"]})
    worth = [{point["strength"]: point["worth"] for point in one["points"]} for one in rows]
    values = [[row.get(strength) for strength in strengths] for row in worth]
    figure = go.Figure(
        go.Heatmap(
            x=[f"{strength:g}" for strength in strengths], y=[f"{one['noise_level']:g}" for one in rows], z=values,
            colorscale=charts.SEQUENTIAL_SCALE, zmin=0, zmax=1, colorbar=charts.COLOUR_BAR | {"title": "gain × fluency"},
            text=[["" if value is None else f"{value:.2f}" for value in row] for row in values], texttemplate="%{text}",
            hovertemplate="strength %{x}, noise level %{y}: %{z:.2f}<extra></extra>",
        )
    )  # fmt: skip
    charts.layout(figure, x="Strength (median norms)", y="Noise level", height=120 + 42 * len(rows), legend=False)
    return figure.update_xaxes(type="category").update_yaxes(type="category")
