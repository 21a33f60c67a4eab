"""A real server in a process of its own, on a free port of this machine."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

ROOT = Path(__file__).resolve().parents[2]


class Server(NamedTuple):
    """Where it answers, and its process."""

    address: str
    process: subprocess.Popen


def streamlit(script):
    """Return the words that run a script with Streamlit, as the launcher does but for the port."""
    return [
        "-m",
        "streamlit",
        "run",
        script,
        "--server.headless=true",
        "--server.address=127.0.0.1",
        "--server.fileWatcherType=none",
    ]


@contextmanager
def running(words, port_option, log, environment, *, patience, base_path=""):
    """Run Python with these words and the option of a free port while the block runs; give the server when it answers.

    Args:
        log: the file that its output goes to.
        patience: seconds until it must answer.
        base_path: that these words give it; its address ends with it.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"} | environment
    with log.open("w") as output:
        command = [sys.executable, *words, f"{port_option}={port}"]
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            server = Server(f"http://127.0.0.1:{port}{base_path}", process)
            wait_until(lambda: read(f"{server.address}/_stcore/health") == b"ok", server, log, patience)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def read(url):
    """Return what a GET answers, whatever its status; empty where nobody answers."""
    try:
        return urllib.request.urlopen(url, timeout=10).read()
    except urllib.error.HTTPError as answer:
        return answer.read()
    except OSError:
        return b""


def load(server):
    """Return what the server says of its models and its queue."""
    return json.loads(read(f"{server.address}/api/ready"))


def knock(address, *, host, origin):
    """Return the status that a server answers when a page of an origin opens its websocket, calling it by a name."""
    at = urlsplit(address)
    with socket.create_connection((at.hostname, at.port), timeout=20) as line:
        try:
            with connect(f"ws://{host}{at.path}/_stcore/stream", sock=line, origin=origin) as accepted:
                return accepted.response.status_code
        except InvalidStatus as refused:
            return refused.response.status_code


def wait_until(true, server, log, patience):
    """Ask ten times a second, until it is so; fail with the server's last words when it ended or the time is over."""
    deadline = time.monotonic() + patience
    while not true():
        if server.process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"the server is not what was waited for: {log.read_text()[-2000:]}")
        time.sleep(0.1)
