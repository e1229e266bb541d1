"""picoctl against a real node, plain and over TLS."""

from __future__ import annotations

import json
from typing import Any

from pico_twisted import __version__
from tests.ctl.harness import Done, picoctl
from tests.system.stack import Stack
from tools.stage.waiting import wait_until


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

    def shows_all() -> bool:  # what another test took away may be on its way to the node
        return bool(ask_json(stack, "status", "nodes") == admin.json("/status/cluster/nodes"))

    wait_until(shows_all, "picoctl to show the nodes as the admin port does")
    assert ask_json(stack, "status", "node", "node-1") == admin.json("/status/cluster/nodes/local")
    assert ask_json(stack, "status", "node", "local", "--forward", "node-1")["endpoints"] == admin.endpoints()
    assert ask_json(stack, "status")["ready"] is True
    done = ask(stack, "status")
    assert done.returncode == 0
    assert done.stdout.startswith("node node-1 is ready\n")
    assert f"127.0.0.1:{stack.node.ports.proxy}" in done.stdout
    shown = ask(stack, "status", "endpoints").stdout  # all of them, where `status` shows the first
    assert all(endpoint in shown for endpoint in stack.registrations())


def test_who_serves_what(stack: Stack) -> None:
    """Whichever node is asked: the endpoints of the cluster with the nodes that hold them, and their agents with
    address, version and round trip."""
    holder = stack.agents_node.name
    held = ask_json(stack, "status", "endpoints")
    assert set(held) >= set(stack.registrations())
    assert {id for nodes in held.values() for id in nodes} == {holder}
    told = ask_json(stack, "agents")
    assert told["unanswered"] == {}
    endpoint = next(iter(stack.registrations()))
    (session,) = ask_json(stack, "endpoint", endpoint)["sessions"]
    assert session["agent"] in {one["agent"] for one in told["sessions"]}
    assert (session["endpoint"], session["node"], session["version"]) == (endpoint, holder, __version__)
    assert session["address"].startswith("127.0.0.1:") and session["since_s"] >= 0
    done = ask(stack, "endpoint", "nobody")
    assert done.returncode == 1 and done.stdout.startswith("no agent serves nobody\n")


def test_no(stack: Stack) -> None:
    """A node that nobody knows is a no."""
    done = ask(stack, "status", "node", "nobody")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "picoctl: no such node\n")
