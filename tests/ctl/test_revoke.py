"""`picoctl revoke` against a real admin port."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from tests.ctl.harness import Done, picoctl
from tests.net.admin.admin_fakes import Served, agent_app, node_app, revocation_routes
from tests.net.in_reactor import in_reactor

ENDS = "sessions and requests that this ends"


@pytest_twisted.async_yield_fixture
async def served() -> AsyncIterator[Served]:
    """The admin port of a node that reaches n2 and not n3."""
    served = Served(node_app(revocations=revocation_routes({"n2": "", "n3": "cut"})))
    yield served
    await served.close()


async def revoke(served: Served, *arguments: str) -> Done:
    """Run it beside the reactor."""
    done: Done = await deferToThread(picoctl, "revoke", *arguments, PICO_ADMIN=served.url)
    return done


@in_reactor
async def test_revoked_listed_and_taken_back(served: Served) -> None:
    """It says at which nodes, warns of others, and of a node that will forget; what changed stands in the list."""
    assert (await revoke(served, "--list")).stdout == "nobody is revoked\n"
    done = await revoke(served, "spiffe://acme/web")
    assert (done.returncode, done.stdout) == (0, f"spiffe://acme/web is revoked at 2 nodes: n1, n2\n{ENDS}: 7\n")
    assert "node n3: it cannot be reached now" in done.stderr and "cluster.revocations_file" in done.stderr
    done = await revoke(served, "--agent", "agent-1", "--for", "3h", "--json")
    assert json.loads(done.stdout)["nodes"] == ["n1", "n2"]
    done = await revoke(served, "--list")
    assert re.fullmatch(
        r"KIND        NAME               SINCE  ENDS IN  BY\n"
        r"agent       agent-1              \d s      \d h  picoctl\n"
        r"credential  spiffe://acme/web    \d s        -  picoctl\n",
        done.stdout,
    ), done.stdout
    done = await revoke(served, "spiffe://acme/web", "--undo")
    assert (done.returncode, done.stdout) == (0, "spiffe://acme/web is no longer revoked at 2 nodes: n1, n2\n")
    assert "revocations_file" not in done.stderr
    done = await revoke(served, "spiffe://acme/web", "--undo")
    assert (done.returncode, done.stdout) == (1, "") and "is not revoked" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ((), 2, "expected the NAME"),
        (("a", "--agent", "b"), 2, "expected the NAME"),
        (("--list", "a"), 2, "takes no name"),
        (("a", "--for", "soon"), 2, "soon"),
        (("a\x1b[2J",), 1, "printable"),
    ],
)
@in_reactor
async def test_what_makes_no_sense(served: Served, arguments: tuple[str, ...], status: int, words: str) -> None:
    """It is said what is expected, and nothing is revoked."""
    done = await revoke(served, *arguments)
    assert (done.returncode, done.stdout) == (status, "") and words in done.stderr and "\x1b" not in done.stderr
    assert (await revoke(served, "--list")).stdout == "nobody is revoked\n"


@in_reactor
async def test_an_agents_admin_port() -> None:
    """It revokes nobody."""
    served = Served(agent_app())
    try:
        for arguments in (("ci",), ("--list",)):
            assert (await revoke(served, *arguments)).returncode == 3
    finally:
        await served.close()
