"""Fixtures of page tests: a small real workspace, and the dashboard that shows it with a tiny LLM."""

import pytest

from tests.support import pages


@pytest.fixture
def workspace(tmp_path):
    return pages.make_workspace(tmp_path / "workspace")


@pytest.fixture
def llm(monkeypatch, workspace):
    return pages.use_workspace(monkeypatch, workspace.folder)
