"""A real server with the demo workspace, and a headless browser to drive it. Slow by nature: keep these tests few."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from dashboard.system_parts import chromium

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 90_000
"""Milliseconds to wait for a marker: CI machines have two cores."""


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Address of a dashboard over the demo workspace; its log is in the test's temporary folder."""
    with running("dashboard/server.py", tmp_path_factory.mktemp("server") / "log.txt", {}) as address:
        yield address


@contextmanager
def running(script, log, environment):
    """Run a server while the block runs; give its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", script, "--server.headless=true", f"--server.port={port}"]
    command += ["--server.address=127.0.0.1", "--server.fileWatcherType=none", "--browser.gatherUsageStats=false"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"} | environment
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_until_healthy(address, process, log)
            yield address
        finally:
            process.terminate()
            process.wait(10)


def _wait_until_healthy(address, process, log):
    deadline = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the server ended: {log.read_text()[-2000:]}"
        try:
            if urllib.request.urlopen(f"{address}/_stcore/health", timeout=2).read() == b"ok":
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"no healthy server: {log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium; the test is skipped where none is installed (`make test` installs it)."""
    api = pytest.importorskip("playwright.sync_api")
    path = os.environ.get("GLP_EXPLORER_CHROMIUM") or chromium()
    if path is None:
        pytest.skip("no Chromium found")
    with api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser, server):
    """A function that opens a path of the app in a session of its own and waits until it is drawn."""
    contexts = []

    def open_one(path="", *, width=1280, height=1000, dark=False):
        scheme = "dark" if dark else "light"
        contexts.append(
            browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, accept_downloads=True)
        )
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"{server}/{path}")
        page.wait_for_selector("[data-testid=stAppViewContainer]")
        page.wait_for_selector("h1")
        return page

    yield open_one
    for context in contexts:
        context.close()


def check_headings(page):
    """Fail unless the page's headings begin with level 1 and go down one level at a time."""
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(node => +node.tagName[1])")
    assert levels[0] == 1 and all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False)), levels
