"""Fixtures of page tests: a small real workspace, and the dashboard that shows it with a tiny LLM."""

import pytest

from dashboard.service.visitors import origin
from tests.support import pages


@pytest.fixture
def workspace(tmp_path):
    return pages.make_workspace(tmp_path / "workspace")


@pytest.fixture
def llm(monkeypatch, workspace):
    return pages.use_workspace(monkeypatch, workspace.folder)


@pytest.fixture
def local(monkeypatch):
    """Let the dashboard listen on this machine only; to a page's test it is open to others."""
    monkeypatch.setattr(origin, "on_this_machine_only", lambda: True)
