"""The token that an agent shows on sessions that are open, against a node's upstream port."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.logger import LogEvent

from pico_twisted.net.agent.shown_token import AGAIN_S, SHOWN_AT_ONCE, ShownToken
from tests.doubles.gate import ToldGate, subject
from tests.doubles.node import pass_time
from tests.net.tunnel.websockets import TunnelPair


class Shown:
    """An agent's token, and a session of it."""

    def __init__(self, version: int = 2) -> None:
        self.pair = TunnelPair(version=version)
        self.gate = ToldGate({b"first": subject("acme", "listen:*")})
        credentials = self.pair.parts.upstream.credentials
        credentials.gate = self.gate
        credentials._hold(self.pair.node, self.gate.subjects[b"first"])  # type: ignore[arg-type]  # no refusal
        self.token = ShownToken("first", self.pair.clock)
        self.token.opened(self.pair.agent, "first")

    def change(self, token: str) -> None:
        """Another one, and its answer."""
        self.token.change(token)
        self.pair.flush()

    @property
    def subject(self) -> Any:
        """Who holds the session, as its node sees it."""
        return self.pair.node.subject


def test_another_token_holds_the_session(lines: Callable[[str], list[LogEvent]]) -> None:
    """The agent knows until when, and the log has the token nowhere."""
    shown = Shown()
    shown.gate.subjects[b"second"] = subject("next", "listen:my-ep", expires_at=2e9)
    shown.change("second")
    assert shown.subject.name == "next" and shown.pair.agent.credential_until == 2e9
    (line,) = lines("The new token is good at node {node}")
    assert line["node"] == "n1" and "second" not in str(line)


def test_a_refused_one_is_told_to_the_operator(lines: Callable[[str], list[LogEvent]]) -> None:
    """In the node's words; the session lives on, and the node, which may know the token by then, is asked again."""
    shown = Shown()
    shown.change("wrong")
    (line,) = lines("Node {node} refuses the new token")
    assert "is not known here" in line["reason"]
    shown.token.look()
    shown.pair.flush()
    assert len(shown.gate.refusals) == 1 and shown.subject.name == "acme" and not shown.pair.closed
    shown.gate.subjects[b"wrong"] = subject("right", "listen:*")
    shown.pair.pass_time(AGAIN_S + 1)
    shown.token.look()
    shown.pair.flush()
    assert shown.subject.name == "right"


def test_a_node_that_repeats_it_does_not_bring_it_into_the_log(lines: Callable[[str], list[LogEvent]]) -> None:
    """Whoever answers may be anybody."""
    shown = Shown()
    node: Any = shown.pair.parts.upstream.credentials
    node.show = lambda tunnel, call, payload, more: tunnel.send(call, b"refused you said " + payload, False)
    shown.change("a-secret")
    (line,) = lines("Node {node} refuses the new token")
    assert line["reason"] == "you said (the token)"


def test_a_busy_node_is_asked_again() -> None:
    """It looks at one credential a second."""
    shown = Shown()
    for name in (b"second", b"third"):
        shown.gate.subjects[name] = subject(name.decode(), "listen:*")
    shown.change("second")
    shown.change("third")
    assert shown.subject.name == "second"
    pass_time(shown.pair.clock, 1.2)
    shown.token.look()
    shown.pair.flush()
    assert shown.subject.name == "third"


@pytest.mark.parametrize("why", ["version 1", "too old", "no token"])
def test_who_does_not_understand_is_shown_nothing(why: str) -> None:
    """What a node did not list is never sent to it."""
    shown = Shown(version=1 if why == "version 1" else 2)
    if why == "too old":
        shown.pair.agent.capabilities = frozenset()
    shown.change("" if why == "no token" else "second")
    assert not shown.gate.refusals and shown.subject.name == "acme"


def test_a_token_that_changed_during_the_handshake_is_shown() -> None:
    """The session was opened with the one before."""
    shown = Shown()
    shown.gate.subjects[b"second"] = subject("next", "listen:*")
    later = ShownToken("second", shown.pair.clock)
    later.opened(shown.pair.agent, "first")
    later.look()
    shown.pair.flush()
    assert shown.subject.name == "next"


def test_thousands_of_sessions_are_shown_it_one_after_the_other() -> None:
    """Their nodes have better things to do than to check thousands of signatures at once."""

    class Session:
        capabilities = frozenset((b"credential",))
        version = 2

        def __init__(self) -> None:
            self.closed: Any = self

        def addCallback(self, *_: object) -> None:
            """Never fires."""

        def call(self, *_: object) -> None:
            calls.append(self)

    calls: list[Any] = []
    token = ShownToken("first", TunnelPair().clock)
    for _ in range(2 * SHOWN_AT_ONCE + 1):
        token.opened(Session(), "first")  # type: ignore[arg-type]  # as much of one as is needed
    token.change("second")
    assert len(calls) == SHOWN_AT_ONCE
    for _ in range(4):
        token.look()
    assert len(calls) == len(set(calls)) == 2 * SHOWN_AT_ONCE + 1


def test_sessions_that_end_are_forgotten() -> None:
    """With a token to be shown or without."""
    shown = Shown()
    shown.pair.agent.abort()
    shown.pair.flush()
    shown.change("second")
    assert not shown.token._last_shown and not shown.token._behind and not shown.token._refused_on
