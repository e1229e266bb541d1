"""The registrations of one node: which sessions serve which endpoint, and which of them gets the next call.

A registration is whatever the glue gives: this module compares its `endpoint`, `agent_id` and `slot`, and asks for
`calls`, `latency` and `last_choice` when it chooses. Counts are derived, never kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence, Sized
from typing import Final, Generic, Protocol, TypeVar

from pico_twisted.core.routing.latency import SILENT_LEVEL, Latency

MOST_COMPARED: Final = 8
"""Most registrations of an endpoint that are all looked at for each call. Of more, two are drawn: that is nearly as
even (Mitzenmacher, "The power of two choices"), and costs the same for a thousand."""


class Registration(Protocol):
    """One session of an agent that serves one endpoint."""

    endpoint: str
    agent_id: str
    slot: str

    latency: Latency

    @property
    def calls(self) -> Sized:
        """Calls in flight on it."""
        ...

    @property
    def last_choice(self) -> bool:
        """Whether it gets new calls only where no other one can: it drains, or its service is out."""
        ...


R = TypeVar("R", bound=Registration)


class Registry(Generic[R]):
    """Local registrations by endpoint, in the order of their turns.

    Args:
        max_calls: how many calls one registration may have.
        random: gives numbers from 0 up to 1.
    """

    def __init__(self, max_calls: int, random: Callable[[], float]) -> None:
        self._max_calls = max_calls
        self._random = random
        self._by_endpoint: dict[str, list[R]] = {}

    def add(self, registration: R) -> R | None:
        """Add a registration.

        Returns:
            The one that it replaces: of the same agent, endpoint and slot. It is not here any more.
        """
        held = self._by_endpoint.setdefault(registration.endpoint, [])
        replaced = self.find(registration.endpoint, registration.agent_id, registration.slot)
        if registration in held:
            return None
        if replaced is not None:
            held.remove(replaced)
        held.append(registration)
        return replaced

    def remove(self, registration: R) -> bool:
        """Remove a registration, by identity. Returns whether it was here."""
        held = self._by_endpoint.get(registration.endpoint, [])
        for position, other in enumerate(held):
            if other is registration:
                del held[position]
                if not held:
                    del self._by_endpoint[registration.endpoint]
                return True
        return False

    def find(self, endpoint: str, agent_id: str, slot: str) -> R | None:
        """The registration of an agent's slot."""
        for registration in self._by_endpoint.get(endpoint, ()):
            if registration.agent_id == agent_id and registration.slot == slot:
                return registration
        return None

    def take(self, endpoint: str, excluded: Collection[object] = ()) -> R | None:
        """Choose the registration for the next call: where it costs least (see `latency`), ties in turn.

        Last choices, and those that give no sign of life, come last. The one that is chosen goes to the end of its
        endpoint's turn. Full ones are passed over.
        """
        held = self._by_endpoint.get(endpoint)
        if not held:
            return None
        if len(held) == 1 and not excluded:
            return held[0] if len(held[0].calls) < self._max_calls else None
        best = self._least(self._two_of(held), excluded) if len(held) > MOST_COMPARED else None
        if best is None or _comes_last(best):
            best = self._least(held, excluded)
        if best is not None:
            held.remove(best)
            held.append(best)
        return best

    def _two_of(self, held: Sequence[R]) -> tuple[R, R]:
        first = int(self._random() * len(held))
        second = first + 1 + int(self._random() * (len(held) - 1))
        return held[first], held[second % len(held)]

    def _least(self, among: Sequence[R], excluded: Collection[object]) -> R | None:
        best: R | None = None
        best_key = (2, 0)
        for registration in among:
            calls = len(registration.calls)
            latency = registration.latency
            level = latency.held if calls else latency.level
            key = (registration.last_choice or level == SILENT_LEVEL, (calls + 1) << level)
            if key < best_key and calls < self._max_calls and registration not in excluded:
                best, best_key = registration, key
        return best

    def can_take(self, registration: R, excluded: Collection[object] = ()) -> bool:
        """Whether a registration can be chosen again: it is here, and neither the last choice nor full."""
        return (
            registration in self._by_endpoint.get(registration.endpoint, ())
            and registration not in excluded
            and not registration.last_choice
            and len(registration.calls) < self._max_calls
        )

    def has_other(self, endpoint: str, excluded: Collection[object] = (), *, living: bool = False) -> bool:
        """Whether there is a registration that is not excluded, full or not; with `living` one that is not silent.
        Changes nothing."""
        return any(
            registration not in excluded and not (living and registration.latency.silent)
            for registration in self._by_endpoint.get(endpoint, ())
        )

    def held(self, endpoint: str) -> Sequence[R]:
        """The registrations of an endpoint, in the order of their turns."""
        return self._by_endpoint.get(endpoint, ())

    def counts(self) -> dict[str, int]:
        """Registrations by endpoint ID."""
        return {endpoint: len(held) for endpoint, held in self._by_endpoint.items()}

    def most_calls(self) -> int:
        """How many calls that registration has in flight that has the most."""
        return max((len(registration.calls) for registration in self), default=0)

    def __iter__(self) -> Iterator[R]:
        return iter([registration for held in self._by_endpoint.values() for registration in held])

    def __len__(self) -> int:
        return sum(map(len, self._by_endpoint.values()))


def _comes_last(registration: Registration) -> bool:
    """Whether any other one is better."""
    return registration.last_choice or registration.latency.silent
