"""Install parts of the operating system that are missing, where this user may, or say the one command to type; never calls sudo.

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
    return path if _runs([path, "--version"]) else None


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
    download: tuple[str, ...] = ()
    """Arguments of this Python that fetch it for this user alone; none for most."""


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
        ("-m", "playwright", "install", "chromium"),
    ),
}

DOWNLOAD_SECONDS = 900
INSTALL = {
    "apt-get": [["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "--no-install-recommends"]],
    "dnf": [["dnf", "install", "-y", "-q"]],
    "apk": [["apk", "add", "--quiet"]],
    "pacman": [["pacman", "-Sy", "--noconfirm", "--needed"]],
    "zypper": [["zypper", "--non-interactive", "--quiet", "install"]],
    "brew": [["brew", "install", "--quiet"]],
}


def _runs(command: list[str], seconds: float = 60) -> bool:
    try:
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=seconds).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _manager(part: Part) -> str | None:
    """Return the package manager that is there, if it has the part."""
    return next((manager for manager in part.packages if shutil.which(manager)), None)


def _may_install(manager: str) -> bool:
    return manager == "brew" or os.geteuid() == 0


def _install(part: Part) -> bool:
    """Install with the package manager where this user may, else by download where the part has one; return whether it is there."""
    manager = _manager(part)
    if manager is not None and _may_install(manager):
        packages = part.packages[manager]
        say(f"Installing {' '.join(packages)} with {manager}, for {part.needed_for}.")
        *prepare, install = INSTALL[manager]
        for command in prepare:
            subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run([*install, *packages], env=environment, stdout=subprocess.DEVNULL, check=False)
        if part.present():
            return True
    if part.download:
        say(f"Downloading it for this user, for {part.needed_for}.")
        return _runs([sys.executable, *part.download], DOWNLOAD_SECONDS) and bool(part.present())
    return False


def command_to_type(part: Part) -> str:
    """Return the one command with which a person installs the part; a list by package manager where none is known to be here."""
    manager = _manager(part)
    if manager is None:
        return "; ".join(f"{manager}: {' '.join(packages)}" for manager, packages in part.packages.items())
    install = " ".join([*INSTALL[manager][-1], *part.packages[manager]])
    return install if _may_install(manager) else f"sudo {install}"


def ensure(name: str) -> bool:
    """Return whether the part is there or could be installed, or can be done without; else say what to type."""
    part = PARTS[name]
    if part.present() or _install(part):
        return True
    say(f"{name} is missing. It is needed for {part.needed_for}. Install it with:\n    {command_to_type(part)}")
    return not part.required


def say(words: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(words + "\n")


if __name__ == "__main__":
    sys.exit(0 if all(map(ensure, sys.argv[1:])) else 1)
