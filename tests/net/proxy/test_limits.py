"""Limits of endpoints, of clients' addresses and of slow bodies at the proxy port."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.task import Clock

from pico_twisted.config import EndpointLimitsConfig
from pico_twisted.config.values import read_network
from pico_twisted.core.access.rules import Rule
from pico_twisted.core.access.subject import CredentialKind, Subject
from pico_twisted.net.access.retry_after import later, soon
from pico_twisted.net.proxy.pace import GRACE_S, LOOK_S
from tests.doubles.node import MemoryNode
from tests.doubles.tunnel import FakeTunnel
from tests.net.doubles import CONTINUE, OK, SWITCH, register
from tests.net.proxy.proxy_client import BIG_HEAD, CHUNKED, GET, POST, UPGRADE, Client

GET2 = GET.replace(b"my-ep", b"my-ep2")
OTHER_GET = GET.replace(b"my-ep", b"other")


class Served:
    """A node whose endpoints `my-ep`, `my-ep2` and `other` are served, and its clients."""

    def __init__(self, **keys: Any) -> None:
        self.node = MemoryNode(Clock(), **keys)
        self.tunnels = {name: register(self.node, FakeTunnel(endpoint=name)) for name in ("my-ep", "my-ep2", "other")}

    def client(self, data: bytes = b"", *, address: str = "192.0.2.1", endpoint: str = "my-ep") -> Client:
        """A client that has sent something."""
        family = IPv6Address if ":" in address else IPv4Address
        client = Client(parts=self.node, peer=family("TCP", address, 1))
        client.tunnel = self.tunnels[endpoint]
        client.send(data)
        return client

    def limited(self) -> dict[str, int]:
        """What the metric says."""
        lines = self.node.metrics.exposition().decode().splitlines()
        found = [line.split() for line in lines if line.startswith("pico_limited_total{")]
        return {name.split('"')[1]: int(float(value)) for name, value in found}


def refusal(client: Client) -> tuple[int, str, int]:
    """Status, code and Retry-After of the error that a client got."""
    status, fields, body = client.answer()
    facts = json.loads(body)
    assert fields["x-pico-error"].endswith(facts["code"])
    return status, facts["code"], int(fields.get("retry-after", "0"))


class TestEndpoints:
    """What an entry of `endpoints` says counts for what matches it, and for nothing else."""

    def test_in_flight(self) -> None:
        """Beyond so many requests in progress further ones are answered 503, until one is over; other endpoints and
        connections go on."""
        served = Served(endpoints=[EndpointLimitsConfig(match="my-*", in_flight=2)])
        first, second = served.client(GET), served.client(GET2, endpoint="my-ep2")
        third = served.client(GET)
        status, code, wait = refusal(third)
        assert (status, code) == (503, "endpoint-in-flight") and 1 <= wait <= 3
        assert served.client(OTHER_GET, endpoint="other").call
        first.respond(OK)
        third.send(GET)
        third.respond(OK)
        assert third.answer()[0] == 200 and not second.taken()
        assert served.limited() == {"endpoint-in-flight": 1}

    @pytest.mark.parametrize("end", ["answered", "left", "cut"])
    def test_whatever_ends_a_request_makes_room(self, end: str) -> None:
        """A request that is answered, whose client leaves, or whose agent is lost, is in flight no longer."""
        served = Served(endpoints=[EndpointLimitsConfig(match="my-ep", in_flight=1)])
        client = served.client(GET)
        if end == "answered":
            client.respond(OK)
        elif end == "left":
            client.transport.receive_reset()
        else:
            client.tunnel.lose()
        client = served.client(GET)
        assert b"endpoint-in-flight" not in client.taken()

    def test_rate(self) -> None:
        """Beyond the rate further requests are answered 429, and told when to come again."""
        served = Served(endpoints=[EndpointLimitsConfig(match="my-ep", rate=1 / 30)])
        served.client(GET).respond(OK)
        client = served.client(GET)
        assert refusal(client) == (429, "endpoint-rate", 30)
        assert served.client(OTHER_GET, endpoint="other").call
        client.pass_time(31)
        assert served.client(GET).taken() == b""

    def test_first_match_and_each(self) -> None:
        """The first entry that matches counts alone; with `each` no endpoint uses up what another one has."""
        served = Served(
            endpoints=[EndpointLimitsConfig(match="my-ep2"), EndpointLimitsConfig(match="*", each=True, in_flight=1)]
        )
        for _ in range(3):
            assert served.client(GET2, endpoint="my-ep2").taken() == b""
        assert served.client(GET).taken() == b"" and served.client(OTHER_GET).taken() == b""
        assert refusal(served.client(GET))[0] == refusal(served.client(OTHER_GET))[0] == 503

    @pytest.mark.parametrize("data", [POST, CHUNKED + b"5\r\nhello\r\n", CHUNKED + b"3\r\nhel\r\n3\r\nlo!\r\n"])
    def test_a_body_that_is_too_long(self, data: bytes) -> None:
        """Whether it is announced, or comes in pieces: 413, and the service gets no whole request."""
        served = Served(endpoints=[EndpointLimitsConfig(match="my-ep", body_bytes=4)])
        client = served.client(data[:-4])
        client.send(data[-4:])
        assert refusal(client)[:2] == (413, "endpoint-body")
        assert all(call.reset_code and not call.send_ended for call in client.tunnel.opened)
        assert served.limited() == {"endpoint-body": 1}
        assert served.client(data.replace(b"my-ep", b"other"), endpoint="other").taken() == b""

    def test_a_body_that_just_fits(self) -> None:
        """As many bytes as may be, and whatever goes over an upgraded connection."""
        served = Served(endpoints=[EndpointLimitsConfig(match="my-ep", body_bytes=5)])
        assert served.client(POST + b"hello").call.send_ended
        client = served.client(UPGRADE)
        client.respond(SWITCH, True)
        client.send(bytes(100))
        assert client.call.sent.endswith(bytes(100))

    def test_other_limits_while_it_runs(self) -> None:
        """A reload takes other limits; what is in flight stays counted."""
        served = Served(endpoints=[EndpointLimitsConfig(match="my-ep", in_flight=1)])
        served.client(GET)
        config = served.node.node.config
        more = (EndpointLimitsConfig(match="my-ep", in_flight=2),)
        assert list(served.node.node.ceilings.configure(attrs.evolve(config, endpoints=more))) == ["endpoints: my-ep"]
        assert served.client(GET).taken() == b""
        assert refusal(served.client(GET))[1] == "endpoint-in-flight"
        assert list(served.node.node.ceilings.configure(attrs.evolve(config, endpoints=()))) == ["endpoints: none"]
        assert served.client(GET).taken() == b""


class TestAgents:
    """What the rule says that lets an agent serve."""

    @staticmethod
    def served(limits: str, version: int = 2) -> Served:
        """Two endpoints of one subject, and one of another."""
        served = Served()
        for name, rule, who in (
            ("a-1", f"listen:a-*;{limits}", "a"),
            ("a-2", f"listen:a-*;{limits}", "a"),
            ("b", "listen:b", "b"),
        ):
            served.tunnels[name] = register(served.node, FakeTunnel(endpoint=name, version=version))
            served.tunnels[name].subject = Subject(name=who, kind=CredentialKind.TOKEN, rules=(Rule.read(rule),))
        return served

    @pytest.mark.parametrize("version", [2, 1])
    def test_in_flight(self, version: int) -> None:
        """So many requests are in progress at all that the rule is for, until one is over; others notice nothing."""
        served = self.served("in_flight=2", version)
        one, two, three = (served.client(GET.replace(b"my-ep", name)) for name in (b"a-1", b"a-2", b"a-1"))
        assert refusal(three)[:2] == (503, "subject-in-flight") and not one.taken() and not two.taken()
        assert served.client(GET.replace(b"my-ep", b"b")).taken() == b""
        one.transport.receive_reset()
        assert served.client(GET.replace(b"my-ep", b"a-2")).taken() == b""
        assert served.limited() == {"subject-in-flight": 1}

    def test_rate(self) -> None:
        """So many in a time, 429 beyond, also for a body of version 1 that was still to come."""
        for version in (2, 1):
            served = self.served("rate=1/min", version)
            assert served.client(GET.replace(b"my-ep", b"a-1")).taken() == b""
            client = served.client(POST.replace(b"my-ep", b"a-2"))
            client.send(b"hello")
            assert refusal(client)[:2] == (429, "subject-rate")
            client.pass_time(61)
            assert served.client(GET.replace(b"my-ep", b"a-2")).taken() == b""

    def test_another_credential(self) -> None:
        """A session that shows another credential goes by the rule of that one."""
        served = self.served("in_flight=1")
        assert served.client(GET.replace(b"my-ep", b"a-1")).taken() == b""
        served.tunnels["a-1"].subject = Subject(
            name="c", kind=CredentialKind.TOKEN, rules=(Rule.read("listen:a-1;in_flight=1"),)
        )
        assert served.client(GET.replace(b"my-ep", b"a-1")).taken() == b""
        assert refusal(served.client(GET.replace(b"my-ep", b"a-1")))[0] == 503


class TestAddresses:
    """What one address may do."""

    def test_rate(self) -> None:
        """An address, or a /64, that asks too often is answered 429; another one notices nothing."""
        served = Served(requests_per_address=1 / 10)
        for one, same, other in (
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("2001:db8::1", "2001:db8::ffff:0:0:2", "2001:db8:0:1::1"),
        ):
            assert served.client(GET, address=one).taken() == b""
            assert refusal(served.client(GET, address=same)) == (429, "address-rate", 10)
            assert served.client(GET, address=other).taken() == b""

    def test_behind_a_proxy(self) -> None:
        """Behind a trusted proxy the client counts that it tells; its own requests, and clients that it hides, do
        not. A stranger's word counts for nothing."""
        served = Served(requests_per_address=1 / 10, trusted_proxies=(read_network("10.0.0.1"),))

        def told(client: bytes) -> bytes:
            return GET.replace(b"Host", b"X-Forwarded-For: " + client + b"\r\nHost")

        for _ in range(3):
            assert served.client(GET, address="10.0.0.1").taken() == b""
            assert served.client(told(b"unknown"), address="10.0.0.1").taken() == b""
        assert served.client(told(b"192.0.2.1"), address="10.0.0.1").taken() == b""
        assert refusal(served.client(told(b"192.0.2.1"), address="10.0.0.1"))[0] == 429
        assert served.client(told(b"192.0.2.2"), address="10.0.0.1").taken() == b""
        assert served.client(told(b"192.0.2.2"), address="192.0.2.9").taken() == b""
        assert refusal(served.client(told(b"192.0.2.3"), address="192.0.2.9"))[0] == 429

    def test_connections(self) -> None:
        """An address with too many connections gets no further one until one ends; trusted proxies may have many."""
        served = Served(connections_per_address=2, trusted_proxies=(read_network("10.0.0.1"),))
        first, second, third = (served.client(GET) for _ in range(3))
        assert third.transport.aborted and not first.transport.aborted and not second.transport.aborted
        assert served.limited() == {"address-connections": 1}
        assert not served.client(GET, address="192.0.2.2").transport.aborted
        for _ in range(5):
            assert not served.client(GET, address="10.0.0.1").transport.aborted
        first.transport.receive_reset()
        assert not served.client(GET).transport.aborted


class TestSlowBodies:
    """A client that sends a byte now and then holds nothing for ever."""

    def test_it_is_cut_off(self) -> None:
        """It is answered 408, its call is given up, and others go on."""
        served = Served(min_body_rate=240, idle_timeout=300.0)
        slow = served.client(POST.replace(b": 5", b": 100000"))
        honest = served.client(POST.replace(b": 5", b": 100000"))
        for _ in range(int(GRACE_S + LOOK_S + 1)):
            slow.send(b"x")
            honest.send(bytes(400))
            slow.pass_time(1)
        assert refusal(slow)[:2] == (408, "slow-body")
        assert slow.tunnel.opened[0].reset_code and (slow.transport.half_closed or slow.transport.over)
        assert honest.taken() == b"" and not slow.tunnel.opened[1].reset_code
        assert served.limited() == {"slow-body": 1}

    @pytest.mark.parametrize("why", ["off", "answered", "expects", "upgraded", "ahead"])
    def test_who_is_not(self, why: str) -> None:
        """Nobody is whom we do not read or who waits for us, whose response has begun, who speaks another protocol, or
        has sent much before."""
        served = Served(min_body_rate=0 if why == "off" else 240, idle_timeout=300.0)
        data = POST.replace(b": 5", b": 100000")
        if why == "expects":
            data = data.replace(b"Host", b"Expect: 100-continue\r\nHost")
        client = served.client(UPGRADE if why == "upgraded" else data)
        if why == "answered":
            client.respond(OK, True)
        elif why == "ahead":
            client.send(bytes(50_000))
        elif why == "upgraded":
            client.respond(SWITCH, True)
        client.pass_time(GRACE_S + 3 * LOOK_S)
        assert not client.call.reset_code and served.limited() == {}

    def test_a_service_that_is_slow(self) -> None:
        """While the service takes nothing the client cannot send, and that is not its fault."""
        served = Served(min_body_rate=240, timeout=500.0)
        client = served.client(POST.replace(b": 5", b": 10000000"))
        client.tunnel.takes = False
        while client.transport.reading:
            client.send(bytes(60_000))
        client.pass_time(10 * GRACE_S)
        assert not client.call.reset_code
        client.call.take()
        client.pass_time(GRACE_S + 2 * LOOK_S)
        assert client.call.reset_code, "from then on it has to send"

    def test_after_a_100(self) -> None:
        """A client that was told to go on has to send."""
        served = Served(min_body_rate=240, idle_timeout=300.0)
        client = served.client(POST.replace(b"Host", b"Expect: 100-continue\r\nHost"))
        client.pass_time(2 * GRACE_S)
        client.respond(CONTINUE, True)
        client.pass_time(GRACE_S + 2 * LOOK_S)
        assert client.call.reset_code

    def test_a_client_that_reads_slowly(self) -> None:
        """It has to take what is held for it within the idle limit; then its response is cut, and its call given up."""
        served = Served(idle_timeout=60.0)
        client = served.client(GET)
        client.transport.takes = False
        client.respond(BIG_HEAD, True)
        client.respond(bytes(100_000), True)
        for _ in range(5):
            client.pass_time(10)
            client.transport.take(50)
        assert not client.call.reset_code
        client.pass_time(11)
        assert client.call.reset_code and (
            client.transport.half_closed or client.transport.over or client.transport.held
        )


class TestLoad:
    """While a node comes late to everything it refuses new requests."""

    LATE_TURNS = 30
    REQUESTS = 60

    def _late(self) -> Served:
        served = Served()
        for _ in range(self.LATE_TURNS):
            served.node.clock.advance(1.0)
        return served

    def test_new_requests(self) -> None:
        """Most of them get a 503 that says when to come again, at different times; no agent hears of these. What is in
        progress goes on. The connections of those who are refused end, so that none of them asks again at once."""
        served = Served(timeout=3600.0)
        before = served.client(GET)
        in_progress = before.call
        for _ in range(self.LATE_TURNS):
            served.node.clock.advance(1.0)
        clients = [served.client(GET) for _ in range(self.REQUESTS)]
        refused = [told for client in clients if (told := client.taken())]
        assert self.REQUESTS / 2 < len(refused) <= self.REQUESTS
        assert all(b" 503 " in told and b"; overloaded" in told for told in refused)
        assert all(b"connection: close" in told for told in refused)
        waits = {told.partition(b"retry-after: ")[2].partition(b"\r\n")[0] for told in refused}
        assert len(waits) > 1 and waits <= {b"%d" % seconds for seconds in range(1, 11)}
        assert len(served.tunnels["my-ep"].opened) == 1 + self.REQUESTS - len(refused)
        assert served.limited() == {"overloaded": len(refused)}
        in_progress.respond(OK, False)
        before.clock.advance(0)
        assert before.answer()[0] == 200

    def test_in_time_again(self) -> None:
        """A while after its turns are in time, everybody is let in; and one long pause refuses nobody."""
        served = self._late()
        served.node.clock.advance(0.0)
        for _ in range(100):
            served.node.clock.advance(0.05)
        served.node.clock.advance(60.0)
        assert not any(served.client(GET).taken() for _ in range(self.REQUESTS))
        assert served.limited() == {}


@given(st.floats(0, 1, exclude_max=True))
def test_nobody_knows_when(chance: float) -> None:
    """Whoever is refused where requests fill a limit is told 1, 2 or 3 seconds, each as often, and where sessions do 5
    to 10: so those who are refused together do not come back together."""
    assert soon(lambda: chance) == b"%d" % (1 + min(2, int(chance * 3)))
    assert 5 <= int(later(lambda: chance)) <= 10
