"""What the daemons print on a terminal."""

from __future__ import annotations

import pytest

from pico_twisted.app.cli.banner import agent_banner, node_banner, proxy_url


def test_a_node_tells_its_addresses_and_what_is_open_to_whom() -> None:
    """An operator sees at once which port faces which network, and how to go on."""
    text = node_banner(
        "1.2.3",
        "node-1",
        "http://localhost:8000",
        "http://127.0.0.1:8001",
        "https://10.0.0.1:8002",
        open_to_all=["proxy"],
        unguarded=["upstream"],
        narrowed=["admin"],
    )
    lines = text.splitlines()
    assert "node-1" in lines[0] and "1.2.3" in lines[0]
    proxy, upstream, admin = (next(at for at, line in enumerate(lines) if name in line) for name in _PORTS)
    assert "http://localhost:8000" in lines[proxy] and "clients" in lines[proxy]
    assert "bound to all interfaces" in lines[proxy + 1]
    assert "https://10.0.0.1:8002" in lines[upstream] and "no upstream.auth: never the Internet" in lines[upstream]
    assert "whoever reaches 10.0.0.1" in lines[upstream + 1]
    assert "http://127.0.0.1:8001" in lines[admin] and "operators only" in lines[admin]
    assert "this machine only; for others set admin.auth" in lines[admin + 1]
    assert "--connect.url https://10.0.0.1:8002 --listen my-endpoint=localhost:3000" in text
    assert text.isascii() and text.endswith("\n")


_PORTS = ("  proxy ", "  upstream ", "  admin ")


def test_an_agent_tells_its_session_and_a_line_to_paste() -> None:
    """One line for each node, one for each endpoint, and a curl line that works."""
    text = agent_banner(
        "1.2.3",
        "agent-1",
        [("http://localhost:8002", "node-1", 0.0021), ("http://localhost:8002", "node-1", None)],
        [("my-endpoint", "localhost:3000"), ("b", "https://web:443")],
        "http://localhost:8000",
    )
    assert text.count("http://localhost:8002") == 1
    assert "node node-1, latency 2.1 ms" in text
    assert "  my-endpoint -> localhost:3000\n" in text
    assert "  b           -> https://web:443\n" in text
    assert "  curl -H 'x-pico-endpoint: my-endpoint' http://localhost:8000/\n" in text


def test_an_agent_that_does_not_know_everything_yet() -> None:
    """No round trip measured, a node of the first version that tells no ID, and no idea where the proxy port is."""
    text = agent_banner("1.2.3", "agent-1", [("http://node:8002", None, None)], [("a", "localhost:1")])
    assert "node unknown, latency not measured yet" in text
    assert "  curl -H 'x-pico-endpoint: a' URL " in text and ":8000" not in text
    assert "none yet" in agent_banner("1.2.3", "agent-1", [], [])


@pytest.mark.parametrize(
    ("proxy", "endpoint", "shown"),
    [
        ("http://localhost:9010", "web", "http://web.localhost:9010/"),
        ("http://127.0.0.1:9010", "web", "http://web.localhost:9010/"),
        ("http://127.0.0.1:9010", "a.b", ""),  # the first label would be `a`
        ("https://localhost:9010", "web", ""),  # no certificate has that name
        ("http://pico.example.com:8000", "web", ""),
    ],
)
def test_a_url_to_click(proxy: str, endpoint: str, shown: str) -> None:
    """A browser finds an endpoint of this machine by a name; everywhere a line to paste works."""
    text = agent_banner("1.2.3", "agent-1", [], [(endpoint, "localhost:1")], proxy)
    assert f"  curl -H 'x-pico-endpoint: {endpoint}' {proxy}/\n" in text
    assert [line.strip() for line in text.splitlines() if ".localhost" in line] == ([shown] if shown else [])


@pytest.mark.parametrize(
    ("upstream", "proxy", "url"),
    [
        ("ws://pico.example.com:8002", "http:8000", "http://pico.example.com:8000"),
        ("wss://[::1]:8002", "https:9443", "https://[::1]:9443"),
        ("http://localhost:8002", "", ""),
    ],
)
def test_where_the_proxy_port_is(upstream: str, proxy: str, url: str) -> None:
    """On the host of the upstream port, at the port that the node told; a node that told none is not guessed at."""
    assert proxy_url(upstream, proxy) == url


@pytest.mark.parametrize(
    ("public_url", "reachable", "ways"),
    [
        (
            "https://*.tunnel.example.com",
            "my-endpoint -> localhost:1  reachable at https://my-endpoint.",
            "https://my-",
        ),
        (
            "https://pico.example.com",
            "my-endpoint -> localhost:1\n",
            "curl -H 'x-pico-endpoint: my-endpoint' https://pico",
        ),
    ],
)
def test_an_agent_tells_where_clients_reach_it(public_url: str, reachable: str, ways: str) -> None:
    """The URL of each endpoint, where its node has told one; else what to send where."""
    listeners = [("my-endpoint", "localhost:1"), ("a.b", "localhost:2")]
    text = agent_banner("1.2.3", "agent-1", [], listeners, "http://localhost:8000", public_url)
    assert reachable in text and f"\n  {ways}" in text
    assert "  a.b         -> localhost:2\n" in text and "http://localhost" not in text


@pytest.mark.parametrize(
    ("public_url", "url", "at"),
    [
        ("https://*.example.com", "wss://db.example.com/_pico/v1/tcp/db", "https://db.example.com"),
        ("http://pico.lan:8000", "ws://pico.lan:8000/_pico/v1/tcp/db", "http://pico.lan:8000"),
        ("", "", "http://localhost:8000"),
    ],
)
def test_an_endpoint_of_tcp(public_url: str, url: str, at: str) -> None:
    """Its URL is that of its WebSocket, and what to paste is a command that leads a local port there."""
    listeners = [("db", "localhost:5432")]
    text = agent_banner("1.2.3", "agent-1", [], listeners, "http://localhost:8000", public_url, tcp=["db"])
    assert "db -> localhost:5432" + (f"  reachable at {url}\n" if url else "\n") in text
    assert f"\n  picoctl forward 0 db --url {at}\n" in text and "curl" not in text
