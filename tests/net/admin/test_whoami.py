"""Who a credential is of at each port, told to whoever shows it."""

from __future__ import annotations

import json
import time
from typing import Any

import attrs
from twisted.internet.threads import deferToThread

from pico_twisted.core.access.subject import Reason
from pico_twisted.net.admin.entrance import AdminAccess
from tests.ctl.harness import picoctl
from tests.doubles.gate import ToldGate, subject
from tests.net.admin.admin_fakes import Serve, access, node_app
from tests.net.in_reactor import in_reactor

ACME, OPERATOR = b"acme's token", b"operator's token"


def gates(*, slow: bool = False) -> AdminAccess:
    """Of a node: acme may use the proxy port until some time, an operator the admin port; upstream asks nobody."""
    admin = ToldGate({OPERATOR: subject("op", "admin:operate")}, slow=slow)
    proxy = ToldGate({ACME: subject("acme", "connect:acme-*;rate=5/s", expires_at=4102444800.0)}, slow=slow)
    ports = {"proxy": proxy, "upstream": ToldGate({}, enabled=False), "admin": admin}
    return attrs.evolve(access(admin), ports=ports)


async def told(serve: Serve, admits: AdminAccess, token: bytes | None) -> dict[str, dict[str, Any]]:
    """What the port says."""
    fields = {} if token is None else {"authorization": b"Bearer " + token}
    code, _, body = await serve(node_app(admits=admits)).ask("/whoami", headers=fields)
    assert code == 200
    found: dict[str, dict[str, Any]] = json.loads(body)
    return found


@in_reactor
async def test_who_somebody_is(serve: Serve) -> None:
    """Each port tells for itself, without a rule for the admin port; what is revoked counts no more."""
    admits = gates()
    found = await told(serve, admits, ACME)
    assert found["proxy"] == {
        "authenticates": True,
        "subject": "acme",
        "kind": "token",
        "rules": ["connect:acme-*;rate=5/s"],
        "expires_at": 4102444800.0,
        "refused": "",
    }
    assert found["upstream"]["authenticates"] is False
    assert (found["admin"]["subject"], "not known here" in found["admin"]["refused"]) == ("", True)
    assert (await told(serve, admits, OPERATOR))["admin"]["rules"] == ["admin:operate"]
    proxy = admits.ports["proxy"]
    assert isinstance(proxy, ToldGate)
    proxy.ended["acme"] = Reason.REVOKED
    assert "revoked" in (await told(serve, admits, ACME))["proxy"]["refused"]


@in_reactor
async def test_who_nobody_knows(serve: Serve) -> None:
    """Whoever shows nothing, or nothing good, hears that alone, and it is counted as a refusal of the admin port."""
    admits = gates()
    for token, words, reason in ((None, "there was none", Reason.MISSING), (b"x", "not known", Reason.UNKNOWN)):
        found = await told(serve, admits, token)
        assert all(words in found[port]["refused"] for port in ("admin", "proxy"))
        assert isinstance(admits.gate, ToldGate) and admits.gate.refusals[-1] == (reason, None)


@in_reactor
async def test_pages_of_strangers_are_told_nothing(serve: Serve) -> None:
    """The question is as the others are: for no page of another origin, by no foreign name, and changes nothing."""
    served = serve(node_app(admits=gates()))
    shown = {"authorization": b"Bearer " + ACME}
    for fields, status in (({"origin": "http://evil.example"}, 403), ({"host": "evil.example"}, 421)):
        assert (await served.ask("/whoami", headers={**shown, **fields}))[0] == status
    assert (await served.ask("/whoami", "POST", headers=shown))[0] in (401, 403)


@in_reactor
async def test_picoctl_whoami(serve: Serve) -> None:
    """It shows a line for each port; its status is 1 when the credential counts nowhere."""
    url = serve(node_app(admits=gates())).url
    done = await deferToThread(picoctl, "whoami", "--token", "acme's-token", PICO_ADMIN=url)
    assert done.returncode == 1 and "not known here" in done.stdout
    admits = gates()
    proxy = admits.ports["proxy"]
    assert isinstance(proxy, ToldGate)
    proxy.subjects[b"short"] = subject("app", "connect:acme-*", expires_at=time.time() + 60)
    url = serve(node_app(admits=admits)).url
    done = await deferToThread(picoctl, "whoami", "--token", "short", PICO_ADMIN=url, COLUMNS="200")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert done.returncode == 0 and lines[0] == ["PORT", "SUBJECT", "KIND", "EXPIRES", "ALLOWED"]
    assert lines[2][:3] == ["proxy", "app", "token"] and lines[2][-1] == "connect:acme-*"
    assert lines[3] == ["upstream", "-", "-", "-", "all,", "to", "everybody"]
    done = await deferToThread(picoctl, "whoami", "--json", "--token", "short", PICO_ADMIN=url)
    assert json.loads(done.stdout)["proxy"]["subject"] == "app"
    done = await deferToThread(picoctl, "whoami", "--forward", "n2", PICO_ADMIN=url)
    assert done.returncode == 2 and "each node is asked itself" in done.stderr
