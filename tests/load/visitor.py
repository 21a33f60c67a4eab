"""A visitor without a browser: speaks Streamlit's own protocol over its websocket, reads what the server sends, and draws nothing.

So twelve of them take next to nothing of the cores that they measure.
"""

import math
import re
import time
from dataclasses import dataclass, field
from urllib.parse import urlencode

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

LONGEST = 600.0
"""Seconds after which a visitor gives up."""
BIGGEST = 64 * 1024 * 1024
"""Bytes of one message."""
ENDED = re.compile(r'data-run="(\w+)"')
STRIPS = re.compile(r'data-arm="\w+".*?<div class="glp-strip">(.*?)</div>', re.DOTALL)


class GaveUp(RuntimeError):
    """The server did not show what a visitor waited for."""


@dataclass
class Run:
    """One press of Run, in seconds from the press."""

    first: float = float("nan")
    """Until the first token of any column was there."""
    done: float = float("nan")
    """Until the last one was, with the numbers under the texts."""
    shown: list[float] = field(default_factory=list)
    """When the board came, each time."""


class Visitor:
    """One session of one page.

    Args:
        address: of the server.
        page: its name in the address.
        values: what the address says after the question mark.
    """

    def __init__(self, address: str, page: str = "", **values: object) -> None:
        self._socket = connect(
            address.replace("http", "ws", 1) + "/_stcore/stream", subprotocols=["streamlit"], max_size=BIGGEST, open_timeout=60
        )
        self._query, self._page, self._hash = urlencode(values), page, ""
        self._known: dict[str, ForwardMsg] = {}
        self._widgets: set[str] = set()
        self._until = time.monotonic() + LONGEST

    def __enter__(self) -> "Visitor":
        return self

    def __exit__(self, *_error: object) -> None:
        self._socket.close()

    def open(self) -> float:
        """Draw the page; return the seconds that it took."""
        start = time.monotonic()
        self._send()
        while self._read().WhichOneof("type") != "script_finished":
            pass
        return time.monotonic() - start

    def press_run(self) -> Run:
        """Press Run on the Steering page; return when its tokens came."""
        button = next((name for name in self._widgets if name.endswith("steering_start")), None)
        if button is None:
            raise GaveUp("there is no Run button on the page")
        start, run = time.monotonic(), Run()
        self._send(button)
        while True:
            board = self._read().delta.new_element.html.body
            if "glp-board" not in board:
                continue
            now = time.monotonic() - start
            run.shown.append(now)
            if math.isnan(run.first) and any("<span" in strip for strip in STRIPS.findall(board)):
                run.first = now
            ended = ENDED.search(board)
            if ended and ended[1] != "done":
                raise GaveUp(f"the run is {ended[1]}")
            if ended:
                run.done = now
                return run

    def _send(self, pressed: str = "") -> None:
        message = BackMsg()
        message.rerun_script.query_string = self._query
        message.rerun_script.page_script_hash = self._hash
        message.rerun_script.page_name = "" if self._hash else self._page
        if pressed:
            message.rerun_script.widget_states.widgets.add(id=pressed, trigger_value=True)
        self._socket.send(message.SerializeToString())

    def _read(self) -> ForwardMsg:
        """Return the next message, after noting what later ones refer to."""
        message = ForwardMsg()
        message.ParseFromString(self._socket.recv(timeout=max(0.0, self._until - time.monotonic())))
        if message.WhichOneof("type") == "ref_hash":
            message = self._known[message.ref_hash]
        elif message.hash:
            self._known[message.hash] = message
        kind = message.WhichOneof("type")
        if kind == "navigation":
            self._hash = message.navigation.page_script_hash
        elif kind == "page_info_changed":
            self._query = message.page_info_changed.query_string
        elif kind == "delta" and message.delta.new_element.button.id:
            self._widgets.add(message.delta.new_element.button.id)
        elif kind == "delta" and message.delta.new_element.WhichOneof("type") == "exception":
            raise GaveUp(message.delta.new_element.exception.message)
        return message
