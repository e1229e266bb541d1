"""Asks for what is odd, and finds out whether it was served: the service says what it saw."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import zlib
from collections.abc import Iterator

from tests.odd_requests.requests import OddRequest
from tests.peers.pipe import Ended
from tests.system import wire

SERVED = "served"

PATIENCE_S = 10.0
"""How long a request may take before it counts as not served."""


def saw(method: bytes, body: bytes) -> bytes:
    """What the service says that it saw."""
    return b"%b %d %08x" % (method, len(body), zlib.crc32(body))


class _Echo(socketserver.StreamRequestHandler):
    """Reads requests as a tolerant service does, and says of each what it saw."""

    timeout = PATIENCE_S

    def handle(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while self._serve():
                pass

    def _serve(self) -> bool:
        line = self.rfile.readline()
        if not line:
            return False
        fields: dict[bytes, bytes] = {}
        while (field := self.rfile.readline()).strip(b"\r\n"):
            name, _, value = field.partition(b":")
            fields[name.strip().lower()] = value.strip().lower()
        if fields.get(b"expect") == b"100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if b"transfer-encoding" in fields:
            body = self._chunked()
        else:
            body = self.rfile.read(int(fields.get(b"content-length") or 0))
        method = line.split(b" ")[0]
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Saw: " + saw(method, body) + b"\r\n\r\n")
        return fields.get(b"connection") != b"close" and b"HTTP/1.0" not in line

    def _chunked(self) -> bytes:
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip(b"\r\n"):
            pass
        return b"".join(pieces)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


@contextlib.contextmanager
def echo() -> Iterator[int]:
    """The service, on a port of 127.0.0.1, which is given."""
    with _Server(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def ask(stream: wire.Stream, request: OddRequest) -> str:
    """Send a request on a connection of its own. Returns SERVED, or what came instead: a status or a word."""
    step = request.piece_bytes or len(request.data)
    try:
        with contextlib.suppress(Ended):
            for at in range(0, len(request.data), step):
                stream.send(request.data[at : at + step])
        response = stream.read_response(request.method.decode(), PATIENCE_S)
    except (Ended, wire.Broken):
        return "closed"
    except (TimeoutError, wire.Malformed) as error:
        return type(error).__name__
    finally:
        stream.close()
    if response.status != 200:
        return str(response.status)
    return SERVED if response.get("x-saw") == saw(request.method, request.body) else "changed"


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port
