"""Unix sockets in the configuration: where ports listen, whose word they take, and how nodes are reached there."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from pico_twisted.config import Address, ConfigFaults, NodeConfig, load_agent, load_node
from pico_twisted.config.port_kinds import FILE_MODE, FORWARD_PROXY
from pico_twisted.config.values import UNIX, is_trusted, read_node_url, read_port_address


def node(directory: Path, text: str) -> NodeConfig:
    """What a node's file gives."""
    path = directory / "pico.yaml"
    path.write_text(text)
    return load_node(str(path))


def test_where_a_port_listens() -> None:
    """`unix:/path` besides all that a port of TCP may be; it is nobody's interface, and has no number."""
    address = read_port_address("unix:/run/pico/proxy.sock")
    assert address == Address("", 0, "/run/pico/proxy.sock") == read_port_address(str(address))
    assert not address.is_all and str(address) == "unix:/run/pico/proxy.sock"
    assert read_port_address("unix:///run/p") == Address("", 0, "/run/p")
    assert read_port_address(":8000") == Address("", 8000)


@pytest.mark.parametrize("text", ["unix:", "unix:run/p", "unix:@name", "unix:/run/", "unix:8000", "unix:/" + 107 * "x"])
def test_no_file_of_a_socket(text: str) -> None:
    """A relative path, a directory, one that the kernel does not take; and a name without a file, which has no
    permissions, so that anybody on the machine could connect."""
    with pytest.raises(ValueError):
        read_port_address(text)


def test_a_name_that_is_too_long_is_told_as_such(tmp_path: Path) -> None:
    """Of a port, a service and a node: what is wrong with it cannot be seen otherwise."""
    path = "unix:/" + 107 * "x"
    told = "of a socket's name at most 107 bytes"
    with pytest.raises(ConfigFaults, match=told):
        node(tmp_path, f"proxy: {{bind_addr: '{path}'}}")
    with pytest.raises(ConfigFaults, match=rf"(?s)connect\.url.*{told}.*listeners\[0\]\.addr.*{told}"):
        load_agent(None, {"connect.url": path, "listen": [f"web={path}"]})


def test_all_ports_that_speak_http(tmp_path: Path) -> None:
    """Each with the permissions of its file; the gossip needs packets, and others that reach it."""
    config = node(
        tmp_path,
        """
        proxy: {bind_addr: 'unix:/run/p', socket_mode: 666, trusted_proxies: [unix, 10.0.0.0/8]}
        upstream: {bind_addr: 'unix:/run/u'}
        admin: {bind_addr: 'unix:/run/a', socket_mode: 0600}
        """,
    )
    assert (config.proxy.listen_addr.path, config.proxy.socket_mode) == ("/run/p", 0o666)
    assert (config.upstream.listen_addr.path, config.upstream.socket_mode) == ("/run/u", 0o660)
    assert (config.admin.listen_addr.path, config.admin.socket_mode) == ("/run/a", 0o600)
    with pytest.raises(ConfigFaults, match=r"gossip\.bind_addr"):
        node(tmp_path, "cluster: {gossip: {bind_addr: 'unix:/run/g'}}")


def test_two_ports_at_one_file(tmp_path: Path) -> None:
    """One would take the other's place."""
    with pytest.raises(ConfigFaults, match=r"upstream\.bind_addr.*another port than proxy\.bind_addr"):
        node(tmp_path, "{proxy: {bind_addr: 'unix:/run/p'}, upstream: {bind_addr: 'unix:/run/p'}}")


@pytest.mark.parametrize(("text", "mode"), [("660", 0o660), ("0600", 0o600), ("777", 0o777), ("000", 0)])
def test_permissions(text: str, mode: int) -> None:
    """As everybody writes them, in octal digits."""
    assert FILE_MODE.parse(text) == mode
    assert FILE_MODE.parse(FILE_MODE.to_text(mode)) == mode


@pytest.mark.parametrize("text", ["", "66", "6600", "680", "rw-", "-660", "0o660"])
def test_no_permissions(text: str) -> None:
    """Anything else is not guessed at."""
    with pytest.raises(ValueError):
        FILE_MODE.parse(text)


def test_who_is_trusted() -> None:
    """The word `unix` is for whoever comes over a socket, and for nobody else."""
    networks = (ipaddress.ip_network("10.0.0.0/8"),)
    assert is_trusted((UNIX, *networks), UNIX) and not is_trusted(networks, UNIX)
    for proxies in (networks, (UNIX, *networks)):
        assert is_trusted(proxies, "10.1.2.3") and not is_trusted(proxies, "11.1.2.3") and not is_trusted(proxies, "")


def test_an_agent_beside_its_node(tmp_path: Path) -> None:
    """The URL of a node may be a socket of the same machine."""
    assert read_node_url("unix:/run/u") == read_node_url("unix:///run/u") == "unix:/run/u"
    path = tmp_path / "agent.yaml"
    path.write_text("{connect: {url: 'unix:/run/u'}, listeners: [{endpoint: a, addr: 'unix:/run/s'}]}")
    assert load_agent(str(path)).connect.url == ("unix:/run/u",)


def test_a_proxy_is_never_shown() -> None:
    """It may hold a password."""
    assert FORWARD_PROXY.parse("http://ann:s3cret@proxy") == "http://ann:s3cret@proxy"
    assert FORWARD_PROXY.parse("None") == "none" and FORWARD_PROXY.parse("") == ""
    with pytest.raises(ValueError) as raised:
        FORWARD_PROXY.parse("socks5://ann:s3cret@proxy")
    assert "s3cret" not in str(raised.value)
