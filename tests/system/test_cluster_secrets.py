"""What only the nodes of one cluster know: who lacks it stays outside, and it can be replaced under load."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.system.asking import Asking
from tests.system.cluster import SECRET, Cluster, running_cluster
from tests.system.curl import curl
from tests.system.service import Service
from tools.stage.certificates import Tls
from tools.stage.nodes import Settings

THREE = ("n1", "n2", "n3")
OTHER = "another-secret-of-another-cluster"


def test_a_cluster_with_tls_and_secrets(tmp_path: Path, certificates: Tls, one: Service) -> None:
    """TLS on every port, mutual TLS and a secret between the nodes: each node serves what one holds."""
    settings: Settings = {
        "cluster": {"secrets": [SECRET], "tls": {**certificates.section, "ca": str(certificates.authority.ca)}}
    }
    with running_cluster(tmp_path, certificates, settings) as cluster:
        cluster.start(*THREE)
        cluster.agent(["n1"], {"web": one.address})
        cluster.wait_endpoint("n1", "web")
        for node in cluster.running():
            answer = curl(
                node.url("/", "localhost"), "-H", "x-pico-endpoint: web", directory=tmp_path, tls=certificates
            )
            assert (answer.status, answer.body) == (200, b"one")


def test_rotation_under_load(cluster: Cluster, one: Service) -> None:
    """Over SIGHUP, one node after the other: no request is lost, nobody is unreachable, the old secret is worthless."""
    cluster.start(*THREE, settings={"cluster": {"secrets": [SECRET]}})
    cluster.agent(["n1"], {"web": one.address})
    cluster.wait_endpoint("n1", "web")
    askings = [Asking([cluster[id].proxy], "web", clients=1) for id in ("n2", "n3")]
    for turn, secrets in enumerate(([SECRET, OTHER], [OTHER, SECRET], [OTHER]), 1):
        for node in cluster.running():
            node.write_settings({"cluster": {"secrets": secrets}})
            node.signal(signal.SIGHUP)
            node.wait_count("Configuration reloaded", turn)
            for asking in askings:
                asking.wait_more(5)
    outsider = {"cluster": {"secrets": [SECRET], "join": [cluster.gossip_address("n1")], "join_timeout": "1s"}}
    late = {"cluster": {"secrets": [OTHER], "join": [cluster.gossip_address("n1")]}}
    cluster.launch("n4", late).wait_ready()
    cluster.wait_all((*THREE, "n4"))
    assert cluster.launch("n5", outsider).wait_exit() == 1
    for asking in askings:
        asking.check()
    for node in cluster.running():
        assert not [record for record in node.records if record.get("status") == "unreachable"]
        assert "n5" not in node.admin.statuses()


WRONG_SECRET = "sealed with a secret that this node does not have, or not sealed though it must be"
WRONG_NAME = "it is of another cluster"


@pytest.mark.parametrize(
    ("ours", "outsiders"),
    [
        (
            {"secrets": [SECRET]},
            [
                ({"secrets": [OTHER]}, WRONG_SECRET),
                ({}, WRONG_SECRET),
                ({"name": "x", "secrets": [SECRET]}, WRONG_NAME),
            ],
        ),
        ({}, [({"secrets": [OTHER]}, WRONG_SECRET), ({"name": "x"}, WRONG_NAME)]),
    ],
    ids=["with a secret", "without secrets"],
)
def test_outsiders(cluster: Cluster, ours: Settings, outsiders: list[tuple[Settings, str]]) -> None:
    """Who has another secret, none, one too many, or another cluster name never appears; both sides log why.

    It ends with status 1, since it could not join.
    """
    cluster.start("n1", "n2", settings={"cluster": ours})
    joins = [cluster.gossip_address(id) for id in ("n1", "n2")]
    for number, (theirs, _) in enumerate(outsiders):
        settings = {**theirs, "join": joins, "join_timeout": "3s"}
        cluster.launch(f"x{number}", {"cluster": settings})
    for number, (_, reason) in enumerate(outsiders):
        outsider = cluster.nodes[f"x{number}"]
        assert outsider.wait_exit() == 1
        assert "could not join" in outsider.output
        cluster["n1"].wait_output(reason)
    for id in ("n1", "n2"):
        assert cluster[id].admin.statuses() == {"n1": "active", "n2": "active"}
        assert cluster[id].admin.metric("pico_gossip_dropped_total") > 0


def test_a_secret_in_a_file(cluster: Cluster, tmp_path: Path) -> None:
    """It counts as one of the configuration, and is read again on SIGHUP."""
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    cluster.start("n1", settings={"cluster": {"secrets": [SECRET]}})
    join = [cluster.gossip_address("n1")]
    cluster.launch("n2", {"cluster": {"secret_files": [str(path)], "join": join}}).wait_ready()
    cluster.wait_all(("n1", "n2"))
    path.write_text(OTHER + "\n")
    cluster["n1"].write_settings({"cluster": {"secrets": [OTHER, SECRET]}})
    for id in ("n1", "n2"):
        cluster[id].signal(signal.SIGHUP)
        cluster[id].wait_output("Configuration reloaded")
    cluster.launch("n3", {"cluster": {"secrets": [OTHER], "join": join}}).wait_ready()
    cluster.wait_all(("n1", "n2", "n3"))


def test_the_warning_without_secrets(cluster: Cluster) -> None:
    """A node that others can reach and that asks for no secret says so at its start; nobody else does."""
    everywhere = {"gossip": {"bind_addr": "0.0.0.0:0"}}
    cases: dict[str, tuple[Settings, bool]] = {
        "ipv4": (everywhere, True),
        "both": ({"gossip": {"bind_addr": ":0"}}, True),
        "secret": ({**everywhere, "secrets": [SECRET]}, False),
        "loopback": ({}, False),
    }
    for id, (settings, _) in cases.items():
        cluster.launch(id, {"cluster": settings})
    for id, (_, warned) in cases.items():
        cluster[id].wait_output("is up")
        cluster.stop(id)
        assert ("No cluster.secrets" in cluster[id].output) is warned
