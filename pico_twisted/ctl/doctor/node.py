"""What the doctor looks at for a node's configuration: the nodes that it joins, and where clients reach endpoints."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from pico_twisted.config import NodeConfig
from pico_twisted.core.ports import PROXY, port_that_answered
from pico_twisted.core.routing.table import ACTIVE, DRAINING
from pico_twisted.core.text import escaped, host_port
from pico_twisted.ctl.doctor.lines import PATIENCE_S, Line, at_once, green, red, yellow
from pico_twisted.ctl.doctor.sockets import (
    HELLO_S,
    ClusterWords,
    Unreached,
    ask_head,
    connect,
    hello,
    link,
    resolve,
    split_address,
    tls_to,
)
from pico_twisted.net.admin.shapes.nodes import NodeRow

LABEL: Final = "pico-doctor"
"""An endpoint that is asked for where any one would do."""
PUBLIC: Final = "public_url"
"""The check of where clients reach endpoints."""
PUBLIC_S: Final = 3 * PATIENCE_S
"""Seconds for it: its name, the way to it, its answer."""
JOIN_S: Final = HELLO_S + 2 * PATIENCE_S
"""Seconds for one node: its packets, its connection, its answer."""


def node_lines(config: NodeConfig) -> Iterator[Line]:
    """Look at what a node's configuration names outside this machine: the nodes that it joins."""
    yield from _asked("cluster.join", [(one.host, one.port) for one in config.cluster.join], config)
    if config.cluster.join and not config.cluster.secrets:
        cure = "cluster.secret_files, the same on all nodes: picoctl cluster init makes one"
        yield yellow("cluster.secrets", "none: whoever reaches the gossip port is a node", cure)


def gossip_lines(config: NodeConfig, rows: Sequence[NodeRow]) -> Iterator[Line]:
    """Whether this machine reaches the nodes of a cluster at the addresses that they tell each other.

    Args:
        config: of a node on this machine.
        rows: the nodes.
    """
    joined = {(one.host, one.port) for one in config.cluster.join}
    told = [split_address(row.gossip_addr) for row in rows if row.status in (ACTIVE, DRAINING)]
    yield from _asked("gossip ports", [one for one in told if one is not None and one not in joined], config)


def _asked(check: str, addresses: Sequence[tuple[str, int]], config: NodeConfig) -> Iterator[Line]:
    """Ask nodes as a node that joins asks them."""
    tls = _link_context(config)
    words = ClusterWords(name=config.cluster.name, secrets=config.cluster.secrets)
    asked: list[Callable[[], list[Line]]] = [partial(_one, check, *one, words, tls) for one in addresses]
    for one, found in zip(addresses, at_once(asked, JOIN_S), strict=True):
        if isinstance(found, Exception):
            yield red(check, f"{host_port(*one)}: {found}", "does it run, and is the address right?")
        else:
            yield from found


def _one(check: str, host: str, port: int, cluster: ClusterWords, tls: ssl.SSLContext | None) -> list[Line]:
    """How one node answers, at each of its addresses."""
    try:
        addresses = resolve(host)
    except Unreached as error:
        return [red(check, str(error), "put it into DNS or /etc/hosts, or write the IP")]
    lines = []
    for ip in addresses:
        where = host_port(ip, port)
        node_id = ""
        try:
            node_id = hello((ip, port), cluster)
        except Unreached as error:
            cure = f"does a node run there; UDP {port} through firewalls; the same cluster.name and secret as there"
            lines.append(red(check, str(error), cure))
        try:
            link((ip, port), node_id or "doctor", cluster, tls)
        except Unreached as error:
            if "another ID" not in str(error) or node_id:
                lines.append(red(check, str(error), f"TCP {port} through firewalls; the same secret and TLS as there"))
                continue
        if node_id:
            lines.append(green(check, f"{where} is {escaped(node_id)}: UDP and TCP, name and secret agree"))
    return lines


def _link_context(config: NodeConfig) -> ssl.SSLContext | None:
    tls = config.cluster.tls
    if not tls.enabled:
        return None
    context = ssl.create_default_context(cafile=tls.ca)
    context.check_hostname = False  # nodes are known by their authority
    with contextlib.suppress(OSError):  # which has a line of its own
        context.load_cert_chain(tls.cert, tls.key, password="")
    return context


def public_lines(public_url: str, context: ssl.SSLContext) -> list[Line]:
    """Whether clients get to a node by the URL that is told to people, as seen from here.

    Args:
        public_url: `https://*.tunnel.example.com`.
        context: trusts who has signed its certificate.
    """
    (found,) = at_once([lambda: list(_public(public_url, context))], PUBLIC_S)
    if isinstance(found, Exception):
        return [red(PUBLIC, f"{public_url}: {found}", "does DNS answer, and what listens there?")]
    return found


def _public(public_url: str, context: ssl.SSLContext) -> Iterator[Line]:
    check = PUBLIC
    where = urlsplit(public_url.replace("*", LABEL, 1))
    host, port = where.hostname or "", where.port or (443 if where.scheme == "https" else 80)
    try:
        address = "127.0.0.1" if host.endswith(".localhost") else resolve(host)[0]  # as browsers do (RFC 6761 6.3)
        with contextlib.ExitStack() as end:
            connection = end.enter_context(connect(address, port))
            if where.scheme == "https":
                connection = end.enter_context(tls_to(connection, context, host))
            head, _ = ask_head(connection, ["GET / HTTP/1.1", f"Host: {where.netloc}", "Connection: close"])
    except Unreached as error:
        cure = f"a DNS record for {public_url.partition('//')[2]}, a certificate for it, and the port open to clients"
        words = str(error)
        yield red(check, words if host in words else f"{host}: {words}", cure)
        return

    def field(name: str) -> str | None:
        value = head.by_name.get(name.encode("ascii"))
        return None if value is None else value.decode("latin-1")

    if port_that_answered(field) == PROXY:
        yield green(check, f"{public_url}: name, {where.scheme} and a node's proxy port answer from here")
    else:
        words = f"{public_url}: something answers with {head.status}, and does not say that it is a proxy port"
        yield yellow(
            check, words, "if a balancer or CDN stands in front, it takes the answer's fields away; else see DNS"
        )
