"""The files of Unix sockets that ports listen on."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pico_twisted.net.socket import socket_files
from pico_twisted.net.socket.socket_files import SocketFile, bind_socket


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("wanted", [0o600, 0o660, 0o666, 0o777])
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_the_permissions_are_those_that_were_asked_for(tmp_path: Path, wanted: int, mask: int) -> None:
    """From the first moment, whatever the mask of the process is, and that is as before behind it."""
    before = os.umask(mask)
    try:
        sock, file = bind_socket(str(tmp_path / "s"), wanted, 10)
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    with sock:
        assert mode(tmp_path / "s") == wanted
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "s"))
    file.remove()
    assert not (tmp_path / "s").exists()


def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    """Nobody listens at the file, so it is in nobody's way."""
    sock, _ = bind_socket(str(tmp_path / "s"), 0o660, 10)
    sock.close()
    again, file = bind_socket(str(tmp_path / "s"), 0o600, 10)
    with again, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))
    file.remove()


@pytest.mark.parametrize("full", [False, True])
def test_a_process_that_lives_is_left_alone(tmp_path: Path, full: bool) -> None:
    """Also one whose queue is full; its file stays."""
    sock, file = bind_socket(str(tmp_path / "s"), 0o660, 0)
    clients = []
    while full:
        clients.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
        full = clients[-1].connect_ex(str(tmp_path / "s")) == 0
    with sock, pytest.raises(OSError, match="another process listens there"):
        bind_socket(str(tmp_path / "s"), 0o660, 10)
    assert (tmp_path / "s").exists()
    for client in clients:
        client.close()
    file.remove()


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    """A path that was meant for something else, and a link to one."""
    (tmp_path / "s").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "s")
    for name in ("s", "link"):
        with pytest.raises(OSError, match="no socket"):
            bind_socket(str(tmp_path / name), 0o660, 10)
    assert (tmp_path / "s").read_text() == "precious"
    with pytest.raises(OSError, match="No such file"):
        bind_socket(str(tmp_path / "none" / "s"), 0o660, 10)


def test_a_file_that_another_process_put_there_is_not_removed(tmp_path: Path) -> None:
    """Whoever came after us keeps it; and to remove ours twice does nothing."""
    sock, file = bind_socket(str(tmp_path / "s"), 0o660, 10)
    sock.close()
    (tmp_path / "s").rename(tmp_path / "old")
    later, later_file = bind_socket(str(tmp_path / "s"), 0o660, 10)
    file.remove()
    file.remove()
    assert (tmp_path / "s").exists()
    later.close()
    later_file.remove()
    assert not (tmp_path / "s").exists()
    SocketFile(str(tmp_path / "never")).remove()


def test_two_that_start_at_once(tmp_path: Path) -> None:
    """The second one waits until the first one listens, and is refused then: it replaces no socket that is in use."""
    lock = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with ThreadPoolExecutor(1) as threads:
        second = threads.submit(bind_socket, str(tmp_path / "s"), 0o660, 10)
        with socket.socket(socket.AF_UNIX) as first:
            first.bind(str(tmp_path / "s"))
            assert not second.done()
            first.listen()
            os.close(lock)
            with pytest.raises(OSError, match="another process listens there"):
                second.result()


def test_who_keeps_the_lock_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may lock a directory that he can read, for as long as he likes."""
    monkeypatch.setattr(socket_files, "TURN_S", 0.02)
    lock = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    sock, file = bind_socket(str(tmp_path / "s"), 0o660, 10)
    sock.close()
    file.remove()
    os.close(lock)
