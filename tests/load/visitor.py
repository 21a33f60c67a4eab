"""A visitor without a browser: speaks Streamlit's own protocol over its websocket, reads what the server sends, and draws nothing.

So twelve of them take next to nothing of the cores that they measure.
"""

import math
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from urllib.parse import urlencode

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

LONGEST = 600.0
"""Seconds after which a visitor gives up."""
BIGGEST = 64 * 1024 * 1024
"""Bytes of one message."""
ENDED = re.compile(r'data-run="(\w+)"')


class GaveUp(RuntimeError):
    """The server did not show what a visitor waited for."""


@dataclass
class Run:
    """One press of Run, in seconds from the press."""

    first: float = float("nan")
    """Until the first token of any column was there."""
    done: float = float("nan")
    """Until the last one was, with the numbers under the texts."""
    grew: list[float] = field(default_factory=list)
    """When a board came that held more tokens than the one before, while the run went on."""
    tokens: int = 0
    """Of all columns, on the last board."""

    @property
    def longest_gap(self) -> float:
        """Seconds between two boards that brought tokens, at most."""
        return max((after - before for before, after in pairwise(self.grew)), default=float("nan"))


class Visitor:
    """One session of one page.

    Args:
        address: of the server.
        page: its name in the address.
        values: what the address says after the question mark.
    """

    def __init__(self, address: str, page: str = "", **values: object) -> None:
        # without a limit of messages: those that nobody reads any more would hold up the end of the connection for ten seconds
        self._socket = connect(
            address.replace("http", "ws", 1) + "/_stcore/stream",
            subprotocols=["streamlit"],
            max_size=BIGGEST,
            max_queue=None,
            open_timeout=60,
        )
        self._query, self._page, self._hash = urlencode(values), page, ""
        self._known: dict[str, ForwardMsg] = {}
        self._widgets: set[str] = set()
        self._until = time.monotonic() + LONGEST

    def __enter__(self) -> "Visitor":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the tab."""
        self._socket.close()

    def open(self) -> float:
        """Draw the page; return the seconds that it took."""
        start = time.monotonic()
        self._send()
        while self._read().WhichOneof("type") != "script_finished":
            pass
        return time.monotonic() - start

    def go_to(self, page: str, **values: object) -> None:
        """Ask for another page, without a look at it."""
        self._query, self._page, self._hash = urlencode(values), page, ""
        self._send()

    def press(self, key: str) -> float:
        """Press the button with this key; return the seconds until the page is drawn again."""
        start = time.monotonic()
        self._send(self._widget(key))
        while self._read().WhichOneof("type") != "script_finished":
            pass
        return time.monotonic() - start

    def press_run(self, begun: Callable[[], object] = lambda: None, left: Callable[[], bool] = lambda: False) -> Run:
        """Press Run on the Steering page; return when its tokens came.

        Args:
            begun: called when the first token is there.
            left: says whether to look no longer; the run is then returned as far as it is.
        """
        self._send(self._widget("steering_start"))
        return self._written(begun, left)

    def move(self, key: str, value: float) -> Run:
        """Move the slider with this key on a live Steering page; return when the tokens of its run came."""
        self._send(self._widget(key), value)
        return self._written()

    def settle(self, seconds: float) -> None:
        """Wait until the server has sent nothing for so long."""
        with suppress(TimeoutError):
            while True:
                self._read(seconds)

    def _written(self, begun: Callable[[], object] = lambda: None, left: Callable[[], bool] = lambda: False) -> Run:
        """Return the run whose boards come from now on, when its last one did."""
        start, run = time.monotonic(), Run()
        while math.isnan(run.done) and not left():
            board = self._read().delta.new_element.html.body
            if "glp-board" not in board:
                continue
            now, tokens, ended = time.monotonic() - start, board.count("<span", board.index("glp-board")), ENDED.search(board)
            if tokens > run.tokens and not ended:  # the last board waits for the numbers under the texts too
                run.grew.append(now)
            run.tokens = tokens
            if tokens and math.isnan(run.first):
                run.first = now
                begun()
            if ended and ended[1] != "done":
                raise GaveUp(f"the run is {ended[1]}")
            if ended:
                run.done = now
        return run

    def _widget(self, key: str) -> str:
        widget = next((name for name in self._widgets if name.endswith(key)), None)
        if widget is None:
            raise GaveUp(f"there is no button or slider {key} on the page")
        return widget

    def _send(self, widget: str = "", moved_to: float | None = None) -> None:
        message = BackMsg()
        message.rerun_script.query_string = self._query
        message.rerun_script.page_script_hash = self._hash
        message.rerun_script.page_name = "" if self._hash else self._page
        if widget and moved_to is None:
            message.rerun_script.widget_states.widgets.add(id=widget, trigger_value=True)
        elif widget:
            message.rerun_script.widget_states.widgets.add(id=widget).double_array_value.data.append(moved_to)
        self._socket.send(message.SerializeToString())

    def _read(self, within: float = LONGEST) -> ForwardMsg:
        """Return the next message, after noting what later ones refer to."""
        message = ForwardMsg()
        message.ParseFromString(self._socket.recv(timeout=min(within, max(0.0, self._until - time.monotonic()))))
        if message.WhichOneof("type") == "ref_hash":
            message = self._known[message.ref_hash]
        elif message.hash:
            self._known[message.hash] = message
        kind = message.WhichOneof("type")
        if kind == "navigation":
            self._hash = message.navigation.page_script_hash
        elif kind == "page_info_changed":
            self._query = message.page_info_changed.query_string
        elif kind == "delta" and message.delta.new_element.WhichOneof("type") in ("button", "slider"):
            element = message.delta.new_element
            self._widgets.add(element.button.id or element.slider.id)
        elif kind == "delta" and message.delta.new_element.WhichOneof("type") == "exception":
            raise GaveUp(message.delta.new_element.exception.message)
        return message
