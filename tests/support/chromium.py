"""A headless Chromium, which `make test` installs."""

import os
from contextlib import contextmanager

from playwright.sync_api import sync_playwright

from dashboard.system_parts import chromium

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def launched():
    """A browser of its own while the block runs."""
    path = os.environ.get("GLP_EXPLORER_CHROMIUM") or chromium()
    assert path, "No Chromium was found: install one, name it in GLP_EXPLORER_CHROMIUM, or run `make test BROWSER=no`."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()
