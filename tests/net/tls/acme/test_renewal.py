"""When certificates are ordered: on a clock of the test's own, from a server that answers at once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.logger import capturedLogs

from pico_twisted.config.tls import AcmeConfig
from pico_twisted.net.tls.acme.order import ElsewhereError, OrderError
from pico_twisted.net.tls.acme.renewal import ELSEWHERE_S, LOOK_S, MOST_S, REFUSED_S, _Certificate, renewal_time
from pico_twisted.net.tls.acme.storage import Storage
from tools.stage.certificates import make


class Server:
    """What is asked for certificates."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._issuer = make(directory, "issuer", authority=True)
        self.orders = 0
        self.fault: OrderError | None = None
        self.suggests: datetime | None = None
        self.days = (-1, 89)

    def order(self, publish: object) -> bytes:
        self.orders += 1
        if self.fault is not None:
            raise self.fault
        made = make(self._directory, "made", issuer=self._issuer, names=("pico.example",), days=self.days)
        return Path(made.key_file).read_bytes() + Path(made.cert_file).read_bytes()

    def renewal_time(self, certificate: object) -> datetime | None:
        if self.fault is not None:
            raise self.fault
        return self.suggests


class Bench:
    """One certificate, and what the log says."""

    def __init__(self, directory: Path) -> None:
        self.config = AcmeConfig(
            names=("pico.example",), agree_tos=True, storage=str(directory / "acme"), directory="https://ca.example/dir"
        )
        self.storage = Storage(self.config)
        self.storage.prepare()
        self.server = Server(directory)
        self.again()

    def again(self) -> None:
        """As after a restart."""

        def tell(line: Callable[[], None]) -> None:
            line()

        server: Any = self.server
        self.certificate = _Certificate(self.config, "pico/test", lambda answers: True, tell)
        self.certificate._server = server

    def look(self, *, at_once: bool = True) -> tuple[float, list[str]]:
        """Seconds to the next look, and the lines of this one."""
        if at_once:
            self.certificate._next_at = 0.0
        with capturedLogs() as events:
            wait_s = self.certificate.look()
        return wait_s, [str(event["log_format"]).format(**event) for event in events]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_at_the_start(bench: Bench) -> None:
    """The node's own certificate is replaced at once; with one that is good nothing is ordered."""
    assert bench.storage.certificate() is None
    _, lines = bench.look()
    assert [line.partition(" until ")[0] for line in lines] == [
        "A certificate for pico.example is ordered",
        "A certificate for pico.example",
    ]
    assert bench.storage.certificate() is not None
    bench.again()
    assert bench.look() == (LOOK_S, [])
    assert bench.server.orders == 1


def test_behind_two_thirds_of_its_life(bench: Bench) -> None:
    """Then the next one is ordered, and what is there is used until it has come."""
    bench.server.days = (-61, 29)
    bench.look()
    old = bench.storage.certificate()
    bench.server.fault = OrderError("away", refused=False)
    bench.look()
    assert bench.storage.certificate() == old
    bench.server.fault = None
    bench.server.days = (-1, 89)
    bench.look()
    assert bench.storage.certificate() != old
    assert bench.server.orders == 3


def test_each_has_its_own_time(tmp_path: Path) -> None:
    """Certificates that were made together are not renewed together, and none later than behind two thirds."""
    made = [make(tmp_path, "made", days=(0, 90)).cert for _ in range(20)]
    days = [(renewal_time(one) - one.not_valid_before_utc) / timedelta(days=1) for one in made]
    assert 55 < min(days) < max(days) <= 60
    assert len(set(days)) == 20


@pytest.mark.parametrize(("refused", "least_s", "most_s"), [(False, 30, 60), (True, REFUSED_S, REFUSED_S)])
def test_failures(bench: Bench, refused: bool, least_s: float, most_s: float) -> None:
    """The next attempt is not made before its time, which is told; it is later behind each failure, and behind a
    refusal late enough that the server does not refuse for the number of attempts."""
    bench.server.fault = OrderError("no", refused=refused)
    wait_s, lines = bench.look()
    assert least_s <= wait_s <= most_s
    assert lines[-1] == f"No certificate for pico.example: no. Next attempt in {round(wait_s)} s"
    assert bench.look(at_once=False)[0] <= wait_s
    assert bench.server.orders == 1
    for _ in range(12):
        bench.storage.hold(0.0)
        wait_s, _ = bench.look()
    assert MOST_S / 2 <= wait_s <= MOST_S


def test_another_node_orders(bench: Bench) -> None:
    """That is no failure: it is tried again soon, and nothing is said."""
    bench.server.fault = ElsewhereError()
    wait_s, lines = bench.look()
    assert ELSEWHERE_S[0] <= wait_s <= ELSEWHERE_S[1]
    assert lines == ["A certificate for pico.example is ordered"]


def test_what_the_server_wants(bench: Bench) -> None:
    """A limit of the server is kept, also over a restart; who has mended the fault can have it tried at once."""
    bench.server.fault = OrderError("rateLimited: too many", retry_after_s=7200.0)
    wait_s, _ = bench.look()
    assert wait_s == 7200.0
    bench.again()
    bench.server.fault = None
    wait_s, (line,) = bench.look()
    assert 7000 < wait_s <= 7200
    assert bench.storage.hold_file in line
    assert bench.look()[1] == []
    assert bench.server.orders == 1
    Path(bench.storage.hold_file).unlink()
    bench.look()
    assert bench.storage.certificate() is not None


def test_a_hold_that_makes_no_sense(bench: Bench) -> None:
    """It holds nothing, or a week at most."""
    for text, most_s in (("soon", 0), (str(time.time() + 1e9), 8 * 24 * 3600.0)):
        Path(bench.storage.hold_file).write_text(text)
        assert bench.storage.hold_until() <= time.time() + most_s


def test_whose_files_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a start with privileges makes belongs to whom the directory above it belongs to: who renews has none."""
    given: dict[str, tuple[int, int]] = {}
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda made, uid, gid: given.update({str(made): (uid, gid)}))
    bench = Bench(tmp_path)
    owner = tmp_path.stat()
    assert set(given.values()) == {(owner.st_uid, owner.st_gid)}
    assert {str(tmp_path / "acme"), bench.storage.directory} == given.keys()


def test_two_processes(bench: Bench) -> None:
    """While one orders, others wait; then they find what it has ordered."""
    with bench.storage.ordering() as alone:
        assert alone
        wait_s, _ = bench.look()
        assert bench.server.orders == 0
        bench.storage.keep_certificate(bench.server.order(None))
    assert wait_s < LOOK_S
    bench.look()
    assert bench.server.orders == 1


def test_other_names(bench: Bench) -> None:
    """A certificate that is not for all names is not good, nor is one that is damaged, or has no key."""
    bench.look()
    for content in (
        b"",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        make(Path(bench.storage.directory), "x", names=("other.example",)).cert.public_bytes(Encoding.PEM),
    ):
        bench.storage.keep_certificate(content)
        assert bench.storage.certificate() is None
    bench.look()
    own = bench.storage.certificate()
    assert isinstance(own, x509.Certificate)


def test_what_the_server_suggests(bench: Bench) -> None:
    """It is asked a few times a day, and may want a certificate renewed sooner, or a little later."""
    bench.look()
    bench.server.suggests = datetime.now(UTC) - timedelta(hours=1)
    bench.again()
    bench.look()
    assert bench.server.orders == 2
    bench.server.suggests = datetime.now(UTC) + timedelta(days=3000)
    bench.again()
    assert bench.look() == (LOOK_S, [])
    assert bench.server.orders == 2
