"""Who waits, who is next, and who has to leave."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.agent.fair_queue import FairQueue

STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "take", "discard", "back", "late"]), st.sampled_from("abc"), st.integers(0, 30)),
    max_size=120,
)


def test_clients_take_turns() -> None:
    """One that has much does not make another one wait behind all of it, and each is served in its own order."""
    queue: FairQueue[str] = FairQueue(100)
    for number in range(3):
        queue.add("busy", f"busy-{number}", 0.0)
    queue.add("calm", "calm-0", 0.0)
    queue.add("", "nobody-0", 0.0)
    taken = [found[0] for _ in range(6) if (found := queue.take()) is not None]
    assert taken == ["busy-0", "calm-0", "nobody-0", "busy-1", "busy-2"]


def test_who_has_the_most_makes_room() -> None:
    """The newest of its own leaves; and who is alone is refused what is too much."""
    queue: FairQueue[str] = FairQueue(2)
    assert queue.add("busy", "1", 0.0) is None and queue.add("busy", "2", 0.0) is None
    assert queue.add("busy", "3", 0.0) == "3"
    assert queue.add("calm", "4", 0.0) == "2"
    assert queue.items() == ["1", "4"]
    assert queue.add("calm", "5", 0.0) == "5"


def test_time() -> None:
    """What came before a time is found, the oldest first."""
    queue: FairQueue[str] = FairQueue(10)
    for at in range(4):
        queue.add("abcd"[at], str(at), float(at))
    assert queue.came_before(2.0) == ["0", "1"] and queue.came_before(0.0) == []


@given(STEPS, st.integers(1, 8))
def test_whatever_happens(steps: list[tuple[str, str, int]], most: int) -> None:
    """It holds what came and did not leave, each client's in its own order; who waits for a turn gets it before
    another client has two; and when it is full, who leaves is of a client that has the most."""
    queue: FairQueue[int] = FairQueue(most)
    model: dict[int, str] = {}
    served: dict[str, int] = {}  # turns of others since a client waits
    taken: tuple[str, int, float] | None = None
    for number, (what, client, which) in enumerate(steps):
        if what == "add":
            leaves = queue.add(client, number, float(number))
            model[number] = client
            if leaves is not None:
                counts = Counter(model.values())
                assert counts[model[leaves]] == max(counts.values())
                assert leaves == max(item for item, of in model.items() if of == model[leaves])
                del model[leaves]
        elif what == "take":
            found = queue.take()
            assert (found is None) == (not model)
            if found is not None:
                item, since = found
                of = model.pop(item)
                assert since == float(item) and not any(one < item for one, whose in model.items() if whose == of)
                taken = (of, item, since)
                for waiting in set(model.values()) - {of}:
                    served[waiting] = served.get(waiting, 0) + 1
                    assert served[waiting] <= 3
                served[of] = 0
        elif what == "back" and taken is not None and len(model) < most:
            queue.put_back(*taken)
            model = {taken[1]: taken[0], **model}
            taken = None
            served.clear()
        elif what == "discard":
            queue.discard(which)
            model.pop(which, None)
        for gone in set(served) - set(model.values()):
            del served[gone]
        queue._check_invariants()
        if what != "take":
            taken = None if what != "back" else taken
        assert sorted(queue.items()) == sorted(model) and len(queue) == len(model)
