"""A second yardstick: a bare twisted.web server, which answers by itself and forwards nothing.

    python -m benchmarks.hello PORT

nginx spends its time in the kernel, and we in the interpreter: how fast each of the two is differs among machines. This
one spends it as we do.
"""

from __future__ import annotations

import sys

from twisted.internet.endpoints import serverFromString
from twisted.web.resource import Resource
from twisted.web.server import Site

from benchmarks.nginx import SMALL_BODY
from tools.stage.ports import HOST


class Hello(Resource):
    """Answers every path."""

    isLeaf = True

    def render_GET(self, request: object) -> bytes:
        """The answer."""
        return SMALL_BODY


class Quiet(Site):
    """Has no access log."""

    def log(self, request: object) -> None:
        """Do nothing."""


def main() -> None:
    """Serve until a signal comes."""
    from twisted.internet import reactor

    serverFromString(reactor, f"tcp:{sys.argv[1]}:interface={HOST}").listen(Quiet(Hello()))
    reactor.run()


if __name__ == "__main__":
    main()
