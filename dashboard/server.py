"""The web server: the app, its models loading from the first moment, `/api/ready` for probes, and who and what is let in."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # Streamlit puts this file's folder on the path, not the repository
    sys.path.insert(0, str(ROOT))

from glp_core.memory import keep_few_kernels  # noqa: E402
from glp_core.threads import give_way  # noqa: E402

give_way()
keep_few_kernels()

import streamlit as st  # noqa: E402
from starlette.datastructures import Headers  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402
from starlette.middleware.base import BaseHTTPMiddleware  # noqa: E402
from starlette.requests import Request  # noqa: E402
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response  # noqa: E402
from starlette.routing import Route  # noqa: E402
from starlette.types import Receive, Scope, Send  # noqa: E402
from starlette.websockets import WebSocketClose  # noqa: E402
from streamlit.url_util import make_url_path  # noqa: E402
from streamlit.web.server.starlette.starlette_websocket import is_host_allowed  # noqa: E402

from dashboard.widgets.url import WORKSPACE  # noqa: E402

POLICY = {
    "default-src": "'self'",
    # Streamlit's page begins with a script of its own; components are modules from blobs; WebGL charts compile what they draw with
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval' blob:",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'self'",
}
"""What a page may load: nothing from another server."""
HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {sources}" for name, sources in POLICY.items()),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
}
CLOSED = "/_stcore/metrics"
"""Counts sessions and names caches: nobody's business."""


class Doorkeeper(BaseHTTPMiddleware):
    """Refuses names that the server was not told (Streamlit does so for websockets only) and closed paths; adds HEADERS to every answer.

    A page that is opened from another one, in a new tab too, is on the same workspace.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse websockets that a stranger's page opens: Streamlit would first ask the internet for this machine's name, and all wait."""
        origin = Headers(scope=scope).get("origin") if scope["type"] == "websocket" else None
        if origin is not None and not is_host_allowed(_host(origin)):
            await WebSocketClose()(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    async def dispatch(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        if not is_host_allowed(request.headers.get("host")):
            words = (
                "This server was not told that name. Whoever runs it can allow it: make dashboard ARGS='--allow-host NAME'\n"
            )
            return PlainTextResponse(words, status_code=403, headers=HEADERS)
        if request.url.path.endswith(CLOSED):
            return PlainTextResponse("Closed.\n", status_code=404, headers=HEADERS)
        if missing := _lost_workspace(request):
            response: Response = RedirectResponse(f"?{urlencode([*request.query_params.multi_items(), (WORKSPACE, missing)])}")
        else:
            response = await call_next(request)
        response.headers.update(HEADERS)
        return response


def _lost_workspace(request: Request) -> str:
    """Return the workspace that a page of this server was on and its link does not name: those of the menu at the top name none."""
    came_from, _, query = request.headers.get("referer", "").partition("?")
    is_page, host = request.headers.get("sec-fetch-dest") == "document", request.headers.get("host")
    if not is_page or _host(came_from) != host or WORKSPACE in request.query_params:
        return ""
    return dict(parse_qsl(query)).get(WORKSPACE, "")


def _host(address: str) -> str:
    return address.partition("://")[2].partition("/")[0]  # not urlsplit, which raises what a stranger makes up


@asynccontextmanager
async def lifespan(_app: st.App) -> AsyncIterator[None]:
    """Begin to load the models, for which nobody waits; at the end, stop the builds that pages have started."""
    import transformers  # noqa: F401 - before there are threads: two that import it first get a package that lacks its names

    from dashboard.service import machine, making, resources  # not before Streamlit's runtime is there

    machine.watch()
    resources.warm_up()
    yield
    making.makings().end()


async def ready(_request: Request) -> JSONResponse:
    """Answer 200 when the models are loaded, 503 before, and when they cannot be; with how busy the device is."""
    from dashboard.service import resources

    job = resources.warm_up()
    running, waiting = resources.runner().load()
    words = {"models": job.state, "running": running, "waiting": waiting}
    return JSONResponse(words, status_code=200 if job.state == "done" else 503)


async def overview(request: Request) -> Response:
    """Send the Overview's name on to its address: Streamlit serves the start page at / only, and calls /overview not found."""
    return RedirectResponse(f"./?{request.url.query}" if request.url.query else "./")


def below_base_path(path: str) -> str:
    """Return a path of this server's own: Streamlit puts the base path before its own routes only."""
    return make_url_path(st.get_option("server.baseUrlPath"), path)


app = st.App(
    ROOT / "dashboard" / "app.py",
    lifespan=lifespan,
    routes=[Route(below_base_path("api/ready"), ready), Route(below_base_path("overview"), overview)],
    middleware=[Middleware(Doorkeeper)],
)
