"""What ties a request to an agent, and how its sender learns of who served it: a client by a cookie, a node by a field.

What can go wrong. A cookie is whatever a client sends: it counts only if it names an agent that serves this endpoint,
and it goes to no service. The field stands between hops of ours: `forwarding` drops every `x-pico-*` of clients, of
services, and of trusted proxies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Protocol

from pico_twisted.core.http1.account import Account
from pico_twisted.core.http1.forwarding import response_onto_link
from pico_twisted.core.http1.head import RequestHead, ResponseHead
from pico_twisted.core.routing.affinity import Affinity, Servers, ranked, tied_by

AGENT: Final = b"x-pico-agent"
"""The field of a request between nodes that names the agent that is meant, and of a response the one that served."""

_MAX_REMEMBERED: Final = 1024
"""Most endpoints whose cookie's name is kept."""


class Tie(Protocol):
    """What ties one request to an agent."""

    def agents(self, servers: Servers) -> Sequence[str]:
        """The short IDs of the agents that it should go to, the best one first; none when any will do."""

    def served_by(self, head: ResponseHead, agent: str) -> ResponseHead:
        """The head of its final response, which says who served it."""


@lru_cache(_MAX_REMEMBERED)
def cookie_name(endpoint: str) -> bytes:
    """The name of our cookie: another one for each endpoint, since one host may have several; it tells no ID."""
    return b"pico-agent-" + hashlib.sha256(endpoint.encode()).hexdigest()[:8].encode("ascii")


class ClientTie:
    """What ties a client's request.

    Args:
        account: who the request is from.
        cookie: its name.
        agent: what it holds; empty when there is none.
    """

    __slots__ = ("_account", "_agent", "_cookie")

    def __init__(self, account: Account, cookie: bytes = b"", agent: str = "") -> None:
        self._account = account
        self._cookie = cookie
        self._agent = agent

    def agents(self, servers: Servers) -> Sequence[str]:
        """By its cookie, or by the client's address, which is all that a client of TCP has."""
        if servers.affinity is Affinity.COOKIE and self._cookie:
            return (self._agent,) if self._agent in servers.nodes else ()
        return ranked(tied_by(self._account.address), servers.agents)

    def served_by(self, head: ResponseHead, agent: str) -> ResponseHead:
        """Set the cookie, unless the client has it."""
        if not self._cookie or agent == self._agent:
            return head
        secure = b"; Secure" if self._account.https else b""
        value = self._cookie + b"=" + agent.encode("ascii") + b"; Path=/; HttpOnly; SameSite=Lax" + secure
        return head.replace(fields=(*head.fields, (b"set-cookie", b"Set-Cookie", value)))


class LinkTie:
    """What ties a request of another node, which chose for it.

    Args:
        agent: the value of its field; empty when there is none.
    """

    __slots__ = ("_agent",)

    def __init__(self, agent: bytes) -> None:
        self._agent = agent.decode("ascii", "replace")

    def agents(self, servers: Servers) -> Sequence[str]:
        """The one that the node means."""
        return (self._agent,) if self._agent in servers.nodes else ()

    def served_by(self, head: ResponseHead, agent: str) -> ResponseHead:
        """Tell the node, in the first field."""
        line = b"\r\n" + AGENT + b": " + agent.encode("ascii") + b"\r\n"
        return head.replace(raw=response_onto_link(head).replace(b"\r\n", line, 1))


def tie_of(head: RequestHead, account: Account, endpoint: str) -> tuple[ClientTie, RequestHead]:
    """What ties a client's request to an agent of an endpoint, and the request without our cookie."""
    name = cookie_name(endpoint)
    found: list[bytes] = []
    fields: list[tuple[bytes, bytes, bytes]] = []
    for lower, written, value in head.fields:
        if lower == b"cookie" and name in value:
            kept, ours = _split(name, value)
            found += ours
            if not kept:
                continue
            value = kept
        fields.append((lower, written, value))
    if not found:
        return ClientTie(account, name), head
    agent = found[0].decode("ascii", "replace")
    by_name = {lower: value for lower, _, value in reversed(fields)}
    return ClientTie(account, name, agent), head.replace(fields=tuple(fields), by_name=by_name)


def _split(name: bytes, value: bytes) -> tuple[bytes, list[bytes]]:
    """A Cookie field without the cookies of a name, and what those hold (RFC 6265 4.2.1)."""
    kept: list[bytes] = []
    ours: list[bytes] = []
    for pair in value.split(b";"):
        of, equals, holds = pair.partition(b"=")
        if equals and of.strip(b" \t") == name:
            ours.append(holds.strip(b" \t"))
        else:
            kept.append(pair.strip(b" \t"))
    return b"; ".join(kept) if ours else value, ours
