"""Files that change while a daemon runs: what can be used is used, what cannot is told once, and nothing waits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import capturedLogs

from pico_twisted.app.process.port_certificates import PortCertificates
from pico_twisted.app.process.watching import FileWatch
from pico_twisted.config import NodeConfig
from pico_twisted.config.load import load_node
from tests.conftest import LoggedFailures
from tools.stage.certificates import make


class Calls:
    """A reactor that calls at once."""

    def callFromThread(self, function: Callable[..., Any], *arguments: Any) -> None:
        function(*arguments)


@pytest.fixture
def config(tmp_path: Path) -> NodeConfig:
    """Of a node with a certificate for two of its ports."""
    flags: dict[str, str | list[str]] = {}
    for port in ("proxy", "admin"):
        made = make(tmp_path, port)
        flags |= {f"{port}.tls.cert": made.cert_file, f"{port}.tls.key": made.key_file}
    return load_node(None, flags)


class Watched:
    """The certificates of a node, and their watch, which looks when a test says so."""

    def __init__(self, config: NodeConfig) -> None:
        self.certificates = PortCertificates()
        for name in ("proxy", "admin"):
            self.certificates.start(name, getattr(config, name).tls)
        self.watch = FileWatch(Calls(), self.certificates.files, self.certificates.read_again)  # type: ignore[arg-type]
        self.watch._taken = self.watch._seen = self.watch._stamps()

    def look(self, times: int = 2) -> list[str]:
        """What the log says to some looks."""
        with capturedLogs() as events:
            for _ in range(times):
                self.watch.look()
        return [str(event.get("change", event.get("fault"))) for event in events]

    def days(self) -> list[float]:
        """When the certificates in use expire."""
        (family,) = self.certificates.expiry()
        return [sample.value for sample in family.samples]


def test_a_renewed_certificate(config: NodeConfig, tmp_path: Path) -> None:
    """It is used from the second look on, and told with its last day; nothing is told of files that stay."""
    watched = Watched(config)
    before = watched.days()
    assert watched.look() == []
    make(tmp_path, "proxy", days=(-1, 30))
    assert watched.look(1) == []
    (line,) = watched.look(3)
    assert line.startswith("proxy certificate until 2")
    after = watched.days()
    assert after[0] > before[0]
    assert after[1] == before[1]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: (path / "proxy.pem").write_text("-----BEGIN CERTIFICATE-----\nMIIB"), "damaged certificate"),
        (lambda path: (path / "proxy.pem").unlink(), "cannot be read"),
        (lambda path: make(path, "proxy", days=(-9, -1)), "expired on"),
        (lambda path: os.replace(make(path, "other").key_file, path / "proxy.key"), "is not the key of"),
    ],
    ids=["half-written", "gone", "expired", "of another key"],
)
def test_one_that_is_no_good(config: NodeConfig, tmp_path: Path, spoil: Callable[[Path], object], words: str) -> None:
    """It is told once, the one before stays, another port takes its own, and one that is good again is taken."""
    watched = Watched(config)
    before = watched.days()
    spoil(tmp_path)
    make(tmp_path, "admin", days=(-1, 30))
    changed, told = watched.look(6)
    assert changed.startswith("admin certificate")
    assert told.startswith("proxy.tls: found")
    assert words in told
    assert watched.days()[0] == before[0]
    make(tmp_path, "proxy", days=(-1, 30))
    (changed,) = watched.look(3)
    assert changed.startswith("proxy certificate")


def test_one_that_is_linked_anew(config: NodeConfig, tmp_path: Path) -> None:
    """A file that is a link to the newest one, as some programs keep them, has changed when the link has."""
    first, second = make(tmp_path, "first"), make(tmp_path, "second", days=(-1, 40))
    link = tmp_path / "live"

    def point(made: str) -> None:
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / made)

    point("one")
    for name, made in (("one", first), ("two", second)):
        directory = tmp_path / name
        directory.mkdir()
        os.replace(made.cert_file, directory / "cert.pem")
        os.replace(made.key_file, directory / "key.pem")
    linked = load_node(
        None,
        {
            **{f"admin.tls.{key}": getattr(config.admin.tls, key) for key in ("cert", "key")},
            **{f"proxy.tls.{key}": str(link / f"{key}.pem") for key in ("cert", "key")},
        },
    )
    watched = Watched(linked)
    point("two")
    (changed,) = watched.look(3)
    assert changed.startswith("proxy certificate")


def test_a_reload_meanwhile(config: NodeConfig, tmp_path: Path) -> None:
    """What was read of the files of an earlier configuration does not take the place of those of a later one."""
    watched = Watched(config)
    make(tmp_path, "proxy", days=(-1, 30))
    take, faults = watched.certificates.read_again()
    assert list(faults) == []
    made = make(tmp_path, "later", days=(-1, 50))
    later = load_node(None, {"proxy.tls.cert": made.cert_file, "proxy.tls.key": made.key_file})
    list(watched.certificates.prepare(later)())
    days = watched.days()
    assert list(take()) == []
    assert watched.days() == days


def test_a_fault_of_ours(logged_failures: LoggedFailures) -> None:
    """A bug in what reads ends neither the watch nor its thread."""

    def read() -> tuple[Callable[[], Iterable[str]], Iterable[str]]:
        raise RuntimeError

    watch = FileWatch(Calls(), lambda: ["/dev/null"], read)  # type: ignore[arg-type]
    with capturedLogs() as events:
        for _ in range(3):
            watch.look()
    assert [event["log_format"] for event in events] == ["Files could not be read again"] * 2
    assert len(logged_failures.flush(RuntimeError)) == 2
