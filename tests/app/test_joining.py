"""A node's way into its cluster: what it waits for, and what it says of that."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectError
from twisted.logger import globalLogPublisher

from pico_twisted.app.joining import ANY_NODE, SPEAK_AFTER_S, Joining, refusal_in_words
from pico_twisted.app.membership import Membership
from pico_twisted.config import Address, ClusterConfig
from pico_twisted.core.gossip import Member, Standing
from pico_twisted.core.gossip.events import IdInUse
from pico_twisted.core.links.sync_frames import Reached, encode_reached
from pico_twisted.core.ports import GOSSIP, UPSTREAM
from pico_twisted.net.links.sync import FetchFailed
from pico_twisted.net.tunnel import HandshakeRefused
from tests.doubles.node import MemoryNode
from tests.net.gossip.gossip_net import PORT, Net, Transport

UNREACHABLE = ConnectError(osError=OSError(errno.EHOSTUNREACH, "x"))


class Joiner:
    """A node that joins, on a network in memory on which nobody else is.

    Attributes:
        dials: what comes of a link to an address and a node ID; of every other one there is no route.
        failed: why it gave up.
        said: what it logged.
    """

    def __init__(self, *seeds: str) -> None:
        self.net = Net()
        self.dials: dict[tuple[str, str], Exception | None] = {}
        self.failed: list[str] = []
        self.said: list[str] = []

        def membership(config: ClusterConfig, node_id: str, **given: Any) -> Membership:
            given["siblings"] = [Address(host, PORT) for host in seeds]
            return Membership(config, node_id, **given)

        self.parts = MemoryNode(self.net.clock, node_id="n4", membership=membership)
        self.membership = self.parts.node.membership
        self.membership.dial_once = self._dial  # type: ignore[method-assign]
        self.net.nodes["10.0.0.4", PORT] = self.membership.gossip
        self.membership.gossip.transport = Transport(self.net, ("10.0.0.4", PORT), "0.0.0.0")  # type: ignore[assignment]
        self.joining = Joining(self.membership, self.net.clock, random.Random(1), "n3".__eq__)
        observer: Any = self._log
        self._observer = observer
        globalLogPublisher.addObserver(observer)
        self.membership.start(f"10.0.0.4:{PORT}", {})
        self.joining.begin(5.0, self.failed.append)

    def _dial(self, address: str, node_id: str) -> Deferred[None]:
        outcome = self.dials.get((address, node_id), UNREACHABLE)
        return succeed(None) if outcome is None else fail(outcome)

    def _log(self, event: dict[str, Any]) -> None:
        if event.get("log_namespace") == "pico_twisted.app.joining":
            self.said.append(event["log_format"].format(**event))

    def close(self) -> None:
        """The end."""
        globalLogPublisher.removeObserver(self._observer)
        self.joining.end()
        self.membership.abort()
        self.parts.stop()


@pytest.fixture
def joiner() -> Iterator[Joiner]:
    """One that is to join an address, and a name that has none."""
    made = Joiner("10.0.0.9", "nosuch.invalid")
    yield made
    made.close()
    made.net.clock.advance(0.1)
    assert made.net.clock.getDelayedCalls() == []


NO_ROUTE = "10.0.0.9:8003: no answer over UDP; TCP: no route to host"
NO_ADDRESS = "nosuch.invalid:8003: the name has no address"


def test_it_speaks_and_gives_up(joiner: Joiner) -> None:
    """After two seconds it says what is wrong at each address, a line each; when the time is over, once more, with all
    of it in one line."""
    joiner.net.pass_time(SPEAK_AFTER_S - 0.1)
    assert joiner.said == []
    joiner.net.pass_time(0.7)
    assert joiner.said == [f"joining: {NO_ROUTE}", f"joining: {NO_ADDRESS}"]
    assert joiner.joining.reasons() == [NO_ROUTE, NO_ADDRESS]
    joiner.net.pass_time(3.0)
    assert joiner.failed == [f"could not join within 5s (cluster.join): {NO_ROUTE}; {NO_ADDRESS}"]
    assert len(joiner.said) == 2


def test_what_a_refusal_means(joiner: Joiner) -> None:
    """A seed is dialled by any name, says its own, and then what it has against us; a link that can be opened shows
    that only UDP is missing."""
    address = "10.0.0.9:8003"
    joiner.dials[address, ANY_NODE] = HandshakeRefused(403, "this node has another ID", "wrong-node", "n1")
    joiner.dials[address, "n1"] = HandshakeRefused(401, "this node does not know it", "unauthenticated", "n1")
    joiner.net.pass_time(SPEAK_AFTER_S + 0.6)
    assert joiner.said[0] == f"joining: {address}: no answer over UDP; TCP: refused: another cluster.secret"
    joiner.dials[address, "n1"] = None
    joiner.net.pass_time(2.5)
    assert joiner.failed[0].startswith(
        f"could not join within 5s (cluster.join): {address}: no answer over UDP; TCP: ans"
    )


def test_an_id_in_use(joiner: Joiner) -> None:
    """Whose ID it is, is said as soon as it is known, and is all that it says in the end."""
    joiner.membership.core.view.tell(IdInUse("10.0.0.3:8003", 3 * 3600.0))
    joiner.net.pass_time(1.2)
    words = "node ID n4 is in use by the process at 10.0.0.3:8003 (up for 3 h): set another cluster.node_id"
    assert joiner.said == [f"joining: {words}"] and joiner.joining.id_is_in_use
    joiner.net.pass_time(5.0)
    assert joiner.failed == [words]


def test_not_reached(joiner: Joiner) -> None:
    """What another node says of our address is passed on with its name; it is asked again, until it reaches us."""
    core: Any = joiner.membership.core
    links: Any = joiner.membership.links
    asked: list[str] = []
    reached = [Reached("no answer", "no route to host"), Reached("", "")]

    async def ask(node_id: str, address: str) -> bytes:
        asked.append(f"{node_id} for {address}")
        return encode_reached(reached[min(len(asked) - 1, 1)])

    other = core.view.members["n1"] = Member("n1", 5, 0.5, joiner.net.clock.seconds())
    other.standing, other.address = Standing.LIVE, "10.0.0.1:8003"
    links.ask_to_dial = ask
    joiner.membership.gossip.met.callback(None)
    words = "others cannot reach 10.0.0.4:8003 (cluster.gossip.advertise_addr): UDP no answer, TCP no route to host"
    assert joiner.joining.reasons() == [f"{words} (says n1 at 10.0.0.1:8003)"]
    joiner.net.pass_time(1.6)
    assert joiner.said == [f"joining: {words} (says n1 at 10.0.0.1:8003)"]
    assert asked == ["n1 for 10.0.0.4:8003"] * 2


def test_nodes_of_the_same_host(joiner: Joiner) -> None:
    """Nodes of the same host do not tell whether others reach it, nor is a seed forgotten for them."""
    core: Any = joiner.membership.core
    links: Any = joiner.membership.links
    links.ask_to_dial = None
    other = core.view.members["n3"] = Member("n3", 5, 0.5, joiner.net.clock.seconds())
    other.standing, other.address = Standing.LIVE, "10.0.0.3:8003"
    joiner.membership.gossip.met.callback(None)
    joiner.net.pass_time(1.6)
    looked: list[list[str]] = []
    joiner.joining.look().addCallback(looked.append)
    assert looked == [[NO_ROUTE, NO_ADDRESS]]


def test_the_end_while_it_asks(joiner: Joiner) -> None:
    """A node that is stopped before anybody reached it is not taken for one that was reached: nobody hears of it."""
    core: Any = joiner.membership.core
    links: Any = joiner.membership.links
    answers: list[Deferred[bytes]] = [Deferred(lambda answer: answer.errback(FetchFailed("it was cancelled")))]
    other = core.view.members["n1"] = Member("n1", 5, 0.5, joiner.net.clock.seconds())
    other.standing, other.address = Standing.LIVE, "10.0.0.1:8003"
    links.ask_to_dial = lambda node_id, address: answers.pop()
    joiner.membership.gossip.met.callback(None)
    assert not answers
    joiner.joining.end()
    assert not joiner.membership.gossip.joined.called and not core.view.own.claimed


@pytest.mark.parametrize(
    ("code", "port", "words"),
    [
        ("wrong-cluster", GOSSIP, "refused: another cluster.name"),
        ("tls-required", GOSSIP, "TLS is required there (cluster.tls)"),
        ("not-found", UPSTREAM, "that is the upstream port of a node; nodes join at the gossip port"),
        ("", "", "refused (418): I am a teapot"),
    ],
)
def test_words_of_refusals(code: str, port: str, words: str) -> None:
    """What a seed has against us, and a port that is no gossip port, are told as an operator needs it."""
    assert refusal_in_words(HandshakeRefused(418, "I am a teapot", code, "n1", port)) == words
