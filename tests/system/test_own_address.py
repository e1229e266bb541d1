"""The address that a node tells others, in network namespaces with other interfaces and routes than ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tools.stage.processes import ROOT, environment
from tools.stage.waiting import PATIENCE_S

_ASK = (
    "import json, sys\n"
    "from pico_twisted.app.process.own_address import own_ip\n"
    "towards, ipv4_only = json.loads(sys.argv[1])\n"
    "print(own_ip(towards, ipv4_only=ipv4_only))\n"
)
_LOOPBACK = "ip link set lo up\n"
_ONE = "ip link add a0 type veth peer name a1; ip link set a0 up; ip link set a1 up\n"
_OTHER = "ip link add b0 type veth peer name b1; ip link set b0 up; ip link set b1 up\n"
_TWO = f"{_LOOPBACK}{_ONE}{_OTHER}ip addr add 10.1.0.5/24 dev a0; ip addr add 10.2.0.5/24 dev b0\n"
_SIX = f"{_LOOPBACK}{_ONE}ip addr add 2001:db8:1::5/64 dev a0 nodad\n"


def own_ip_in(setup: str, towards: Sequence[str] = (), *, ipv4_only: bool = False) -> str:
    """What `own_ip` says in a fresh network namespace after these shell commands."""
    unshare = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]
    question = json.dumps([list(towards), ipv4_only])
    done = subprocess.run(
        [*unshare, "sh", "-ec", f'{setup}\nexec "$@"', "sh", sys.executable, "-c", _ASK, question],
        cwd=ROOT,
        env=environment() | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_no_interface_but_loopback() -> None:
    """Then nobody else can reach it anyway."""
    assert own_ip_in(_LOOPBACK) == "127.0.0.1"
    assert own_ip_in("") == "127.0.0.1"


def test_an_interface_without_a_default_route() -> None:
    """Its address is found all the same; IPv4 is preferred."""
    setup = f"{_LOOPBACK}{_ONE}ip addr add 10.1.0.5/24 dev a0; ip addr add 2001:db8:1::5/64 dev a0 nodad\n"
    assert own_ip_in(setup) == "10.1.0.5"
    assert own_ip_in(setup, ["192.0.2.7"]) == "10.1.0.5"


def test_interfaces_that_are_down_do_not_count() -> None:
    """Their addresses are still listed by the kernel."""
    assert own_ip_in(_TWO) == "10.1.0.5"
    assert own_ip_in(f"{_TWO}ip link set a0 down\n") == "10.2.0.5"
    assert own_ip_in(f"{_TWO}ip link set a0 down; ip link set b0 down\n") == "127.0.0.1"


def test_the_default_route() -> None:
    """Without anybody to join, the way to the outside decides."""
    assert own_ip_in(f"{_TWO}ip route add default via 10.2.0.1\n") == "10.2.0.5"


@pytest.mark.parametrize(
    ("towards", "ip"),
    [
        (["10.1.0.9"], "10.1.0.5"),
        (["10.2.0.9"], "10.2.0.5"),
        (["10.2.0.9", "10.1.0.9"], "10.2.0.5"),
        (["10.9.9.9", "10.2.0.9"], "10.2.0.5"),
        (["2001:db8::1", "10.2.0.9"], "10.2.0.5"),
        (["no-such-name.invalid", "10.2.0.9"], "10.2.0.5"),
        (["10.1.0.5"], "10.1.0.5"),
    ],
)
def test_the_way_to_the_nodes_to_join(towards: list[str], ip: str) -> None:
    """The first that can be reached decides, also when it is this node itself."""
    assert own_ip_in(_TWO, towards) == ip


def test_a_cluster_on_one_machine() -> None:
    """Nodes that are joined by loopback are told a loopback address."""
    setup = f"{_TWO}ip route add default via 10.1.0.1\n"
    assert own_ip_in(setup, ["127.0.0.1"]) == "127.0.0.1"
    assert own_ip_in(setup, ["::1"]) == "::1"
    assert own_ip_in(setup, ["127.0.0.1", "127.0.0.1"]) == "127.0.0.1"


def test_a_name_of_its_own_that_is_loopback() -> None:
    """On Debian a machine's own name stands for 127.0.1.1 there; the others of the list decide."""
    assert own_ip_in(_TWO, ["127.0.1.1", "10.2.0.9"]) == "10.2.0.5"


def test_ipv6_alone() -> None:
    """Its global address; a link-local one is told to nobody."""
    assert own_ip_in(_SIX) == "2001:db8:1::5"
    assert own_ip_in(_SIX, ["2001:db8:1::9"]) == "2001:db8:1::5"
    assert own_ip_in(_SIX, ["fe80::9%a0"]) == "2001:db8:1::5"
    assert own_ip_in(f"{_LOOPBACK}{_ONE}") == "127.0.0.1"


def test_a_port_of_ipv4_needs_an_ipv4_address() -> None:
    """Whatever family the nodes to join have."""
    assert own_ip_in(f"{_SIX}ip addr add 10.1.0.5/24 dev a0\n", ["2001:db8:1::9"], ipv4_only=True) == "10.1.0.5"
    assert own_ip_in(_SIX, ["2001:db8:1::9"], ipv4_only=True) == "127.0.0.1"
