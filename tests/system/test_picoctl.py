"""picoctl against a real node, plain and over TLS."""

from __future__ import annotations

import json
from typing import Any

from tests.ctl.harness import Done, picoctl
from tests.system.stack import Stack


def ask(stack: Stack, *arguments: str) -> Done:
    """Run picoctl for the stack's node."""
    scheme = "https" if stack.tls else "http"
    trust = ["--ca", str(stack.tls.authority.ca)] if stack.tls else []
    return picoctl(*arguments, "--admin", f"{scheme}://127.0.0.1:{stack.node.ports.admin}", *trust)


def ask_json(stack: Stack, *arguments: str) -> Any:
    done = ask(stack, *arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_status(stack: Stack) -> None:
    """What picoctl shows is what the admin port says."""
    admin = stack.node.admin
    assert ask_json(stack, "status", "nodes") == admin.json("/status/cluster/nodes")
    assert ask_json(stack, "status", "node", "node-1") == admin.json("/status/cluster/nodes/local")
    assert ask_json(stack, "status", "endpoints", "--forward", "node-1") == admin.endpoints()
    assert ask_json(stack, "status")["ready"] is True
    done = ask(stack, "status")
    assert done.returncode == 0
    assert done.stdout.startswith("node node-1 is ready\n")
    assert f"127.0.0.1:{stack.node.ports.proxy}" in done.stdout
    for endpoint in admin.endpoints():
        assert endpoint in done.stdout


def test_no(stack: Stack) -> None:
    """A node that nobody knows is a no."""
    done = ask(stack, "status", "node", "nobody")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "picoctl: no such node\n")
