"""The shapes of mixed versions are what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mixed_versions import old
from tests.system.service import answer
from tests.system.stack import MIXED, Stack
from tests.system.wire import Request


def test_the_old_part_is_old(stack: Stack, request: pytest.FixtureRequest) -> None:
    """One process of the stack runs the earlier version's code, from its own environment; the others run this one's."""
    cache = request.config.cache.mkdir("old-version")
    programs = {process.name: Path(f"/proc/{process.pid}/cmdline").read_text() for process in stack.processes}
    aged = tuple(name for name, program in programs.items() if program.startswith(str(cache)))
    assert aged in MIXED.values()
    (installed,) = cache.glob(f"{old.COMMIT}-*/environment/lib/python*/site-packages/pico_twisted")
    # What was moved into rooms later is still where it was.
    assert (installed / "net" / "forward.py").exists()


def test_a_clone_without_the_history_is_told(tmp_path: Path) -> None:
    """A shallow clone cannot build the earlier version: the tests fail, and say what to do."""
    with pytest.raises(AssertionError, match=r"not here: .*In a shallow clone: git fetch --unshallow"):
        old.check_out("0123456789012345678901234567890123456789", tmp_path)


def shape_of(request: pytest.FixtureRequest) -> str:
    name: str = request.node.callspec.params["running_stack"]
    return name


def test_a_circle(stack: Stack) -> None:
    """A service that sends the request back to the node is found out, whichever hops of the circle are older ones."""

    def send_back(request: Request) -> bytes:
        line, _, fields = request.raw_head.partition(b"\r\n")
        client = stack.connect()
        client.send(line + f"\r\nx-pico-endpoint: {stack.endpoint}\r\n".encode() + fields)
        response = client.read_response()
        client.close()
        return answer(b"", status=response.status)

    stack.service.handler = send_back
    assert stack.request().status == 508
    assert len(stack.service.requests) <= 10


def test_an_upgrade_with_a_body(stack: Stack, request: pytest.FixtureRequest) -> None:
    """A peer that does not say that it takes one gets a plain request with that body."""
    response = stack.request("POST /exec HTTP/1.1", "Connection: Upgrade", "Upgrade: raw", body=b"hello")
    if "node-1" in MIXED[shape_of(request)]:
        assert response.status == 400
    else:
        (asked,) = stack.service.requests
        assert (response.status, asked.body, asked.get("upgrade")) == (200, b"hello", None)


def test_many_interim_heads(stack: Stack, request: pytest.FixtureRequest) -> None:
    """A node that breaks a call at the seventeenth is sent sixteen, and then the final answer."""

    def handler(_: Request) -> bytes:
        return b"HTTP/1.1 102 Processing\r\n\r\n" * 40 + answer(b"done")

    stack.service.handler = handler
    response = stack.request()
    if "agent-1" in MIXED[shape_of(request)]:
        assert response.status == 502
    else:
        assert (response.status, response.body) == (200, b"done")
        assert len(response.interim) <= 16


def test_what_only_one_of_both_reads(stack: Stack) -> None:
    """A request that an earlier version refuses costs nobody anything else."""
    for line, field in (("GET / HTTP/1.1", "Cookie: name=Jos\u00e9"), ("LIST / HTTP/1.1", "X-A: b")):
        assert stack.request(line, field).status in (200, 400, 501, 502)
        assert stack.request("GET /after HTTP/1.1").status == 200
