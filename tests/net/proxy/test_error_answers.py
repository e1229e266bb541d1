"""Errors at the proxy port, whoever made them: one answer by Accept, in the name of the node."""

from __future__ import annotations

import json

import pytest

from tests.net.proxy.proxy_client import GET, Client

HTML = b"Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n"
AGENT_ERROR = b"HTTP/1.1 502 Bad Gateway\r\nx-pico-error: agent-7; service-failed\r\nContent-Length: %d\r\n\r\n"
WORDS = b'{"error": "the service hung up"}'


def test_a_browser_gets_a_page() -> None:
    """A browser reads what was looked for, here the first label of its Host, under a policy that runs nothing."""
    client = Client(b"GET / HTTP/1.1\r\nHost: a.b.localhost\r\n" + HTML + b"\r\n")
    status, fields, body = client.answer()
    assert (status, fields["content-type"]) == (502, "text/html; charset=utf-8")
    assert "No agent serves “a” now.".encode() in body and fields["x-request-id"].encode() in body
    assert fields["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert (fields["cache-control"], fields["x-content-type-options"]) == ("no-store", "nosniff")
    assert fields["x-pico-error"] == "n1; no-upstreams" and int(fields["content-length"]) == len(body)


def test_pages_of_the_operator() -> None:
    """The operator's page is sent for its status, filled in; others, and programs, get ours."""
    client = Client()
    client.parts.proxy.error_pages = {"502": "<p>$endpoint $code"}
    client.send(b"GET / HTTP/1.1\r\nHost: nobody.example\r\n" + HTML + b"\r\n")
    status, fields, body = client.answer()
    assert (status, body) == (502, b"<p>nobody no-upstreams") and "content-security-policy" not in fields
    client.send(b"GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n")
    assert client.answer()[1]["content-type"] == "application/json"
    client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + HTML + b"\r\n")
    status, _, body = client.answer()
    assert status == 400 and b"names no endpoint" in body


def test_head() -> None:
    """The answer to HEAD has the length of what GET would get, and nothing of it."""
    lengths = []
    for method in (b"GET", b"HEAD"):
        client = Client(method + b" / HTTP/1.1\r\nHost: nobody.example\r\nX-Request-Id: same\r\n" + HTML + b"\r\n")
        _, fields, body = client.answer()
        lengths.append((int(fields["content-length"]), len(body)))
    assert lengths[0][0] == lengths[0][1] == lengths[1][0] and lengths[1][1] == 0


@pytest.mark.parametrize("field", ['WWW-Authenticate: Basic realm="web"', "Retry-After: 30"])
def test_what_a_client_is_to_do(field: str) -> None:
    """An agent's challenge, and its word on when to come again, go on to the client, once; its other fields do not."""
    client = Client(GET)
    head = AGENT_ERROR.replace(b"502 Bad Gateway", b"503 Service Unavailable") % len(WORDS)
    client.respond(head.replace(b"Content", field.encode() + b"\r\nX-Other: 1\r\nContent") + WORDS)
    text = client.taken().decode().lower()
    assert text.count(field.lower()) == 1 and text.count("retry-after") == 1 and "x-other" not in text


@pytest.mark.parametrize("pieces", [1, 3, len(WORDS)])
def test_an_error_of_the_agent(pieces: int) -> None:
    """What an agent answers in its service's place, older ones too, is told in the node's name with the agent's words,
    however it comes; the client does not see which agent it was, and its connection goes on."""
    client = Client(GET)
    client.respond(AGENT_ERROR % len(WORDS), more=True)
    size = -(-len(WORDS) // pieces)
    parts = [WORDS[at : at + size] for at in range(0, len(WORDS), size)]
    for number, part in enumerate(parts, start=1):
        assert client.taken() == b""
        client.respond(part, more=number < len(parts))
    status, fields, body = client.answer()
    assert (status, fields["x-pico-error"]) == (502, "n1; service-failed") and "connection" not in fields
    told = json.loads(body)
    assert (told["error"], told["code"], told["endpoint"]) == ("the service hung up", "service-failed", "my-ep")
    (line,) = client.log
    assert (line["status"], line["error"], line["bytes_out"]) == (502, "service-failed", len(body))
    client.send(GET)
    assert len(client.tunnel.opened) == 2


def test_an_agent_that_says_too_much() -> None:
    """The body of an agent's error is read as far as words go; what is no JSON, or endless, is not told."""
    client = Client(GET)
    client.respond(b"HTTP/1.1 502 Bad Gateway\r\nx-pico-error: agent-7; service-failed\r\n\r\n<html>", more=True)
    client.respond(b"x" * 50_000, more=True)
    assert client.taken() == b""
    client.respond(b"x")
    status, fields, body = client.answer()
    assert (status, json.loads(body)["error"], fields["x-pico-error"]) == (502, "service failed", "n1; service-failed")


@pytest.mark.parametrize("code", [b"", b"a-7; <b>", b"a-7; \xff"])
def test_an_agent_without_a_code(code: bytes) -> None:
    """An agent whose code is none is told as an agent that failed."""
    client = Client(GET)
    client.respond(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nx-pico-error: " + code + b"\r\n\r\n")
    assert client.answer()[1]["x-pico-error"] == "n1; upstream-unreachable"


def test_a_response_that_is_no_error() -> None:
    """A response below 400 goes on as it is, without what an agent says for itself."""
    client = Client(GET)
    client.respond(b"HTTP/1.1 201 Made\r\nContent-Length: 2\r\nx-pico-error: agent-7; x\r\n\r\nok")
    status, fields, body = client.answer()
    assert (status, body) == (201, b"ok") and "x-pico-error" not in fields
