"""Two tenants on two real nodes whose ports all authenticate: neither gets at anything of the other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pico_twisted.core.access.credentials_file import hash_of
from tests.ctl.harness import picoctl
from tests.system.curl import CurlAnswer, curl
from tests.system.service import Service
from tools.stage.asking import get
from tools.stage.nodes import Node
from tools.stage.stage import Stage, open_stage
from tools.stage.waiting import wait_until

RULES = {"acme": "listen:acme-* connect:acme-*", "other": "listen:other-* connect:other-*", "ops": "admin:operate"}
TOKENS = {name: f"pico_token-of-{name}" for name in RULES}


class Tenants:
    """The nodes, an agent of each tenant at the first one, and their services."""

    def __init__(self, stage: Stage, one: Service, two: Service) -> None:
        self.stage = stage
        tokens = stage.directory / "tokens"
        tokens.write_text(
            "".join(f"{name} sha256:{hash_of(token.encode()).hex()} {RULES[name]}\n" for name, token in TOKENS.items())
        )
        auth = {port: {"auth": {"tokens_file": str(tokens)}} for port in ("proxy", "upstream", "admin")}
        first = stage.node("n1", auth)
        join = {"cluster": {"join": [f"127.0.0.1:{first.ports.gossip}"]}}
        self.nodes = [first, stage.node("n2", {**auth, **join})]
        for node in self.nodes:
            node.admin.token = TOKENS["ops"]
        for name, service in (("acme", one), ("other", two)):
            self.agent(name, f"{name}-web", service)
        for node in self.nodes:
            for name in ("acme", "other"):
                what = f"{node.name} to serve {name}-web"
                wait_until(lambda node=node, name=name: self.ask(node, name, f"{name}-web").status == 200, what)  # type: ignore[misc]

    def agent(self, tenant: str, endpoint: str, service: Service, *, wait: bool = True) -> str:
        """Start an agent with the token of a tenant. What it wrote, once it is registered or refused."""
        file = self.stage.directory / f"{tenant}.token"
        file.write_text(TOKENS[tenant] + "\n")
        name = f"{tenant}-serves-{endpoint}".lower()
        agent = self.stage.agent(
            self.nodes[0], {endpoint: service.address}, {"connect": {"token_file": str(file)}}, name=name, wait=False
        )
        return agent.wait_output("All listeners are registered" if wait else "the node refused (403)")

    def ask(self, node: Node, tenant: str, endpoint: str, *arguments: str) -> CurlAnswer:
        """A request of a tenant."""
        shown = ("-H", f"x-pico-endpoint: {endpoint}", "--oauth2-bearer", TOKENS[tenant])
        return curl(node.url("/"), *shown, *arguments, directory=self.stage.directory)


@pytest.fixture
def tenants(tmp_path: Path, one: Service, two: Service) -> Iterator[Tenants]:
    """All of it, running."""
    with open_stage(tmp_path) as stage:
        yield Tenants(stage, one, two)


def test_nothing_of_the_other_tenant(tenants: Tenants, one: Service, two: Service) -> None:
    """A tenant neither uses, serves, sees nor changes what is the other's, at either node, and is not told of it."""
    seen = len(two.requests)
    for node in tenants.nodes:
        assert tenants.ask(node, "acme", "acme-web").body == b"one"
        told = []
        for endpoint in ("other-web", "OTHER-web", "other-none"):
            got = tenants.ask(node, "acme", endpoint, "-H", "x-request-id: r")
            told.append((got.status, got.body))
        assert told[0] == told[1] == told[2] and told[0][0] == 403 and b"other" not in told[0][1]
        for host in ("other-web.example.com", "Other-Web.example.com.", "none.example.com"):
            shown = ("--oauth2-bearer", TOKENS["acme"], "-H", f"Host: {host}", "-H", "x-request-id: r")
            got = curl(node.url("/"), *shown, directory=tenants.stage.directory)
            assert (got.status, got.body) == told[0]
    for endpoint in ("other-web", "other-new"):
        refused = tenants.agent("acme", endpoint, one, wait=False)
        assert f"does not allow listen:{endpoint}" in refused and "served" not in refused
        assert "other-new" not in tenants.nodes[0].admin.endpoints()
    assert len(two.requests) == seen
    _sees_nothing(tenants)
    assert tenants.ask(tenants.nodes[1], "other", "other-web").body == b"two"


def _sees_nothing(tenants: Tenants) -> None:
    """The admin ports show a tenant nothing but who they are themselves."""
    first = tenants.nodes[0]
    index = first.admin.json("/")
    paths = [path.replace("<id>", "local") for path in (*index["routes"], *index["changing"])]
    shown = {"Authorization": f"Bearer {TOKENS['acme']}"}
    for node in tenants.nodes:
        for path in paths:
            for asked in (path, f"{path}?forward=n1", f"{path}?forward=n2", f"{path}?endpoint=other-web"):
                answer = get(node.ports.admin, asked, shown)
                status = 200 if path in ("/health", "/ready") and "forward" not in asked else 403
                assert (answer.status, b"other" in answer.body) == (status, False), (asked, answer)
        for path in index["changing"]:
            got = curl(
                f"http://127.0.0.1:{node.ports.admin}{path}",
                *("-X", "POST", "-H", "x-pico-operator: me", "--oauth2-bearer", TOKENS["acme"]),
                directory=tenants.stage.directory,
            )
            assert (got.status, b"other" in got.body) == (403, False), (path, got)
    done = picoctl("whoami", "--json", "--token", TOKENS["acme"], PICO_ADMIN=f"http://127.0.0.1:{first.ports.admin}")
    told = json.loads(done.stdout)
    assert (told["proxy"]["rules"], told["upstream"]["rules"], told["admin"]["rules"]) == (
        ["connect:acme-*"],
        ["listen:acme-*"],
        [],
    )
    assert "other" not in done.stdout
