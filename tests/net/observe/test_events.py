"""What is remembered of the log."""

from __future__ import annotations

from twisted.logger import Logger, LogPublisher

from pico_twisted.net.observe.events import MAX_TEXT_CHARS, MOST_EVENTS, MOST_FIELDS, EventMemory


class Bench:
    """A memory with a publisher of its own."""

    def __init__(self) -> None:
        self.memory = EventMemory(lambda: 1000.0)
        publisher = LogPublisher(self.memory.observer)
        self.log = Logger(namespace="pico_twisted.net.proxy.site", observer=publisher)
        self.library = Logger(namespace="autobahn", observer=publisher)

    @property
    def messages(self) -> list[str]:
        return [event.message for event in self.memory.remembered()]


def test_what_an_operator_wants_to_know() -> None:
    """Lines of level info and above, with their fields; of libraries what is wrong."""
    bench = Bench()
    bench.log.debug("a detail")
    bench.log.info("Endpoint {endpoint} registered", endpoint="shop", peer="10.0.0.1:4000", count=2, none=None)
    bench.log.warn("a warning")
    bench.library.info("a library starts")
    bench.library.warn("a library warns")
    assert bench.messages == ["Endpoint shop registered", "a warning", "a library warns"]
    first = next(bench.memory.remembered())
    assert (first.level, first.subsystem) == ("info", "proxy.site")
    assert first.fields == {"endpoint": "shop", "peer": "10.0.0.1:4000", "count": 2, "none": None}
    assert bench.memory.since_s == 1000.0


def test_secrets_are_hidden() -> None:
    """As in the lines of the log."""
    bench = Bench()
    bench.log.info("got {token}", token="abc123abc123", header="Authorization: Bearer abc123abc123")
    assert "abc123" not in str(list(bench.memory.remembered()))


def test_memory_is_bounded() -> None:
    """The newest are kept; neither a long text nor many fields fill it."""
    bench = Bench()
    for number in range(MOST_EVENTS + 5):
        bench.log.info("event {number}", number=number)
    assert bench.messages[0] == "event 5"
    assert len(bench.messages) == MOST_EVENTS
    assert bench.memory.since_s > 1000.0
    bench.log.info("x" * 100_000, **{f"field_{number}": "y" * 100_000 for number in range(100)})
    last = list(bench.memory.remembered())[-1]
    assert len(last.message) < MAX_TEXT_CHARS + 50
    assert len(last.fields) == MOST_FIELDS
    assert all(len(str(value)) < MAX_TEXT_CHARS + 50 for value in last.fields.values())


def test_a_failure_says_what_it_was() -> None:
    """In one line: the log has the traceback."""
    bench = Bench()
    try:
        raise RuntimeError("a fault of ours")
    except RuntimeError:
        bench.log.failure("It broke")
    (event,) = bench.memory.remembered()
    assert event.message == "It broke"
    assert event.level == "critical"
    assert "RuntimeError: a fault of ours" in str(event.fields["failure"])


def test_nothing_stops_the_program() -> None:
    """Not even what cannot be shown."""

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no")

    bench = Bench()
    bench.log.info("{broken}", broken=Broken())
    assert len(bench.messages) == 1
