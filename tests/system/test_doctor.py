"""picoctl doctor at a real cluster in which something is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from tests.ctl.harness import picoctl
from tests.system.cluster import SECRET, running_cluster
from tests.system.service import Service
from tools.stage.certificates import Tls
from tools.stage.nodes import merged


def diagnosed(*arguments: str) -> tuple[int, dict[str, list[tuple[str, str]]]]:
    """The status, and of each check its colours and words."""
    done = picoctl("doctor", *arguments, "--as", "root", "--json")
    found: dict[str, list[tuple[str, str]]] = {}
    for line in json.loads(done.stdout):
        found.setdefault(line["check"], []).append((line["verdict"], line["words"]))
        assert line["verdict"] == "green" or line["cure"]
    return done.returncode, found


def test_tls(tmp_path: Path, certificates: Tls, one: Service) -> None:
    """The same over TLS everywhere: links are asked with the node's own certificate, agents' nodes with their
    authority; without that authority the line says so."""
    with running_cluster(tmp_path, certificates, {"cluster": {"secrets": [SECRET]}}) as cluster:
        cluster.start("n1", "n2")
        agent = cluster.agent(["n1"], {"web": one.address})
        admin = f"https://localhost:{cluster['n1'].ports.admin}"
        trusted = ("--admin", admin, "--ca", str(certificates.authority.ca))
        status, found = diagnosed(*trusted, "--config", str(cluster["n1"].config_path))
        assert status == 0 and colours(found["cluster.join"]) == {"green"}, found
        assert "certificates" in found and "red" not in colours(found["certificates"])
        status, found = diagnosed("--config", str(agent.config_path))
        assert (status, colours(found["connect.url"])) == (0, {"green", "yellow"}), found
        path = tmp_path / "stranger.yaml"
        settings = yaml.safe_load(agent.config_path.read_text())
        settings["connect"]["tls"] = {}
        path.write_text(yaml.safe_dump(settings))
        _, found = diagnosed("--config", str(path))
        assert "certificate is refused" in found["connect.url"][0][1], found


def colours(found: list[tuple[str, str]]) -> set[str]:
    return {colour for colour, _ in found}


def test_a_cluster(tmp_path: Path, one: Service) -> None:
    """All is green; then a node is drained and another one dead, and each has a line. A node with another secret, an
    agent with another token, and a service that does not run are found before anybody starts them."""
    tokens = tmp_path / "tokens"
    token = picoctl("token", "create", "ci", "--rule", "listen:web", "--file", str(tokens)).stdout.strip()
    settings = {
        "cluster": {"secrets": [SECRET]},
        "upstream": {"auth": {"tokens_file": str(tokens)}},
        "proxy": {"public_url": "http://*.localhost"},
    }
    with running_cluster(tmp_path, settings=settings) as cluster:
        cluster.start("n1", "n2", "n3")
        agent = cluster.agent(["n1", "n2"], {"web": one.address}, settings={"connect": {"token": token}})
        cluster.wait_endpoint(cluster.holders("web")[0], "web")
        admin = ("--admin", f"http://127.0.0.1:{cluster['n1'].ports.admin}")

        def file(name: str, of: Path, **changed: object) -> str:
            path = tmp_path / name
            path.write_text(yaml.safe_dump(merged(yaml.safe_load(of.read_text()), changed)))
            return str(path)

        url = f"http://*.localhost:{cluster['n1'].ports.proxy}"
        cluster["n1"].write_settings({"proxy": {"public_url": url}})
        assert picoctl("reload", *admin).returncode == 0
        node = cluster["n1"].config_path
        status, found = diagnosed(*admin, "--config", str(node))
        assert status == 0, found
        assert colours(found["cluster.join"]) == colours(found["public_url"]) == {"green"}, found
        assert len(found["cluster.join"]) == 3

        status, found = diagnosed("--config", str(agent.config_path))
        assert (status, colours(found["connect.url"]), colours(found["services"])) == (0, {"green"}, {"green"}), found
        before = cluster.holders("web")
        _, found = diagnosed("--config", file("a.yaml", agent.config_path, connect={"token": "t" * 30}))
        assert colours(found["token"]) == {"red"} and "401" in found["token"][0][1]
        other = [{"endpoint": "other", "addr": "127.0.0.1:1"}]
        _, found = diagnosed("--config", file("b.yaml", agent.config_path, listeners=other))
        assert "403" in found["token"][0][1] and colours(found["services"]) == {"red"}
        assert cluster.holders("web") == before and cluster.holders("other") == []

        _, found = diagnosed(*admin, "--config", file("c.yaml", node, cluster={"secrets": ["another-one-" * 3]}))
        assert colours(found["cluster.join"]) == {"red"}
        _, found = diagnosed(*admin, "--config", file("d.yaml", node, cluster={"name": "another"}))
        assert any("another name" in words for _, words in found["cluster.join"]), found

        assert picoctl("drain", "n2", *admin).returncode == 0
        cluster["n3"].kill()
        cluster.wait_status("n3", "unreachable")
        status, found = diagnosed(*admin)
        assert status == 1 and [colour for colour, _ in found["nodes"]] == ["yellow", "red"], found
