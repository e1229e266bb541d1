"""What an operator is told when a daemon is up: one block on a terminal, or else warnings in the log.

The blocks use no colours and no characters beyond ASCII, so that they can be pasted anywhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from twisted.logger import Logger

from pico_twisted.core.public_url import endpoint_url
from pico_twisted.core.text import host_port, milliseconds

log = Logger()

_STOP_HINT = "Ctrl-C, or closing this terminal, stops the {} once the requests in progress have finished."
_LOOPBACK = ("localhost", "127.", "::1")


def node_banner(
    version: str,
    node_id: str,
    proxy_url: str,
    admin_url: str,
    upstream_url: str,
    *,
    workers: int = 1,
    open_to_all: Iterable[str] = (),
    unguarded: Iterable[str] = (),
    narrowed: Iterable[str] = (),
) -> str:
    """The block of a node, or of several that share the ports of a host.

    Args:
        version: the version that runs.
        node_id: its ID.
        proxy_url: URL at which clients of this machine, or of the bound address, reach the proxy port.
        admin_url: the same for the admin port.
        upstream_url: the same for the upstream port.
        workers: how many processes share the ports.
        open_to_all: which of `proxy`, `admin` and `upstream` are bound to all interfaces.
        unguarded: which of them other machines may reach though they authenticate nobody.
        narrowed: which of them are for this machine alone because they authenticate nobody.
    """
    everywhere, bare, narrow = set(open_to_all), set(unguarded), set(narrowed)
    rows = [
        ("proxy", proxy_url, "clients send requests here"),
        ("upstream", upstream_url, "agents connect here"),
        ("admin", admin_url, "operators only"),
    ]
    url_width = max(len(url) for _, url, _ in rows)
    several = f" with {workers} workers" if workers > 1 else ""
    lines = [f"Pico node {node_id} is up{several} (pico_twisted {version})", ""]
    for port, url, users in rows:
        reach = _reach(url, everywhere=port in everywhere)
        if port in narrow:
            reach += f"; for others set {port}.auth, or {port}.bind_addr in a network that you trust"
        if port in bare:
            users += f"; no {port}.auth: never the Internet"
        lines.append(f"  {port:<9} {url:<{url_width}}  {users}")
        lines.append(f"  {'':<9} {'':<{url_width}}  open to: {reach}")
    lines += [
        "",
        "Register a service of yours, for example what listens on port 3000:",
        "",
        f"  twistd -n --pidfile= pico-agent --connect.url {upstream_url} --listen my-endpoint=localhost:3000",
        "",
        _STOP_HINT.format("node"),
    ]
    return "\n".join(lines) + "\n"


def agent_banner(
    version: str,
    agent_id: str,
    sessions: Sequence[tuple[str, str | None, float | None]],
    listeners: Sequence[tuple[str, str]],
    proxy: str = "",
    public_url: str = "",
    tcp: Collection[str] = (),
    inspect_url: str = "",
) -> str:
    """The block of an agent whose endpoints are registered.

    Args:
        version: the version that runs.
        agent_id: its ID.
        sessions: for each the URL of the node, the node's ID if it told one, and the round trip in seconds if it was
            measured.
        listeners: for each the endpoint and the address of the service.
        proxy: URL of the node's proxy port; "" when the node did not tell it.
        public_url: where clients reach endpoints; "" when the node did not tell it.
        tcp: the endpoints whose services speak TCP.
        inspect_url: the link to the inspector, with its key; "" without one.
    """
    lines = [f"Pico agent {agent_id} is up (pico_twisted {version})", ""]
    for url, node_id, rtt_s in _distinct(sessions):
        latency = "latency not measured yet" if rtt_s is None else f"latency {milliseconds(rtt_s)}"
        lines.append(f"  session   {url}  node {node_id or 'unknown'}, {latency}")
    if not sessions:
        lines.append("  session   none yet")
    lines.append("")
    width = max((len(endpoint) for endpoint, _ in listeners), default=0)
    for endpoint, addr in listeners:
        url = endpoint_url(public_url, endpoint, "tcp" if endpoint in tcp else "http")
        lines.append(f"  {endpoint:<{width}} -> {addr}" + (f"  reachable at {url}" if url else ""))
    if listeners:
        first = listeners[0][0]
        ways = [forwarding(first, proxy, public_url)] if first in tcp else ways_to_try(first, proxy, public_url)
        lines += ["", "Try it:", "", *ways]
    if inspect_url:
        lines += ["", f"What passes is shown at {inspect_url}"]
    lines += ["", _STOP_HINT.format("agent")]
    return "\n".join(lines) + "\n"


def forwarding(endpoint: str, proxy: str, public_url: str) -> str:
    """A line to paste: a local port that leads to an endpoint of TCP; arguments as of `ways_to_try`."""
    url = endpoint_url(public_url, endpoint) or ("" if "*" in public_url else public_url) or proxy
    return f"  picoctl forward 0 {endpoint}" + (f" --url {url}" if url else "    with --url of the node's proxy port")


def ways_to_try(endpoint: str, proxy: str, public_url: str) -> list[str]:
    """Lines to click or to paste: browsers take every name below localhost for this machine.

    Args:
        endpoint: its ID.
        proxy: URL of the node's proxy port; "" when the node did not tell it.
        public_url: where clients reach endpoints; "" when the node did not tell it.
    """
    if reachable_at := endpoint_url(public_url, endpoint):
        return [f"  {reachable_at}/"]
    if public_url and "*" not in public_url:
        proxy = public_url
    if not proxy:
        return [f"  curl -H 'x-pico-endpoint: {endpoint}' URL    with the URL of the node's proxy port"]
    url = urlsplit(proxy)
    curl = f"  curl -H 'x-pico-endpoint: {endpoint}' {proxy}/"
    if public_url or url.scheme != "http" or "." in endpoint or not (url.hostname or "").startswith(_LOOPBACK):
        return [curl]
    return [f"  http://{endpoint}.localhost:{url.port}/", curl]


def stop_line(requests: int, streams: int) -> str:
    """The line of a daemon that waits for what is in progress, for whoever pressed Ctrl-C.

    Args:
        requests: those that end by themselves.
        streams: those that do not.
    """
    words = [
        text
        for number, text in (
            (requests, f"{counted(requests, 'request')} in progress"),
            (streams, f"{counted(streams, 'WebSocket or event stream')} open"),
        )
        if number
    ]
    return f"Ctrl-C again to stop now ({', '.join(words)})\n"


def counted(count: int, noun: str) -> str:
    """`1 node`, `3 nodes`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def warn_of_exposure(
    urls: Mapping[str, str], *, unguarded: Iterable[str], narrowed: Iterable[str], gossip_is_guarded: bool
) -> None:
    """Say which ports authenticate nobody. Called once, when the node or the host is up.

    Args:
        urls: of the ports, by their names; of the gossip port the address.
        unguarded: as of `node_banner`.
        narrowed: likewise.
        gossip_is_guarded: by a secret, or because only this machine reaches it.
    """
    if "upstream" in unguarded:
        log.warn("Agents are not authenticated: keep the upstream port off the Internet", upstream=urls["upstream"])
    if narrowed:
        log.info(
            "Open to this machine only, since nobody is authenticated there: {ports}. For others set auth or bind_addr",
            ports=" and ".join(narrowed),
        )
    if not gossip_is_guarded:
        log.warn(
            "No cluster.secrets: whoever reaches the gossip port can join this cluster and take its requests",
            gossip=urls["gossip"],
        )


def proxy_url(upstream_url: str, proxy: str) -> str:
    """Where clients reach the proxy port of a node.

    Args:
        upstream_url: where the agent reached its upstream port.
        proxy: what the node said of the proxy port, `http:8000` or `https:8443`; "" when it did not.

    Returns:
        The port told, on the host of the upstream port; "" when it is not known.
    """
    scheme, _, port = proxy.partition(":")
    host = urlsplit(upstream_url).hostname
    return f"{scheme}://{host_port(host, int(port))}" if host and port else ""


def _reach(url: str, *, everywhere: bool) -> str:
    if everywhere:
        return "every network of this machine (bound to all interfaces)"
    host = urlsplit(url).hostname or ""
    if host.startswith(_LOOPBACK):
        return "this machine only"
    if not host:
        return "whoever on this machine may write to the file"
    return f"whoever reaches {host}"


def _distinct(
    sessions: Sequence[tuple[str, str | None, float | None]],
) -> list[tuple[str, str | None, float | None]]:
    """One line for each node: every listener has a session of its own, and most go to the same place."""
    seen: dict[tuple[str, str | None], float | None] = {}
    for url, node_id, rtt_s in sessions:
        known = seen.get((url, node_id))
        seen[url, node_id] = rtt_s if known is None else min(known, known if rtt_s is None else rtt_s)
    return [(url, node_id, rtt_s) for (url, node_id), rtt_s in seen.items()]
