"""picoctl snapshot of a real cluster, and status and agents that name what needs somebody."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pico_twisted.ctl.snapshot.archive import ABOUT, read
from pico_twisted.ctl.snapshot.taking import CLUSTER, NODE
from tests.ctl.harness import picoctl
from tests.system.cluster import SECRET, running_cluster
from tests.system.requesting import client_of
from tests.system.service import Service


def test_a_cluster(tmp_path: Path, one: Service) -> None:
    """All that is asked for is there, of each node, and no secret; what changes meanwhile is what the comparison shows.

    `picoctl status` names the same first.
    """
    tokens = tmp_path / "tokens"
    token = picoctl("token", "create", "ci", "--rule", "listen:web", "--file", str(tokens)).stdout.strip()
    settings = {"cluster": {"secrets": [SECRET]}, "upstream": {"auth": {"tokens_file": str(tokens)}}}
    with running_cluster(tmp_path, settings=settings) as cluster:
        cluster.start("n1", "n2")
        cluster.agent(["n2"], {"web": one.address}, settings={"connect": {"token": token}})
        cluster.wait_endpoint("n2", "web")
        admin = ("--admin", f"http://127.0.0.1:{cluster['n1'].ports.admin}")
        client = client_of(cluster.stage, cluster["n1"])
        client.send(b"GET /?token=of-a-client HTTP/1.1\r\nHost: nobody.x\r\n\r\n")
        assert client.response_head().status == 502
        client.close()
        before, after = str(tmp_path / "before.tar.gz"), str(tmp_path / "after.tar.gz")
        done = picoctl("snapshot", *admin, before)
        assert (done.returncode, done.stderr) == (0, ""), done
        found = read(before)
        assert found.mapping(ABOUT)["missing"] == {}
        assert found.parts.keys() == {
            ABOUT, "doctor.json", *CLUSTER, *(f"nodes/{id}/{name}" for id in ("n1", "n2") for name in NODE)
        }  # fmt: skip
        assert found.nodes("configuration.json")["n2"]["cluster.secrets"] == "1 (hidden)"
        assert [row["error"] for row in found.mapping("failed.json")["rows"]] == ["no-upstreams"]
        text = json.dumps(dict(found.parts))
        assert not any(secret in text for secret in (SECRET, token, "of-a-client"))

        assert picoctl("cordon", "n2", *admin).returncode == 0
        cluster["n2"].write_settings({"log": {"level": "debug"}})
        assert picoctl("reload", "--admin", f"http://127.0.0.1:{cluster['n2'].ports.admin}").returncode == 0
        assert picoctl("snapshot", after, *admin).returncode == 0
        changed: dict[str, Any] = json.loads(picoctl("snapshot", "compare", before, after, "--json").stdout)
        assert "  n2 intake: nothing -> cordoned" in changed["nodes"]
        assert changed["configuration"] == ["  n2 log.level: info -> debug"]
        done = picoctl("status", *admin)
        assert done.stdout.splitlines()[1] == "! node n2 is cordoned: picoctl uncordon n2 puts it back"
