"""The HTTP server of a local issuer."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from threading import Thread
from typing import Any, Final, TypeAlias, cast

__all__ = ("HOST", "Answer", "DocumentServer")

HOST: Final = "127.0.0.1"
"""The loopback interface. Anyone who reaches the server can read what it serves, and it serves nobody else's."""
Answer: TypeAlias = Callable[[str], tuple[int, dict[str, Any]]]
"""Returns the status and the document for a path."""

# Stopping the server takes at most this many seconds.
_POLL_INTERVAL: Final = 0.02


class DocumentServer(ThreadingTCPServer):
    """A server of JSON documents that keeps its port all the time, and refuses connections while it is stopped."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer: Callable[[], Answer | None], port: int) -> None:
        """Bind the port.

        Args:
            answer: A weak reference to what answers, which closes the server before it is gone.
            port: The port. Any free one if it is 0.
        """
        self._answer = answer
        self._connections: set[socket.socket] = set()
        super().__init__((HOST, port), _Handler)

    @property
    def url(self) -> str:
        """The URL, without a slash at the end."""
        return f"http://{HOST}:{self.server_address[1]}"

    def server_activate(self) -> None:
        """Do not listen before :meth:`start`."""

    def start(self) -> None:
        """Listen."""
        super().server_activate()
        self._thread = Thread(target=self.serve_forever, args=(_POLL_INTERVAL,), name="LocalIssuer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close all connections, and refuse new ones."""
        self.shutdown()
        self._thread.join()
        self.server_close()
        for connection in tuple(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.socket = socket.socket(self.address_family, self.socket_type)
        self.server_bind()

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        """Return the status and the document for a path.

        Args:
            path: The path.
        """
        return cast("Answer", self._answer())(path)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember a connection, and serve it in a thread of its own."""
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection, and close it."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print an error, unless the client has disconnected, which it can at any time."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer a request."""
        status, document = cast("DocumentServer", self.server).answer(self.path.partition("?")[0])
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        """Answer a request for the headers only."""
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep the output of tests clean."""
