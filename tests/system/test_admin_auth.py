"""Admin ports that authenticate, as operators, Prometheus and other nodes meet them: real daemons, curl, picoctl."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from pico_twisted.core.access.credentials_file import hash_of
from tests.ctl.harness import picoctl
from tests.system.curl import CurlAnswer, curl
from tests.system.service import Service
from tests.system.workers import Host
from tools.stage.nodes import Node
from tools.stage.ports import free_port
from tools.stage.stage import Stage, open_stage
from tools.stage.waiting import wait_until

SECRET = "the-tests-own-cluster-secret"
READER, OPERATES = "pico_reader", "pico_operator"


@attrs.frozen
class Scene:
    """Where daemons are started, and the file that says who their operators are."""

    stage: Stage
    tokens: Path

    @property
    def auth(self) -> dict[str, Any]:
        """The section of an admin port that goes by the file."""
        return {"auth": {"tokens_file": str(self.tokens)}}

    def node(self, name: str, **cluster: object) -> Node:
        """A node whose operators are those of the file; the test asks it as a reader."""
        made = self.stage.node(name, {"admin": self.auth, "cluster": cluster})
        made.admin.token = READER
        return made

    def curl(self, port: int, path: str, *arguments: str, token: str = "") -> CurlAnswer:
        """What curl gets from an admin port."""
        shown = ["-H", f"authorization: Bearer {token}"] if token else []
        return curl(f"http://127.0.0.1:{port}{path}", *shown, *arguments, directory=self.stage.directory)

    def write(self, **rules: str) -> None:
        """Write the file."""
        named = {"reader": READER, "operator": OPERATES}
        lines = [f"{name} sha256:{hash_of(named[name].encode()).hex()} {rule}\n" for name, rule in rules.items()]
        self.tokens.write_text("".join(lines))


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """No daemon yet, a reader and an operator."""
    with open_stage(tmp_path) as stage:
        made = Scene(stage, tmp_path / "operators")
        made.write(reader="admin:read", operator="admin:operate")
        yield made
        assert stage.new_faults() == []


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory for a Unix socket, whose path may not be long."""
    with tempfile.TemporaryDirectory(prefix="pico-test-") as path:
        yield Path(path)


def logged(node: Node, **wanted: object) -> list[dict[str, Any]]:
    """The lines of a node's log that say this."""
    return [one for one in node.records if all(one.get(name) == value for name, value in wanted.items())]


def test_a_node(scene: Scene) -> None:
    """curl, as Prometheus does, and picoctl come in with a token; load balancers without; each change is logged."""
    node = scene.node("n1")
    admin = node.ports.admin
    for path, token, status in (
        ("/health", "", 200),
        ("/ready", "", 200),
        ("/metrics", "", 401),
        ("/metrics", "pico_wrong", 401),
        ("/metrics", READER, 200),
        ("/login", "", 401),
    ):
        assert scene.curl(admin, path, token=token).status == status, path
    assert b'pico_auth_total{port="admin",result="unknown"} 1.0' in scene.curl(admin, "/metrics", token=READER).body
    url = f"http://127.0.0.1:{admin}"
    for command, token, code in (
        ("status", READER, 0),
        ("status", "", 3),
        ("reload", READER, 3),
        ("reload", OPERATES, 0),
    ):
        done = picoctl(command, PICO_ADMIN=url, PICO_TOKEN=token)
        assert (command, done.returncode) == (command, code), done
    (line,) = wait_until(lambda: logged(node, name="operator", path="/reload", status=200), "a line for the change")
    assert line["client"] == "127.0.0.1"
    assert logged(node, by="operator")
    assert logged(node, reason="unknown") and READER not in node.output and "pico_wrong" not in node.output


def test_a_reload_changes_who_may(scene: Scene) -> None:
    """Who is gone from the file is gone from the port, also with a cookie; names are taken as well."""
    node = scene.node("n1")
    admin = node.ports.admin
    jar, own = str(scene.stage.directory / "jar"), f"origin: http://127.0.0.1:{admin}"
    answered = scene.curl(admin, "/login", "-c", jar, "-H", own, "-d", f"token={READER}")
    assert answered.status == 303
    assert scene.curl(admin, "/metrics", "-b", jar).status == 200
    assert scene.curl(admin, "/metrics", "-b", jar, "-H", "host: node1.example").status == 421
    scene.write(operator="admin:operate")
    node.write_settings({"admin": {"hosts": ["node1.example"]}})
    assert picoctl("reload", PICO_ADMIN=f"http://127.0.0.1:{admin}", PICO_TOKEN=OPERATES).returncode == 0
    assert scene.curl(admin, "/metrics", "-b", jar).status == 401
    assert scene.curl(admin, "/metrics", token=READER).status == 401
    assert scene.curl(admin, "/metrics", "-H", "host: node1.example", token=OPERATES).status == 200


def test_two_nodes(scene: Scene) -> None:
    """A reader of one node reads the other through it, as themselves: nothing more, and nothing without a token."""
    first = scene.node("n1", secrets=[SECRET])
    second = scene.node("n2", secrets=[SECRET], join=[f"127.0.0.1:{first.ports.gossip}"])
    wait_until(lambda: first.admin.statuses() == {"n1": "active", "n2": "active"}, "both nodes at n1")
    url = f"http://127.0.0.1:{first.ports.admin}"
    path = "/status/cluster/nodes/local?forward=n2"
    assert scene.curl(first.ports.admin, path, token=READER).json["id"] == "n2"
    assert scene.curl(first.ports.admin, path).status == 401
    assert b"pico_auth_total" in scene.curl(first.ports.admin, "/metrics?forward=n2", token=READER).body
    done = picoctl("agents", "--json", PICO_ADMIN=url, PICO_TOKEN=READER)
    assert done.returncode == 0 and json.loads(done.stdout)["unanswered"] == {}
    done = picoctl("status", "--forward", "n2", PICO_ADMIN=url, PICO_TOKEN=READER)
    assert (done.returncode, "node n2 is ready" in done.stdout) == (0, True)
    assert not logged(second, reason="signature")


def test_without_secrets_nodes_ask_nobody(scene: Scene) -> None:
    """And it is said why, at whichever node the operator asks."""
    first = scene.node("n1")
    scene.node("n2", join=[f"127.0.0.1:{first.ports.gossip}"])
    wait_until(lambda: first.admin.statuses() == {"n1": "active", "n2": "active"}, "both nodes at n1")
    answered = scene.curl(first.ports.admin, "/metrics?forward=n2", token=READER)
    assert (answered.status, "cluster.secrets" in answered.json["error"]) == (502, True)
    done = picoctl("agents", PICO_ADMIN=f"http://127.0.0.1:{first.ports.admin}", PICO_TOKEN=READER)
    assert "node n2 is missing" in done.stdout and "cluster.secrets" in done.stdout


def test_workers_of_a_host(scene: Scene) -> None:
    """Whichever of them takes a connection: a token counts, a login too, and a reload is done by all."""
    flags = [f"--admin.auth.tokens-file={scene.tokens}"]
    host = scene.stage.add(Host(scene.stage.directory, *flags))
    host.admin.token = READER
    host.up()
    host.wait_nodes()
    admin = host.ports.admin
    jar, own = str(scene.stage.directory / "jar"), f"origin: http://127.0.0.1:{admin}"
    assert scene.curl(admin, "/login", "-c", jar, "-H", own, "-d", f"token={OPERATES}").status == 303
    for _ in range(12):
        assert scene.curl(admin, "/status/cluster/nodes", "-b", jar).status == 200
        assert scene.curl(admin, "/status/cluster/nodes").status == 401
        assert scene.curl(admin, "/status/cluster/nodes/local?forward=host-w1", token=READER).json["id"] == "host-w1"
    assert b"pico_workers_answering 2" in scene.curl(admin, "/metrics", token=READER).body
    assert scene.curl(admin, "/reload", "-X", "POST", token=READER).status == 403
    assert scene.curl(admin, "/reload", "-X", "POST", token=OPERATES).status == 200
    assert scene.curl(admin, "/logout", "-X", "POST", "-b", jar, "-H", own).status == 303
    assert {scene.curl(admin, "/metrics", "-b", jar).status for _ in range(12)} == {401}


def test_an_agent(scene: Scene, short: Path) -> None:
    """Its admin port asks in the same way, and takes another file with a reload; its Unix socket asks nobody."""
    service = Service()
    node, port = scene.stage.node("n1"), free_port()
    settings = {"admin": {"bind_addr": f"127.0.0.1:{port}", **scene.auth}}
    try:
        agent = scene.stage.agent(node, {"web": service.address}, settings, env={"RUNTIME_DIRECTORY": str(short)})
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: scene.curl(port, "/ready").status == 200, "the agent")
        assert scene.curl(port, "/metrics").status == 401
        assert scene.curl(port, "/status", "-H", "host: evil.example", token=READER).status == 421
        done = picoctl("status", PICO_ADMIN=url, PICO_TOKEN=READER)
        assert (done.returncode, "web" in done.stdout) == (0, True)
        assert picoctl("reload", PICO_ADMIN=url, PICO_TOKEN=READER).returncode == 3
        scene.write(operator="admin:operate")
        assert picoctl("reload", PICO_ADMIN=url, PICO_TOKEN=OPERATES).returncode == 0
        assert scene.curl(port, "/metrics", token=READER).status == 401
        assert picoctl("reload", PICO_ADMIN=f"unix:{short}/admin").returncode == 0
        assert "operator" in agent.output
    finally:
        service.close()


def test_a_broken_file(scene: Scene) -> None:
    """Stops a start, with its line, and is not taken by a reload."""
    node = scene.node("n1")
    scene.tokens.write_text("operator sha256:abc admin:operate\n")
    done = picoctl("reload", PICO_ADMIN=f"http://127.0.0.1:{node.ports.admin}", PICO_TOKEN=OPERATES)
    assert (done.returncode, "admin.auth.tokens_file" in done.stderr) == (1, True)
    assert scene.curl(node.ports.admin, "/metrics", token=READER).status == 200
