"""Install parts of the operating system that are missing, by whichever package manager there is, or say what to install.

    python -m dashboard.system_parts venv openmp chromium

Needs nothing but Python itself: it runs before anything else is installed.
"""

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

CHROMIUMS = (
    "chromium",
    "chromium-browser",
    "google-chrome-stable",
    "google-chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)


def chromium() -> str | None:
    """Return the path of a Chromium or Chrome that starts, if there is one."""
    for name in CHROMIUMS:
        path = shutil.which(name)
        # on some systems the command is a placeholder that only says how to install the real one
        if path and _runs([path, "--version"]):
            return path
    return _playwrights_own()


def _playwrights_own() -> str | None:
    if importlib.util.find_spec("playwright") is None:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if os.path.exists(path) else None


def _has_openmp() -> bool:
    names = ("libomp.dylib", "/opt/homebrew/opt/libomp/lib/libomp.dylib") if sys.platform == "darwin" else ("libgomp.so.1",)
    for name in names:
        try:
            ctypes.CDLL(name)
            return True
        except OSError:
            continue
    return False


def _has_venv() -> bool:
    return importlib.util.find_spec("ensurepip") is not None and importlib.util.find_spec("venv") is not None


@dataclass(frozen=True)
class Part:
    """Something that the operating system provides."""

    present: Callable[[], object]
    packages: dict[str, list[str]]
    """By package manager."""
    needed_for: str
    required: bool
    """Without it the make target cannot go on."""


PARTS = {
    "venv": Part(
        _has_venv,
        {"apt-get": ["python3-venv"], "dnf": ["python3"], "apk": ["python3"], "pacman": ["python"], "zypper": ["python3"]},
        "the virtual environment that everything is installed in",
        True,
    ),
    "openmp": Part(
        _has_openmp,
        {
            "apt-get": ["libgomp1"],
            "dnf": ["libgomp"],
            "apk": ["libgomp"],
            "pacman": ["gcc-libs"],
            "zypper": ["libgomp1"],
            "brew": ["libomp"],
        },
        "computing several UMAP layouts at once",
        False,
    ),
    "chromium": Part(
        chromium,
        {
            "apt-get": ["chromium"],
            "dnf": ["chromium"],
            "apk": ["chromium"],
            "pacman": ["chromium"],
            "zypper": ["chromium"],
            "brew": ["--cask", "chromium"],
        },
        "the browser tests (`make test BROWSER=no` leaves them out)",
        True,
    ),
}

INSTALL = {
    "apt-get": [["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "--no-install-recommends"]],
    "dnf": [["dnf", "install", "-y", "-q"]],
    "apk": [["apk", "add", "--quiet"]],
    "pacman": [["pacman", "-Sy", "--noconfirm", "--needed"]],
    "zypper": [["zypper", "--non-interactive", "--quiet", "install"]],
    "brew": [["brew", "install", "--quiet"]],
}


def _runs(command: list[str]) -> bool:
    try:
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _as_root(manager: str) -> list[str] | None:
    """Return what to put before a command of the package manager, or None when this user may not install."""
    if manager == "brew" or os.geteuid() == 0:
        return []
    return ["sudo", "-n"] if _runs(["sudo", "-n", "true"]) else None


def _install(part: Part) -> bool:
    for manager, packages in part.packages.items():
        before = _as_root(manager) if shutil.which(manager) else None
        if before is None:
            continue
        say(f"Installing {' '.join(packages)} with {manager}, for {part.needed_for}.")
        *prepare, install = INSTALL[manager]
        for command in prepare:
            subprocess.run([*before, *command], stdout=subprocess.DEVNULL, check=False)
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run([*before, *install, *packages], env=environment, stdout=subprocess.DEVNULL, check=False)
        if part.present():
            return True
    return part is PARTS["chromium"] and _runs([sys.executable, "-m", "playwright", "install", "chromium"]) and bool(chromium())


def ensure(name: str) -> bool:
    """Return whether the part is there or could be installed; else say what to install."""
    part = PARTS[name]
    if part.present() or _install(part):
        return True
    hints = "; ".join(f"{manager}: {' '.join(packages)}" for manager, packages in part.packages.items())
    say(f"{name} is missing and could not be installed. It is needed for {part.needed_for}. Install it ({hints}).")
    return not part.required


def say(words: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(words + "\n")


if __name__ == "__main__":
    sys.exit(0 if all(map(ensure, sys.argv[1:])) else 1)
