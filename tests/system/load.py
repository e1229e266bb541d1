"""Load with keep-alive that counts every failed request: clients in Python, and wrk."""

from __future__ import annotations

import contextlib
import re
import ssl
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from tests.peers.pipe import PATIENCE_S, Ended, Listener, Pipe, dial
from tests.system import wire


class Load:
    """Clients that ask one after the other, each on a connection that it keeps as long as it may.

    A request that was sent and got no whole 200 is a failure, whatever the reason. After `Connection: close`, and
    when no connection can be made, a client goes on to the next address, as one behind a load balancer would.

    Args:
        addresses: of proxy ports, tried in this order.
        endpoint: what is asked for.
        clients: how many at once.
    """

    def __init__(
        self,
        addresses: Sequence[tuple[str, int]],
        endpoint: str,
        *,
        clients: int = 8,
        tls: ssl.SSLContext | None = None,
        path: str = "/",
    ) -> None:
        self.failures: list[str] = []
        self.bodies: dict[bytes, int] = {}
        self.done = 0
        self._addresses = addresses
        self._tls = tls
        self._request = f"GET {path} HTTP/1.1\r\nHost: load.example\r\nx-pico-endpoint: {endpoint}\r\n\r\n".encode()
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._client, daemon=True) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _connect(self) -> wire.Stream | None:
        for address in self._addresses:
            try:
                return wire.connect(address, tls=self._tls)
            except OSError:
                continue
        return None

    def _client(self) -> None:
        while not self._stop.is_set():
            client = self._connect()
            if client is None:
                self._count("no address takes a connection", b"")
                return
            asked = 0
            try:
                while not self._stop.is_set():
                    asked += 1
                    client.send(self._request)
                    response = client.read_response()
                    problem = "" if response.status == 200 else f"{response.status} {response.body!r}"
                    self._count(problem, response.body)
                    if response.get("connection") == b"close":
                        break
            except (Ended, wire.Broken, wire.Malformed, TimeoutError) as error:
                where = f"request {asked} on a connection to port {client.pipe.remote[1]}"
                self._count(f"{type(error).__name__}: {error} ({where})", b"")
            finally:
                client.close()

    def _count(self, problem: str, body: bytes) -> None:
        with self._changed:
            self.done += 1
            if problem:
                self.failures.append(problem)
            else:
                self.bodies[body] = self.bodies.get(body, 0) + 1
            self._changed.notify_all()

    def wait_more(self, count: int, timeout: float = PATIENCE_S) -> None:
        """Wait until so many more requests have ended."""
        with self._changed:
            goal = self.done + count
            if not self._changed.wait_for(lambda: self.done >= goal, timeout):
                raise TimeoutError(f"only {self.done - goal + count} of {count} requests ended: {self.failures[:5]}")

    def stop(self) -> None:
        """End all clients after their current request."""
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def check(self) -> None:
        """Stop, and fail unless every request succeeded."""
        self.stop()
        assert self.failures == [], f"{len(self.failures)} of {self.done} failed: {self.failures[:5]}"


@dataclass(frozen=True)
class WrkResult:
    """What wrk counted.

    Attributes:
        failed: answers other than 2xx and 3xx, and socket errors of every kind.
    """

    requests: int
    failed: int
    per_second: float
    output: str


class Wrk:
    """A run of wrk in the background."""

    def __init__(self, url: str, endpoint: str, *, seconds: int, connections: int = 16, threads: int = 1) -> None:
        self._popen = subprocess.Popen(
            [
                "wrk",
                f"-t{threads}",
                f"-c{connections}",
                f"-d{seconds}s",
                "--timeout",
                "10s",
                "-H",
                f"x-pico-endpoint: {endpoint}",
                url,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._seconds = seconds

    def result(self) -> WrkResult:
        """Wait for the end of the run."""
        output = self._popen.communicate(timeout=self._seconds + 60)[0].decode()
        assert self._popen.returncode == 0, output
        requests = re.search(r"(\d+) requests in", output)
        rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
        assert requests is not None and rate is not None, output
        bad = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
        sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
        failed = (int(bad[1]) if bad else 0) + (sum(int(item) for item in sockets.groups()) if sockets else 0)
        return WrkResult(int(requests[1]), failed, float(rate[1]), output)

    def close(self) -> None:
        """End it if it still runs."""
        if self._popen.poll() is None:
            self._popen.kill()
            self._popen.communicate()


class Balancer:
    """A TCP load balancer: each connection goes to the first address that takes it."""

    def __init__(self, addresses: list[tuple[str, int]]) -> None:
        self._addresses = addresses
        self._listener = Listener(self._relay)
        self.port = self._listener.port

    def _relay(self, client: Pipe) -> None:
        for address in self._addresses:
            try:
                server = dial(address)
                break
            except OSError:
                continue
        else:
            return
        back = threading.Thread(target=self._copy, args=(server, client), daemon=True)
        back.start()
        self._copy(client, server)
        back.join(PATIENCE_S)
        server.close()

    @staticmethod
    def _copy(source: Pipe, target: Pipe) -> None:
        with contextlib.suppress(Ended, TimeoutError):
            while True:
                target.send(source.recv(3600))
        with contextlib.suppress(Ended):
            target.half_close()

    def close(self) -> None:
        """The end."""
        self._listener.close()
