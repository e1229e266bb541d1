"""A bounded queue in which clients take turns, and in which each waits in its own order.

What is needed. A client that asks a thousand things at once must not make another one wait behind all of them, nor keep
it out of a queue that has only so many places. Who the clients are is what the node tells of each call; where it tells
nothing, all of these count as one client, and are served in order.

What was chosen. Clients take turns, one call each. When all places are taken the newest call leaves of the client that
has the most, which may be the one that comes: so nobody who has few is shut out by who has many. To find that client
all are looked at, which happens only while calls are refused, and there are no more clients than places.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Things that wait, each of a client, by identity or by what makes them equal.

    Args:
        most: how many may wait.
    """

    __slots__ = ("_by_client", "_most", "_waiting")

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[T, tuple[str, float]] = {}  # in the order in which they came: of whom, and since when
        self._by_client: dict[str, dict[T, None]] = {}  # in the order of the turns

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, client: str, item: T, now: float) -> T | None:
        """Let something wait that does not yet.

        Args:
            client: whose it is.
            item: waits.
            now: in seconds.

        Returns:
            What may wait no longer for it, perhaps itself; None while there are places.
        """
        self._waiting[item] = (client, now)
        self._by_client.setdefault(client, {})[item] = None
        if len(self._waiting) <= self._most:
            return None
        most = max(map(len, self._by_client.values()))
        own = self._by_client[client]
        largest = own if len(own) == most else next(one for one in self._by_client.values() if len(one) == most)
        leaves = next(reversed(largest))
        self.discard(leaves)
        return leaves

    def take(self) -> tuple[T, float] | None:
        """Take what has its turn, and since when it waits; None when nothing waits."""
        for client, items in self._by_client.items():
            item = next(iter(items))
            since = self._waiting[item][1]
            self.discard(item)
            if client in self._by_client:
                self._by_client[client] = self._by_client.pop(client)  # its next turn comes behind the others'
            return item, since
        return None

    def put_back(self, client: str, item: T, since: float) -> None:
        """What was just taken waits again, at the front."""
        self._waiting = {item: (client, since), **self._waiting}
        items = {item: None, **self._by_client.pop(client, {})}
        self._by_client = {client: items, **self._by_client}

    def discard(self, item: T) -> None:
        """Something waits no longer. Idempotent."""
        found = self._waiting.pop(item, None)
        if found is not None:
            items = self._by_client[found[0]]
            del items[item]
            if not items:
                del self._by_client[found[0]]

    def came_before(self, time: float) -> list[T]:
        """What waits since before that time, the oldest first."""
        found = []
        for item, (_, since) in self._waiting.items():
            if since >= time:
                break
            found.append(item)
        return found

    def oldest(self) -> float | None:
        """Since when that waits which came first; None when nothing waits."""
        return next((since for _, since in self._waiting.values()), None)

    def items(self) -> list[T]:
        """All that wait, in the order in which they came."""
        return list(self._waiting)

    def _check_invariants(self) -> None:
        """For tests."""
        assert len(self._waiting) <= self._most
        assert all(self._by_client.values()), "a client with nothing is forgotten"
        found = {item: client for client, items in self._by_client.items() for item in items}
        assert found == {item: client for item, (client, _) in self._waiting.items()}
