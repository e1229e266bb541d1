"""A balancer before nodes."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Sequence

from tests.peers.pipe import PATIENCE_S, Ended, Listener, Pipe, dial


def copy(source: Pipe, target: Pipe) -> None:
    """Pass on what comes, and its end."""
    with contextlib.suppress(Ended, TimeoutError):
        while True:
            target.send(source.recv(3600))
    with contextlib.suppress(Ended):
        target.half_close()


class Balancer:
    """A TCP load balancer.

    Args:
        addresses: each connection goes to the first that takes it.
        in_turn: each connection goes to the next address, and is closed where nothing listens.
    """

    def __init__(self, addresses: Sequence[tuple[str, int]], *, in_turn: bool = False) -> None:
        self._addresses = addresses
        self._turn = itertools.cycle(addresses) if in_turn else None
        self._listener = Listener(self._relay)
        self.port = self._listener.port
        self.url = f"http://127.0.0.1:{self.port}"

    def _relay(self, client: Pipe) -> None:
        for address in self._addresses if self._turn is None else [next(self._turn)]:
            try:
                server = dial(address)
                break
            except OSError:
                continue
        else:
            return
        back = threading.Thread(target=copy, args=(server, client), daemon=True)
        back.start()
        copy(client, server)
        back.join(PATIENCE_S)
        server.close()

    def close(self) -> None:
        """The end."""
        self._listener.close()
