"""A cable between a browser and a server that can be pulled and put back."""

import socket
import threading
from contextlib import suppress


class Cable:
    """Passes bytes on from a port of its own to a server's, while it is in."""

    def __init__(self, server_port):
        self._server_port, self._ends = server_port, []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.put_in()

    def put_in(self):
        """Take connections."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def pull(self):
        """Drop all connections and take no more."""
        for end in (self._listener, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._ends.clear()

    def _accept(self, listener):
        with suppress(OSError):
            while True:
                browser, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                self._ends += [browser, server]
                for source, target in ((browser, server), (server, browser)):
                    threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    @staticmethod
    def _pass_on(source, target):
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
