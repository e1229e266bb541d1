"""The recording service: a web service whose every byte, in and out, is in the hands of the test.

One thread for each connection runs the test's script; what came is kept for ever.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterable

from tests.peers.pipe import PATIENCE_S, Ended, Listener, Pipe
from tests.system.wire import Broken, Malformed, Request, Stream

Script = Callable[["Connection"], None]
Handler = Callable[[Request], bytes]


def answer(
    body: bytes = b"", *, status: int = 200, reason: str = "OK", headers: Iterable[tuple[str, str]] = ()
) -> bytes:
    """A response with Content-Length."""
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers)]
    if status not in (204, 304):
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; empty for the last."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Connection(Stream):
    """One connection to the recording service.

    Attributes:
        requests: those that were read whole with `read_request`.
        gone: set once the other side has ended the connection and the script has noticed.
        error: what went wrong in the script, other than the end of the connection.
    """

    def __init__(self, pipe: Pipe, service: Service) -> None:
        super().__init__(pipe)
        self.service = service
        self.requests: list[Request] = []
        self.gone = threading.Event()
        self.error: BaseException | None = None

    def read_request(self, timeout: float = 3600.0) -> Request:
        """The next request, whole; waits for it as long as the connection lasts."""
        request = super().read_request(timeout)
        self.requests.append(request)
        self.service.note(request)
        return request

    def linger(self) -> None:
        """Go on recording until the other side ends the connection; then `gone` is set."""
        self.wait_gone(3600)
        self.gone.set()


class Service:
    """Listens on a port of 127.0.0.1 and runs `script` for each connection.

    Args:
        script: what to do with a connection; the default answers each request with `handler`.
        tls: a server context for an https service.
    """

    def __init__(self, script: Script | None = None, *, tls: ssl.SSLContext | None = None, endpoint: str = "") -> None:
        self._initial = script or self.serve
        self._changed = threading.Condition()
        self.endpoint = endpoint
        self.script = self._initial
        self.handler: Handler = self.hello
        self.connections: list[Connection] = []
        self.requests: list[Request] = []
        self._listener = Listener(self._run, tls=tls)
        self.port = self._listener.port
        self.address = f"127.0.0.1:{self.port}"

    @staticmethod
    def hello(request: Request) -> bytes:
        """The default answer."""
        return answer(b"hello from the service\n", headers=[("Content-Type", "text/plain")])

    def serve(self, connection: Connection) -> None:
        """The default script: keep-alive, every request answered by `handler`."""
        while True:
            request = connection.read_request()
            connection.send(self.handler(request))

    def _run(self, pipe: Pipe) -> None:
        connection = Connection(pipe, self)
        with self._changed:
            self.connections.append(connection)
            script = self.script
            self._changed.notify_all()
        try:
            script(connection)
        except (Ended, Broken):
            connection.gone.set()
        except BaseException as error:
            connection.error = error
            if not isinstance(error, (Malformed, TimeoutError, AssertionError)):
                raise
        finally:
            with self._changed:
                self._changed.notify_all()

    def note(self, request: Request) -> None:
        """A connection has read a whole request."""
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()

    def wait_request(self, number: int = 0, timeout: float = PATIENCE_S) -> Request:
        """The `number`-th request since the last reset, when it has come."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.requests) > number, timeout):
                raise TimeoutError(f"only {len(self.requests)} requests reached the service: {self.errors()}")
            return self.requests[number]

    def wait_connection(self, number: int = 0, timeout: float = PATIENCE_S) -> Connection:
        """The `number`-th connection since the last reset, when it has come."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.connections) > number, timeout):
                raise TimeoutError(f"only {len(self.connections)} connections reached the service")
            return self.connections[number]

    @property
    def received(self) -> bytes:
        """Every byte that came since the last reset, connection after connection."""
        with self._changed:
            return b"".join(bytes(connection.received) for connection in self.connections)

    def errors(self) -> list[BaseException]:
        """What went wrong in the scripts."""
        with self._changed:
            return [connection.error for connection in self.connections if connection.error is not None]

    def reset(self) -> None:
        """Forget all, drop open connections, and serve as at the start."""
        self._listener.drop_all()
        with self._changed:
            self.script, self.handler = self._initial, self.hello
            self.connections, self.requests = [], []

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()
