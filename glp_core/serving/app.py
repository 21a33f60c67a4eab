"""The web server's side: OpenAI's addresses, whole answers and streams, errors in OpenAI's shape; only for names that it was told.

Knows requests and the queue; what is written is decided in `writing`.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import suppress
from typing import Literal, cast
from uuid import uuid4

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.jobs.job import Job
from glp_core.jobs.runner import JobRunner
from glp_core.prior.projection import KINDS
from glp_core.serving.answers import Answer
from glp_core.serving.asked import BadParameter, error, read
from glp_core.serving.writing import Begun, Host, Piece

LARGEST_BODY = 1_000_000
"""Bytes."""
SECONDS_BETWEEN_LOOKS = 0.5
"""After which a client that waits for a whole answer is asked for again."""
NOBODY = "This server was not told that name. Whoever runs it can allow it: --allow-host NAME"


class Doorkeeper:
    """Refuses names that the server was not told, so that no page of the web can call it through a name of its own."""

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _host_name(Request(scope)) not in self._names:
            await JSONResponse(error(NOBODY, code="host_not_allowed"), 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _host_name(request: Request) -> str:
    host = request.headers.get("host", "")
    return host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0].lower()


class Api:
    """What is answered at each address, for one workspace's models."""

    def __init__(self, host: Host, runner: JobRunner) -> None:
        self.host, self._runner = host, runner
        self._fingerprint = f"glp_{host.workspace.glp_digest()}"

    async def models(self, _request: Request) -> Response:
        """List the one model."""
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        """Show the model of that name."""
        self._check_model(request.path_params["name"])
        return JSONResponse(self._model())

    async def chat(self, request: Request) -> Response:
        """Answer a conversation."""
        return await self._answer(request, "chat")

    async def completions(self, request: Request) -> Response:
        """Go on with texts."""
        return await self._answer(request, "text")

    def _model(self) -> Json:
        return {
            "id": self.host.name,
            "object": "model",
            "created": 0,
            "owned_by": self.host.workspace.name,
            "directions": self.host.workspace.direction_names(),
            "projections": list(KINDS),
        }

    def _check_model(self, name: str) -> None:
        if name != self.host.name:
            raise BadParameter(f"There is no model {name!r} here, only {self.host.name!r}.", "model", code="model_not_found")

    async def _answer(self, request: Request, form: Literal["chat", "text"]) -> Response:
        asked = read(await _body(request), form)
        self._check_model(asked.model)
        answer, following = Answer(asked, self.host.name, self._fingerprint), _Following()
        try:
            job = self._runner.submit(
                uuid4().hex, self.host.work(asked), title=form, grace=None, rows=asked.rows, news=following.news
            )
        except GlpError as full:
            return JSONResponse(error(str(full), kind="rate_limit_error", code="rate_limit_exceeded"), 429)
        events = following.events(job, request)
        begun = cast("Begun", await anext(events))
        if asked.stream:
            return StreamingResponse(_stream(answer, begun, events, job), media_type="text/event-stream")
        answer.begin(begun)
        async for pieces in events:
            answer.push(cast("list[Piece]", pieces))
        return JSONResponse(answer.whole())


class _Following:
    """A job that is followed without a thread of one's own: its worker thread wakes the server's loop."""

    def __init__(self) -> None:
        self._loop, self._news = asyncio.get_running_loop(), asyncio.Event()

    def news(self) -> None:
        """Wake whoever follows; called in the worker thread."""
        with suppress(RuntimeError):  # the server has ended
            self._loop.call_soon_threadsafe(self._news.set)

    async def events(self, job: Job, request: Request) -> AsyncIterator[object]:
        """Yield what a job yields; stop it when the client has gone, raise what it raised."""
        taken = 0
        try:
            while True:
                self._news.clear()
                over = not job.live  # asked first: what a job adds before it ends is taken below
                while taken < len(job.events):
                    yield job.events[taken]
                    taken += 1
                if over:
                    break
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), SECONDS_BETWEEN_LOOKS)
                if await request.is_disconnected():
                    raise ClientDisconnect
            job.result()
        finally:
            job.stop()


async def _stream(answer: Answer, begun: Begun, events: AsyncIterator[object], job: Job) -> AsyncIterator[str]:
    """Yield server-sent events: parts of the answer as they come, an error when it breaks, and the end."""
    try:
        for part in answer.begin(begun):
            yield _event(part)
        async for pieces in events:
            for part in answer.push(cast("list[Piece]", pieces)):
                yield _event(part)
        for part in answer.end():
            yield _event(part)
        yield "data: [DONE]\n\n"
    except ClientDisconnect:
        return
    except Exception as problem:
        body, _ = _told(problem)
        yield _event(body)
        if not isinstance(problem, GlpError):
            raise
    finally:
        job.stop()


def _event(part: Json) -> str:
    return f"data: {json.dumps(part)}\n\n"


async def _body(request: Request) -> object:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # a page of another site can send anything else without being asked
        raise HTTPException(415, f"The body is {kind or 'of no kind'}, wanted application/json.")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_BODY:
            raise HTTPException(413, f"The body is larger than {LARGEST_BODY:,} bytes.")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as problem:
        raise BadParameter(f"The body is no JSON: {problem}.") from problem


def _told(problem: Exception) -> tuple[Json, int]:
    """Return an error in OpenAI's shape, and its status."""
    if isinstance(problem, BadParameter):
        status = 404 if problem.code in ("model_not_found", "direction_not_found") else 400
        return error(str(problem), parameter=problem.parameter, code=problem.code), status
    if isinstance(problem, GlpError):
        return error(str(problem)), 400
    if isinstance(problem, HTTPException):
        return error(str(problem.detail)), problem.status_code
    return error("The server has made a mistake; its log says more.", kind="server_error"), 500


async def _problem(_request: Request, problem: Exception) -> Response:
    body, status = _told(problem)
    return JSONResponse(body, status)


async def _gone(_request: Request, _problem: Exception) -> Response:
    return Response(status_code=499)


def make_app(host: Host, runner: JobRunner, names: Sequence[str]) -> Starlette:
    """Return the server's application, which answers to these names only."""
    api = Api(host, runner)
    routes = [
        Route("/v1/models", api.models),
        Route("/v1/models/{name:path}", api.model),
        Route("/v1/chat/completions", api.chat, methods=["POST"]),
        Route("/v1/completions", api.completions, methods=["POST"]),
    ]
    handlers = {GlpError: _problem, HTTPException: _problem, ClientDisconnect: _gone, Exception: _problem}
    return Starlette(routes=routes, middleware=[Middleware(Doorkeeper, names=frozenset(names))], exception_handlers=handlers)
