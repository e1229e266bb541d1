"""The routes by which operators revoke, take back, and see who is revoked."""

from __future__ import annotations

import json

import pytest

from pico_twisted.core.access.revocations import ROUND_S
from pico_twisted.net.access.shared import UNREACHED
from pico_twisted.net.admin.shapes.paths import OPERATOR
from pico_twisted.net.admin.shapes.reading import read
from pico_twisted.net.admin.shapes.revocations import REVOCATIONS_PATH, REVOKE_PATH, RevocationRow, Revoked
from tests.doubles.gate import ToldGate, subject
from tests.net.admin.admin_fakes import Serve, Served, access, node_app, revocation_routes
from tests.net.in_reactor import in_reactor


async def post(served: Served, query: str, **fields: str) -> tuple[int, dict[str, object]]:
    """Ask for a change; status and answer."""
    headers = {OPERATOR: "me", **fields}
    code, _, body = await served.ask(f"{REVOKE_PATH}?{query}", method="POST", headers=headers)
    return code, json.loads(body)


async def listed(served: Served, **fields: str) -> list[RevocationRow]:
    """Who is revoked."""
    _, _, body = await served.ask(REVOCATIONS_PATH, headers=fields)
    return read(json.loads(body), list[RevocationRow])


@in_reactor
async def test_revoked_and_taken_back(serve: Serve) -> None:
    """The answer says which nodes know and why others may not; the list says who did it."""
    served = serve(node_app(revocations=revocation_routes({"n2": "", "n3": "cut"})))
    code, said = await post(served, "name=spiffe%3A%2F%2Facme%2Fweb")
    name = "spiffe://acme/web"
    assert (code, read(said, Revoked)) == (
        200,
        Revoked(name=name, revoked=True, until_s=0, kept=False, nodes=("n1", "n2"), unaware={"n3": UNREACHED}, ended=7),
    )
    await post(served, "agent=agent-1&until=1999999999")
    agent, credential = await listed(served)
    assert (agent.name, agent.kind, agent.by) == ("agent-1", "agent", "me")
    assert 0 <= agent.until_s - 1999999999 < ROUND_S
    assert (credential.name, credential.kind, credential.until_s) == (name, "name", 0)
    code, said = await post(served, "agent=agent-1&undo=1")
    assert code == 200 and not said["revoked"]
    assert await listed(served) == [credential]
    code, said = await post(served, "agent=agent-1&undo=1")
    assert (code, said) == (409, {"error": "agent-1 is not revoked"})


@pytest.mark.parametrize(
    "query",
    [
        "", "name=", "name=a&agent=b", "name=a&name=b", "who=a", "name=a&x=1", "name=%FF", "name=a%0A", "until=1",
        "name=a&until=soon", "name=a&until=inf", "name=a&until=nan", "name=a&until=-1", "name=a&until=1e300",
        "name=a&until=1", "agent=a&until=1600000000",
        "name=" + "a" * 600,
    ],
)  # fmt: skip
@in_reactor
async def test_queries_that_mean_nothing(serve: Serve, query: str) -> None:
    """They are refused with what is expected, and nothing is revoked."""
    served = serve(node_app())
    code, said = await post(served, query)
    assert code == 400 and ("name" in str(said["error"]) or "time" in str(said["error"]))
    assert await listed(served) == []


@in_reactor
async def test_who_may(serve: Serve) -> None:
    """Like any change it is for operators, whose name is kept; whoever may only look sees the list."""
    gate = ToldGate({b"op": subject("ann", "admin:operate"), b"look": subject("bob", "admin:read")})
    served = serve(node_app(admits=access(gate)))
    looks, operates = {"authorization": "Bearer look"}, {"authorization": "Bearer op"}
    for fields, status in (({}, 401), (looks, 403), ({**operates, "origin": "http://elsewhere"}, 403), (operates, 200)):
        assert (await post(served, "name=a", **fields))[0] == status
    code, headers, _ = await served.ask(f"{REVOKE_PATH}?name=a", headers=operates)
    assert (code, headers["allow"]) == (405, "POST")
    assert [row.by for row in await listed(served, **looks)] == ["ann"]
