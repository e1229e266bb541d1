"""The demo's web service: says what it got. It stands for any program that listens on a port of its own machine.

    demo/service.py PORT NAME

It is plain Python and knows nothing of Pico. `/` and every other path are answered with a few words about the request,
`/clock` with a line each second.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType

HOST = "127.0.0.1"
TICKS = 10
# Of a browser's many only those that tell something here.
_SHOWN = frozenset(
    (
        "host",
        "user-agent",
        "content-type",
        "content-length",
        "forwarded",
        "x-request-id",
    )
)
_LARGEST_LINE = 1024


def greeting(name: str) -> str:
    """The first line of each answer."""
    return f"Hello from {name}."


class Answer(BaseHTTPRequestHandler):
    """One client's connection, which is the agent's."""

    server: Service
    protocol_version = "HTTP/1.1"
    server_version = "demo-service"
    timeout = 60
    wbufsize = -1  # an answer goes out whole, not in two packets that wait for each other

    def answer(self) -> None:
        """Answer any method and path."""
        body_bytes = self._read_body()
        if self.path.partition("?")[0] == "/clock":
            self._tell_time()
            return
        here = f"{HOST}:{self.connection.getsockname()[1]}"
        lines = [greeting(self.server.name), "", f"  {self.command} {self.path}"]
        lines += [f"  {name}: {value}" for name, value in self.headers.items() if name.lower() in _SHOWN]
        if body_bytes:
            lines.append(f"  and a body of {body_bytes} bytes")
        lines += [
            "",
            f"I listen on {here}, for this machine only, and opened no port to any node.",
            "The agent beside me got this request over the connection that it made to a node.",
        ]
        text = ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_DELETE = do_GET = do_HEAD = do_OPTIONS = do_PATCH = do_POST = do_PUT = answer

    def log_message(self, format: str, *args: object) -> None:
        """One line on stdout for each request."""
        print(format % args, flush=True)

    def _tell_time(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if self.command == "HEAD":
            return
        try:
            for tick in range(TICKS):
                if tick:
                    time.sleep(1)
                self._write_chunk(time.strftime("%H:%M:%S\n").encode())
                self.wfile.flush()
            self._write_chunk(b"")
        except OSError:
            self.close_connection = True  # the client left, and the agent told us by closing

    def _write_chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _read_body(self) -> int:
        """Read the body and forget it; its length."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self._skip(int(self.headers.get("Content-Length") or 0))
        total = 0
        while size := int(self.rfile.readline(_LARGEST_LINE).partition(b";")[0], 16):
            total += self._skip(size)
            self.rfile.readline(_LARGEST_LINE)
        while self.rfile.readline(_LARGEST_LINE).strip():
            pass
        return total

    def _skip(self, size: int) -> int:
        left = size
        while left and (data := self.rfile.read(min(left, 65536))):
            left -= len(data)
        return size - left


class Service(ThreadingHTTPServer):
    """Serves each connection in a thread of its own.

    Args:
        port: to listen on.
        name: that it goes by in its answers.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, name: str) -> None:
        super().__init__((HOST, port), Answer)
        self.name = name


def main() -> int:
    """Serve until SIGTERM; the exit status."""
    try:
        service = Service(int(sys.argv[1]), sys.argv[2])
    except OSError as error:
        print(f"cannot listen on {HOST}:{sys.argv[1]}: {error.strerror}", flush=True)
        return 1

    def end(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=service.shutdown).start()  # it waits for the loop that runs in this very thread

    signal.signal(signal.SIGTERM, end)
    print(f"listening on {HOST}:{service.server_address[1]}", flush=True)
    with service:
        service.serve_forever(poll_interval=0.1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
