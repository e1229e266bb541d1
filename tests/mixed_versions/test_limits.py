"""What a listener lets through, behind a node of an earlier version."""

from __future__ import annotations

from pathlib import Path

import bcrypt

from tests.system.curl import curl
from tests.system.service import Service
from tools.stage.nodes import Settings
from tools.stage.stage import Stage


def test_a_listener_behind_an_earlier_node(earlier: str, tmp_path: Path, service: Service) -> None:
    """Whoever may come in does, others are told why, and a browser is asked for the password."""
    stage = Stage(tmp_path, None)
    users = tmp_path / "users"
    users.write_text(f"ann:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n")
    listeners: dict[str, str | int | Settings] = {
        "wiki": {"addr": service.address, "allow": ["127.0.0.0/8"], "basic_auth_file": str(users)},
        "remote": {"addr": service.address, "deny": ["127.0.0.0/8"]},
    }
    try:
        node = stage.node(prelude=earlier)
        stage.agent(node, listeners)
        got = [
            curl(node.url(), "-H", f"x-pico-endpoint: {endpoint}", "-u", login, directory=tmp_path)
            for endpoint, login in (("wiki", "ann:secret"), ("wiki", "ann:no"), ("remote", "ann:secret"))
        ]
        assert [one.status for one in got] == [200, 401, 403]
        assert got[1].headers["www-authenticate"].startswith("Basic realm=")
        assert [one.headers["x-pico-error"].partition("; ")[2] for one in got[1:]] == [
            "listener-login",
            "listener-address",
        ]
        assert stage.new_faults() == []
    finally:
        stage.close()
