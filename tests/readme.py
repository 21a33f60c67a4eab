"""`python -m tests.readme` writes measured numbers into README.md and assets/demo/NUMBERS.md, pages and folders from docstrings.

A test checks that they are up to date, so no number in them is typed by hand.
"""

import ast
import re
from pathlib import Path
from statistics import fmean

from glp_core.workspace import Workspace
from tests.bench.targets import table
from tests.report_rows import REPORTS

ROOT = Path(__file__).resolve().parents[1]
SHARED = ("service", "widgets")
README, NUMBERS = ROOT / "README.md", ROOT / "assets/demo/NUMBERS.md"
CORE = ROOT / "glp_core/README.md"
PAGE_FOLDERS = sorted(path.parent.name for path in (ROOT / "dashboard").glob("*/__init__.py") if path.parent.name not in SHARED)
ROOMS = (
    ("pages", "one short script a page: it calls a page folder's functions in order"),
    (f"dashboard/{', '.join(PAGE_FOLDERS)}", "what one page shows, a folder each; none imports another"),
    ("dashboard/service", None),
    ("dashboard/widgets", None),
    ("dashboard", "the app, its server and launcher, the sidebar, what the system must have"),
    *((f"glp_core/{room}", None) for room in ("jobs", "speed", "llm", "prior", "data", "steering", "training", "neuron_index")),
    *((f"glp_core/{room}", None) for room in ("neurons", "serving", "evaluation", "building", "cli")),
    ("glp_core", "the front door and what all rooms share: errors, files, checked readers, workspaces"),
    ("tests", "tests in the folders of the code they test; fakes in support/, timings in bench/"),
    ("assets/demo", "the demo workspace: GLP, directions, index, runs, reports, and where they come from"),
)
"""Folders of the map with a phrase each; None takes the phrase from the folder's docstring."""


def numbers(workspace, *, all_of_them):
    """Return the table of measured numbers in Markdown, all or those that matter; of a missing
    report the page of all numbers says the command."""
    lines = ["| What | Measured | Made by |", "|---|---|---|"]
    for name, command, rows in REPORTS:
        report = workspace.report(name)
        if report is None and all_of_them:
            lines.append(f"| {name.replace('_', ' ')} | not measured yet | `{command}` |")
        elif report is not None:
            lines += [f"| {row.what} | {row.measured} | `{command}` |" for row in rows(report) if row.matters or all_of_them]
    return "\n".join(lines)


def phrase(path):
    """Return what a file is, from the first sentence of its docstring."""
    words = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]
    return re.split(r"(?<=[\w)`])[.;] ", words + " ")[0].strip().rstrip(".")


def rooms():
    """Return the map of folders, one phrase each."""
    lines = ["| Folder | What is in it |", "|---|---|"]
    for name, words in ROOMS:
        words = words or phrase(ROOT / name / "__init__.py")
        lines.append(f"| `{name}` | {words[0].upper()}{words[1:]} |")
    return "\n".join(lines)


def pages():
    """Return the table of pages, each with what its docstring says after the title."""
    lines = ["| Page | What it answers |", "|---|---|"]
    app = ast.parse((ROOT / "dashboard/app.py").read_text())
    [listed] = [node.value for node in app.body if isinstance(node, ast.Assign) and node.targets[0].id == "PAGES"]
    for name, *_ in ast.literal_eval(listed):
        title, _, words = ast.get_docstring(ast.parse((ROOT / f"pages/{name}.py").read_text())).split("\n")[0].partition(": ")
        lines.append(f"| {title} | {words[0].upper()}{words[1:]} |")
    return "\n".join(lines)


def renewed(text, name, body):
    """Return a document's text with the part between a pair of markers replaced."""
    begin, end = f"<!-- {name}: made by python -m tests.readme -->", f"<!-- end of {name} -->"
    before, opened, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        raise ValueError(f"the document lacks the markers of {name}")
    return f"{before}{begin}\n{body}\n{end}{after}"


def tried_walks(workspace):
    """Return the table of what was tried for the walk: the best of every family, and what it is compared with."""
    report = workspace.report("walk_forms")
    if report is None:
        return "Not measured yet; `python -m glp_core tune-walk` does."
    best = {}
    for row in report["forms"]:
        best.setdefault(row["family"], row)
    lines = [
        "| Family | Best of it | Hypervolume, 95% interval | Gain at equal fluency | Strict hypervolume |",
        "|---|---|---|---|---|",
    ]
    for family, row in best.items():
        low, high = row["hypervolume_ci"]
        numbers = f"{row['hypervolume']:.3f} [{low:.3f}, {high:.3f}] | {row['gain_at_equal_fluency']:.2f}"
        lines.append(f"| {family} | {row['name']} | {numbers} | {row['strict_hypervolume']:.3f} |")
    settings = report["settings"]
    scope = (
        f"{settings['prefixes']} validation prefixes, {len(settings['directions'])} directions, {len(report['forms'])} forms"
    )
    return "\n".join([*lines, "", f"{scope}."])


def worths(report, made_by):
    """Return the table of what texts are worth at each strength, gain times fluency, the mean over directions, by form."""
    if report is None:
        return f"Not measured yet; `{made_by}` does."
    strengths = report["settings"]["strengths"]
    heads = ["Form", "Hypervolume, 95% interval", *(f"Worth at {strength:g}" for strength in strengths)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in report["forms"]:
        low, high = row["hypervolume_ci"]
        points = zip(*(one["points"] for one in row["directions"].values()), strict=True)
        means = [fmean(point["gain"] * point["fluency"] for point in at) for at in points]
        cells = [row["name"], f"{row['hypervolume']:.3f} [{low:.3f}, {high:.3f}]", *(f"{worth:.2f}" for worth in means)]
        lines.append(f"| {' | '.join(cells)} |")
    settings, rule = report["settings"], report["chosen"]
    scope = f"{settings['prefixes']} validation prefixes, {len(settings['directions'])} directions."
    if rule is None:
        return "\n".join([*lines, "", scope])
    names = {end: next(row["name"] for row in report["forms"] if row["settings"] == rule[end]) for end in ("short", "long")}
    chosen = f"`{names['short']}` for pushes up to {rule['border']:.2f} latent lengths, `{names['long']}` for longer ones"
    best = f": {chosen}" if names["short"] != names["long"] else f" at every length: `{names['short']}`"
    return "\n".join([*lines, "", f"{scope} Best of these{best}."])


def told_tokens(report, made_by):
    """Return the tables of a prior that is told the token: its held-out loss by noise level, and what texts are worth with it."""
    if report is None:
        return worths(None, made_by)
    losses = report["losses"]
    lines = [f"| Held-out loss | {' | '.join(next(iter(losses.values())))} |".replace("all", "all noise levels")]
    lines.append("|---" * (1 + len(next(iter(losses.values())))) + "|")
    lines += [f"| {name} | {' | '.join(f'{value:.3f}' for value in row.values())} |" for name, row in losses.items()]
    return "\n".join([*lines, "", worths(report, made_by)])


def documents():
    """Return the documents as they should be, by path."""
    workspace = Workspace.open()
    text = renewed(README.read_text(), "numbers", numbers(workspace, all_of_them=False))
    text = renewed(renewed(text, "pages", pages()), "rooms", rooms())
    page = renewed(NUMBERS.read_text(), "numbers", numbers(workspace, all_of_them=True))
    core = renewed(CORE.read_text(), "walks", tried_walks(workspace))
    core = renewed(core, "bounds", worths(workspace.report("walk_tuning"), "python -m glp_core tune-walk"))
    core = renewed(core, "checks", worths(workspace.report("walk_checked"), "python -m tests.bench.checked_walk"))
    core = renewed(core, "tokens", told_tokens(workspace.report("token_prior"), "python -m tests.bench.token_prior"))
    core = renewed(core, "targets", table(workspace.report("accelerator")))
    return {README: text, NUMBERS: page, CORE: core}


if __name__ == "__main__":
    for path, text in documents().items():
        path.write_text(text)
