"""Who the server lets in where: a page that is opened from another one stays on its workspace."""

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from dashboard.server import Doorkeeper

PAGE = {"sec-fetch-dest": "document"}
HERE = "http://localhost/glp"


@pytest.fixture
def client():
    """A server behind the doorkeeper that answers with the path and the query that it was asked for."""

    def told(request):
        return PlainTextResponse(f"{request.url.path}?{request.url.query}")

    return TestClient(Starlette(routes=[Route("/{path:path}", told)], middleware=[Middleware(Doorkeeper)]), HERE)


def test_a_page_that_is_opened_from_another_one_is_on_its_workspace(client):
    came = {"referer": f"{HERE}/steering?workspace=my+own&steering_seed=3"}
    assert client.get(f"{HERE}/lab?lab_view=Sweep", headers=PAGE | came).text == "/glp/lab?lab_view=Sweep&workspace=my+own"
    assert client.get(f"{HERE}/", headers=PAGE | came).text == "/glp/?workspace=my+own"


@pytest.mark.parametrize(
    "asked, headers",
    [
        ("lab?workspace=demo", PAGE | {"referer": f"{HERE}/steering?workspace=other"}),
        ("lab?x=1", PAGE | {"referer": f"{HERE}/steering"}),
        ("lab?x=1", PAGE | {"referer": "http://elsewhere.example/steering?workspace=other"}),
        ("lab?x=1", PAGE | {"referer": "http://[?workspace=other"}),
        ("lab?x=1", PAGE),
        ("static/lab.js?x=1", {"sec-fetch-dest": "script", "referer": f"{HERE}/steering?workspace=other"}),
    ],
)
def test_what_names_a_workspace_comes_from_elsewhere_or_is_no_page_is_left_as_it_is(client, asked, headers):
    assert client.get(f"{HERE}/{asked}", headers=headers).text == f"/glp/{asked}"
