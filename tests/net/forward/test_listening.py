"""Where local programs connect to."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import maybeDeferred
from twisted.internet.protocol import Factory, Protocol

from pico_twisted.net.forward.listening import CannotListen, Local, TcpLocal, UnixLocal, listen
from tests.net.in_reactor import in_reactor, reactor

FACTORY: Any = Factory.forProtocol(Protocol)
"""Nobody looks at its protocols, whose type Twisted would have to know."""


async def listened(local: Local) -> Local:
    """Listen, and stop again; where it was."""
    port, found = listen(reactor, local, FACTORY)
    await maybeDeferred(port.stopListening)
    return found


@in_reactor
async def test_port_0_is_any_free_one() -> None:
    """The number that it got is told."""
    found = await listened(TcpLocal("127.0.0.1", 0))
    assert isinstance(found, TcpLocal)
    assert found.port > 0
    assert found.is_loopback


@pytest.mark.parametrize(("host", "loopback"), [("127.0.0.1", True), ("::1", True), ("0.0.0.0", False), ("::", False)])
def test_who_can_reach_an_address_is_known(host: str, loopback: bool) -> None:
    """Only this machine reaches its loopback addresses."""
    assert TcpLocal(host, 1).is_loopback is loopback


@in_reactor
async def test_an_address_that_is_taken_is_told() -> None:
    """With the reason of the system."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = TcpLocal("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(CannotListen, match=f"cannot listen on {address}: Address already in use"):
            await listened(address)


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a unix socket that is not there."""
    return tmp_path_factory.mktemp("s") / "db"


@in_reactor
async def test_a_unix_socket_is_for_its_user_alone(path: Path) -> None:
    """Whatever the umask: its mode is 0600, and it is gone when nobody listens any more."""
    before = os.umask(0)
    try:
        port, _ = listen(reactor, UnixLocal(str(path)), FACTORY)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    await maybeDeferred(port.stopListening)
    assert os.listdir(path.parent) == []


@in_reactor
async def test_a_socket_that_was_left_is_replaced(path: Path) -> None:
    """A process that was killed leaves its socket; the next one listens all the same."""
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()

    port, _ = listen(reactor, UnixLocal(str(path)), FACTORY)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    await maybeDeferred(port.stopListening)


def test_a_socket_that_lives_is_left_alone(path: Path) -> None:
    """Nobody's connections are stolen."""
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(path))
        alive.listen()
        with pytest.raises(CannotListen, match="another process listens there"):
            listen(reactor, UnixLocal(str(path)), FACTORY)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_file_is_left_alone(path: Path) -> None:
    """What is no socket is somebody's data."""
    path.write_text("data")
    with pytest.raises(CannotListen, match="there is a file that is no socket"):
        listen(reactor, UnixLocal(str(path)), FACTORY)
    assert path.read_text() == "data"


def test_a_directory_that_is_not_there_is_told(path: Path) -> None:
    """With the reason of the system."""
    with pytest.raises(CannotListen, match="No such file or directory"):
        listen(reactor, UnixLocal(str(path / "deeper")), FACTORY)
