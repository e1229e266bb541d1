"""How much work is a request? Function calls, of Python and of C, on the data path of each daemon.

    python benchmarks/counted.py            print the figures beside the recorded ones
    python benchmarks/counted.py --record   make them the recorded ones

A call is not a microsecond. But a machine that is busy with something else counts the same calls, so a figure that grew
says that a change made the path longer, where a time says nothing. The test suite fails when one grows by more than a
tenth. Whoever makes the path longer with good reason records anew, and says in the commit what the calls are for.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path[0:0] = [str(Path(__file__).resolve().parents[1])] if __name__ == "__main__" else []

from benchmarks import credentials, memory_path  # noqa: E402
from benchmarks.memory_path import MemoryPath  # noqa: E402
from pico_twisted.config import AuthConfig  # noqa: E402

RECORD = Path(__file__).with_name("counted.json")
MOST_DEARER = 1.10
"""A figure may be so much of the recorded one."""
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

_LARGE_BYTES = 1024 * 1024
_CLIENT_FIELDS = b"Host: bench.example.com\r\nUser-Agent: counted/1.0\r\nAccept: */*\r\n"
_SERVICE_FIELDS = (
    b"Server: service/1.0\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: text/plain\r\n"
    b'Connection: keep-alive\r\nETag: "5f5e100-5f5e100"\r\nAccept-Ranges: bytes\r\n'
)


def _answer(size: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n" % (_SERVICE_FIELDS, size) + b"x" * size


ANSWERS = {b"/small": _answer(150), b"/download": _answer(_LARGE_BYTES), b"/upload": _answer(2)}
REQUESTS = {
    "small": b"GET /small HTTP/1.1\r\n%b\r\n" % _CLIENT_FIELDS,
    "small, by a field": b"GET /small HTTP/1.1\r\nHost: 192.0.2.1\r\nAccept: */*\r\nx-pico-endpoint: bench\r\n\r\n",
    "download 1 MiB": b"GET /download HTTP/1.1\r\n%b\r\n" % _CLIENT_FIELDS,
    "upload 1 MiB": b"POST /upload HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n" % (_CLIENT_FIELDS, _LARGE_BYTES)
    + b"x" * _LARGE_BYTES,
}
_FEW_TIMES = 4
_MANY_TIMES = 50
_WARM_UP = 4

# Who stands for the client, the service, the sockets and the reactor is not counted. Neither are comprehensions, which
# are calls in some versions of Python and in others are not.
_NOT_COUNTED = (memory_path.__file__, __file__, "/tests/doubles/", "/twisted/internet/task.py")
_COMPREHENSIONS = frozenset({"<listcomp>", "<dictcomp>", "<setcomp>"})

Figures = dict[str, dict[str, float]]
"""Calls a request: by load, by daemon."""


class _Scope:
    """Counts what is called in its block. A class of ours: what `contextlib` calls would be counted too."""

    def __init__(self, counter: CallCounter, name: str) -> None:
        self._counter = counter
        self._name = name
        self._entered = False

    def __enter__(self) -> None:
        self._entered = self._counter.enter(self._name)

    def __exit__(self, *details: object) -> None:
        if self._entered:
            self._counter.leave()


class CallCounter:
    """Counts the calls that are made while a daemon works.

    Attributes:
        calls: by the daemon's name.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.counting = False
        self._of: dict[Any, bool] = {}  # whether the calls of a code are counted
        self._inside = ""

    def scope(self, name: str) -> _Scope:
        """Count the calls made in here as calls of the daemon."""
        return _Scope(self, name)

    def enter(self, name: str) -> bool:
        """Begin to count for a daemon. Returns whether that is to be ended; not when another one is counted."""
        if not self.counting or self._inside or name == "service":
            return False
        self._inside = name
        sys.setprofile(self._called)
        return True

    def leave(self) -> None:
        """End it."""
        sys.setprofile(None)
        self._inside = ""

    def _called(self, frame: Any, event: str, argument: object) -> None:
        if event not in ("call", "c_call"):
            return
        code = frame.f_code
        counted = self._of.get(code)
        if counted is None:
            path = code.co_filename
            counted = code.co_name not in _COMPREHENSIONS and not any(part in path for part in _NOT_COUNTED)
            self._of[code] = counted
        if event == "c_call" and code.co_name in _COMPREHENSIONS:
            counted = True
        if counted:
            self.calls[self._inside] += 1


def count() -> Figures:
    """Send all loads through one node, the small one also through two, and with a token."""
    figures = {name: _count(request) for name, request in REQUESTS.items()}
    figures["small, two nodes"] = _count(REQUESTS["small"], two_nodes=True)
    with authenticated() as (auth, request):
        figures["small, token"] = _count(request, auth=auth)
    return figures


@contextmanager
def authenticated() -> Iterator[tuple[AuthConfig, bytes]]:
    """The small request with a token, and who may use a proxy port that knows it."""
    with tempfile.TemporaryDirectory(prefix="pico-bench-") as directory:
        shown = credentials.make("token", Path(directory))
        line, _, rest = REQUESTS["small"].partition(b"\r\n")
        yield AuthConfig(**shown.auth), b"\r\n".join((line, shown.field.encode(), rest))


def _count(request: bytes, *, two_nodes: bool = False, auth: AuthConfig | None = None) -> dict[str, float]:
    counter = CallCounter()
    path = MemoryPath(ANSWERS, two_nodes=two_nodes, scope=counter.scope, auth=auth)
    times = _MANY_TIMES if request.startswith(b"GET /small") else _FEW_TIMES
    for _ in range(_WARM_UP):
        path.request(request)
    path.finish()
    collects = gc.isenabled()
    gc.disable()  # what it finalises are calls too
    counter.counting = True
    try:
        for _ in range(times):
            path.request(request)
        path.finish()
    finally:
        counter.counting = False
        if collects:
            gc.enable()
    return {name: round(calls / times, 1) for name, calls in sorted(counter.calls.items())}


def recorded() -> Figures:
    """The recorded figures: those of this version of Python, or else of the newest that has some."""
    versions: dict[str, Figures] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    if VERSION in versions or not versions:
        return versions.get(VERSION, {})
    return versions[max(versions, key=lambda version: [int(part) for part in version.split(".")])]


def record(figures: Figures) -> None:
    """Make these the recorded figures of this version of Python."""
    versions = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    versions[VERSION] = figures
    RECORD.write_text(json.dumps(versions, indent=2, sort_keys=True) + "\n")


def dearer(figures: Mapping[str, Mapping[str, float]], before: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What got dearer by more than `MOST_DEARER`, or was never recorded, as lines for people."""
    lines = []
    for load, daemons in figures.items():
        for daemon, calls in daemons.items():
            was = before.get(load, {}).get(daemon)
            if was is None:
                lines.append(f"{load}, {daemon}: {calls:.1f} calls a request, and none are recorded")
            elif calls > was * MOST_DEARER:
                lines.append(
                    f"{load}, {daemon}: {calls:.1f} calls a request, {calls / was - 1:+.1%}; recorded: {was:.1f}"
                )
    return lines


def main() -> int:
    """Run; the exit status: 1 when a figure is too high."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--record", action="store_true", help="make the figures the recorded ones")
    arguments = parser.parse_args()
    before, figures = recorded(), count()
    print(f"calls a request, Python {VERSION}")
    print(f"{'load':<20}{'daemon':<10}{'counted':>10}{'recorded':>10}{'':>9}")
    for load, daemons in figures.items():
        for daemon, calls in daemons.items():
            was = before.get(load, {}).get(daemon)
            known = f"{was:>10.1f}{calls / was - 1:>+9.1%}" if was else f"{'none':>10}"
            print(f"{load:<20}{daemon:<10}{calls:>10.1f}{known}")
    if arguments.record:
        record(figures)
        return 0
    lines = dearer(figures, before)
    for line in lines:
        print(f"too dear: {line}", file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
