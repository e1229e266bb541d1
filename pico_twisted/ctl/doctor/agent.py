"""What the doctor looks at for an agent's configuration: its nodes, its token, and the services of its listeners."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from pico_twisted import __version__
from pico_twisted.config import AgentConfig
from pico_twisted.config.values import ServiceAddress
from pico_twisted.core.forward_proxy import ForwardProxies, ForwardProxy
from pico_twisted.core.text import escaped, host_port
from pico_twisted.ctl.doctor.lines import PATIENCE_S, Line, at_once, green, red, yellow
from pico_twisted.ctl.doctor.sockets import Unreached, ask_head, connect, resolve, tls_to, web_socket, words_of

NODE_S: Final = 3 * PATIENCE_S
"""Seconds for one node: its name, the way to it, its answer."""
MOST_LISTENERS: Final = 50
"""Most listeners that are looked at."""

# Of all that a node looks at in a handshake this comes last: who gets here has a token that counts for the endpoint.
# No node takes it, so no session is opened and no request comes.
_TOO_MANY: Final = "x-pico-elsewhere: " + ",".join(["x"] * 1000)
_SAID_OF_IT: Final = "x-pico-elsewhere"


def agent_lines(config: AgentConfig, environ: Mapping[str, str]) -> Iterator[Line]:
    """Look at what an agent's configuration names.

    Args:
        config: of the agent.
        environ: its environment, which may name proxies.
    """
    proxies = ForwardProxies(config.connect.proxy, environ)
    for variable in proxies.unusable:
        yield yellow("connect.url", f"{variable} of the environment names no proxy", f"correct {variable}, or unset it")
    asked: list[Callable[[], list[Line]]] = [
        partial(_node, url, proxies.for_url(url), config) for url in config.connect.url
    ]
    for url, found in zip(config.connect.url, at_once(asked, NODE_S), strict=True):
        if isinstance(found, Exception):
            yield red("connect.url", f"{url}: {found}", "is the address right, and does a firewall drop packets?")
        else:
            yield from found
    if len(config.connect.url) == 1:
        host = urlsplit(config.connect.url[0]).hostname or ""
        with contextlib.suppress(Unreached):
            if host and len(resolve(host)) == 1:
                cure = "list the upstream ports of several nodes, unless this one is a balancer's"
                yield yellow("connect.url", f"{escaped(host)} alone: an outage of it is one of the endpoints", cure)
    yield from _services(config)


def _node(url: str, proxy: ForwardProxy | None, config: AgentConfig) -> list[Line]:
    """Whether a node is reached, and takes the token for each endpoint."""
    check = "connect.url"
    where = urlsplit(url)
    secure = where.scheme in ("https", "wss")
    via = f" through {proxy}" if proxy is not None else ""
    lines = []
    for listener in config.listeners[:MOST_LISTENERS]:
        try:
            with contextlib.ExitStack() as end:
                connection = end.enter_context(_way_to(url, proxy))
                if secure:
                    connection = end.enter_context(tls_to(connection, _context(config), where.hostname or ""))
                path = f"{where.path.rstrip('/')}/pico/v1/listener/{listener.endpoint}"
                fields = [f"x-pico-agent-version: {__version__}", "x-pico-slot: doctor", _TOO_MANY]
                if config.connect.token:
                    fields.append(f"Authorization: Bearer {config.connect.token}")
                head, body = ask_head(connection, web_socket(where.netloc or "localhost", path, fields))
        except Unreached as error:
            cure = "is it a node's upstream port, open to this machine, and its certificate one that is trusted here?"
            return [red(check, f"{url}{via}: {error}", cure)]
        said = words_of(body)
        if head.status in (401, 403):
            cure = "picoctl whoami --token-file shows what a token may do; picoctl token create makes one"
            lines.append(red("token", f"{url} refuses {listener.endpoint} ({head.status}): {said}", cure))
        elif head.status == 503:
            lines.append(yellow(check, f"{url}: {said or 'busy'}", "another node takes the agent meanwhile"))
        elif head.status != 101 and _SAID_OF_IT not in said:
            cure = "connect.url takes a node's upstream port (8002 by default)"
            lines.append(red(check, f"{url}{via}: answers with {head.status}: {said or 'nothing of Pico'}", cure))
            break
    takes = "a node answers, and takes the token for its endpoints" if config.connect.token else "a node answers"
    return lines or [green(check, f"{url}{via}: {takes}")]


def _way_to(url: str, proxy: ForwardProxy | None) -> socket.socket:
    """A connection to a node. Raises Unreached."""
    where = urlsplit(url)
    if where.scheme == "unix":
        return _unix(where.path)
    host = where.hostname or ""
    port = where.port or (443 if where.scheme in ("https", "wss") else 80)
    if proxy is None:
        resolve(host)
        return connect(host, port)
    connection = connect(proxy.host, proxy.port)
    if proxy.scheme == "https":
        connection = tls_to(connection, ssl.create_default_context(), proxy.host)
    shown = [f"Proxy-Authorization: {proxy.authorization.decode('ascii')}"] if proxy.authorization else []
    there = host_port(host, port)
    head, _ = ask_head(connection, [f"CONNECT {there} HTTP/1.1", f"Host: {there}", *shown])
    if head.status != 200:
        connection.close()
        raise Unreached(f"the proxy answers with {head.status}")
    return connection


def _context(config: AgentConfig) -> ssl.SSLContext:
    tls = config.connect.tls
    context = ssl.create_default_context(cafile=tls.root_cas or None)
    if tls.cert:
        with contextlib.suppress(OSError):  # which has a line of its own
            context.load_cert_chain(tls.cert, tls.key, password="")
    return context


def _services(config: AgentConfig) -> Iterator[Line]:
    """Whether something listens where each listener's service should be."""
    listeners = config.listeners[:MOST_LISTENERS]
    asked: list[Callable[[], None]] = [partial(_service, listener.addr) for listener in listeners]
    reached = 0
    for listener, found in zip(listeners, at_once(asked, 2 * PATIENCE_S), strict=True):
        if isinstance(found, Exception):
            cure = "start it, or correct the listener's addr"
            yield red("services", f"{listener.endpoint}: {listener.addr}: {found}", cure)
        else:
            reached += 1
    if reached:
        yield green("services", f"{reached} of {len(config.listeners)} take connections")


def _service(address: ServiceAddress) -> None:
    with _unix(address.path) if address.path else connect(address.host, address.port):
        pass


def _unix(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(PATIENCE_S)
        connection.connect("\0" + path[1:] if path.startswith("@") else path)
    except OSError as error:
        connection.close()
        raise Unreached(f"unix:{path}: {(error.strerror or 'it failed').lower()}") from None
    return connection
