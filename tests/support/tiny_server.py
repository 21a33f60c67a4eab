"""`streamlit run tests/support/tiny_server.py`: the dashboard as it is, but that what its buttons make is tiny."""

import sys
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # Streamlit puts this file's folder on the path, not the repository
    sys.path.insert(0, str(ROOT))

import streamlit as st  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402

from dashboard.server import Doorkeeper  # noqa: E402


@asynccontextmanager
async def lifespan(served):
    from dashboard import server
    from dashboard.service import making

    making.BUILD = ("-m", "tests.support.tiny_build")
    async with server.lifespan(served):
        yield


app = st.App(ROOT / "dashboard" / "app.py", lifespan=lifespan, middleware=[Middleware(Doorkeeper)])
