"""How far does a reader of one request walk? Calls of our functions, and how often they go to another file.

    python benchmarks/walk.py            print the figures of one node and of two
    python benchmarks/walk.py --trace    print each call of one small request, too

One small GET passes along `memory_path`, after some that warm it up. Each call of a function of the package is a step;
a step into another file than the one before is a change of the file. What Python and libraries do between is not seen.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import attrs

ROOT = Path(__file__).resolve().parents[1]
sys.path[0:0] = [str(ROOT)] if __name__ == "__main__" else []

from benchmarks.counted import ANSWERS, REQUESTS, authenticated  # noqa: E402
from benchmarks.memory_path import MemoryPath  # noqa: E402
from pico_twisted.config import AuthConfig  # noqa: E402

_PACKAGE = str(ROOT / "pico_twisted")
_WARM_UP = 4


@attrs.frozen
class Walk:
    """The steps of one request, in their order.

    Attributes:
        steps: file, relative to the package, and function.
    """

    steps: Sequence[tuple[str, str]]

    @property
    def calls(self) -> int:
        """Calls of functions of the package."""
        return len(self.steps)

    @property
    def file_changes(self) -> int:
        """Calls into another file than the call before."""
        return sum(left[0] != right[0] for left, right in zip(self.steps, self.steps[1:], strict=False))


def walk(request: bytes = REQUESTS["small"], *, two_nodes: bool = False, auth: AuthConfig | None = None) -> Walk:
    """Follow one small GET to the service and back.

    Args:
        request: the GET.
        two_nodes: the client asks a node that does not hold the tunnel.
        auth: who may use the proxy ports.
    """
    steps: list[tuple[str, str]] = []
    path = MemoryPath(ANSWERS, two_nodes=two_nodes, scope=_everything, auth=auth)
    for _ in range(_WARM_UP):
        path.request(request)

    def called(frame: Any, event: str, argument: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(_PACKAGE):
            steps.append((code.co_filename[len(_PACKAGE) + 1 :], code.co_qualname))

    sys.setprofile(called)
    try:
        path.request(request)
    finally:
        sys.setprofile(None)
    return Walk(steps)


def _everything(name: str) -> AbstractContextManager[object]:
    return nullcontext()


def main() -> None:
    """Print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trace", action="store_true", help="print each step")
    if parser.parse_args().trace:
        for file, function in walk().steps:
            print(f"{file:<40}{function}")
    with authenticated() as (auth, request):
        walks = {"one node": walk(), "two nodes": walk(two_nodes=True), "one node, token": walk(request, auth=auth)}
    for name, found in walks.items():
        print(f"small GET, {name}: {found.calls} calls of ours, {found.file_changes} changes of the file")


if __name__ == "__main__":
    main()
