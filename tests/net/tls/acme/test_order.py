"""Orders at an ACME server that does all that it should, or something else."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import attrs
import pytest
from cryptography import x509

from pico_twisted.config.pem import load_pair
from pico_twisted.config.tls import AcmeConfig
from pico_twisted.net.tls.acme import order as acme_order
from pico_twisted.net.tls.acme.challenges import HTTP_01, challenge_key
from pico_twisted.net.tls.acme.order import AcmeServer, ElsewhereError, OrderError
from pico_twisted.net.tls.acme.storage import Storage
from tools.stage.acme import AcmeStage

NAMES = ("pico.example", "www.pico.example")


class Answers:
    """A web server that answers challenges as nodes do."""

    def __init__(self) -> None:
        self.told: dict[str, str] = {}
        self.elsewhere = False
        answers = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = answers.told.get(challenge_key(HTTP_01, self.path.rpartition("/")[2]), "")
                self.send_response(200 if found else 404)
                self.end_headers()
                self.wfile.write(found.encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def publish(self, told: dict[str, str]) -> bool:
        if self.elsewhere and told:
            return False
        self.told = told
        return True


@pytest.fixture
def answers() -> Iterator[Answers]:
    found = Answers()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def stage(tmp_path: Path, answers: Answers) -> Iterator[AcmeStage]:
    """The ACME server."""
    found = AcmeStage(tmp_path, http_port=answers.server.server_address[1])
    yield found
    found.close()


@pytest.fixture
def config(stage: AcmeStage, tmp_path: Path) -> AcmeConfig:
    return AcmeConfig(
        names=NAMES,
        directory=f"{stage.url}/directory",
        ca=stage.ca,
        agree_tos=True,
        storage=str(tmp_path / "acme"),
        challenge="http-01",
        email="operator@pico.example",
    )


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library waits a second before it asks again."""
    wait = time.sleep
    monkeypatch.setattr("acme.client.time.sleep", lambda seconds: wait(min(seconds, 0.02)))


def server(config: AcmeConfig) -> AcmeServer:
    storage = Storage(config)
    storage.prepare()
    return AcmeServer(config, storage, "pico/test")


@pytest.mark.parametrize("fault", [None, "badNonce", "processing"])
def test_an_order(stage: AcmeStage, config: AcmeConfig, answers: Answers, fault: str | None) -> None:
    """It ends with a chain for all names that is kept where nobody else may read it, whether the server wants a nonce
    again or takes its time; nothing is answered afterwards, and the account is used again."""
    if fault:
        stage.faults[fault] = 1
    storage = Storage(config)
    for _ in range(2):
        storage.keep_certificate(server(config).order(answers.publish))
        assert answers.told == {}
    pair = load_pair(config.certificate_file, config.certificate_file)
    names = pair.chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == list(NAMES)
    assert pair.chain[1] == stage.issuer.cert
    assert storage.certificate() == pair.chain[0]
    assert stage.validated == {(name, "http-01"): 2 for name in NAMES}
    assert len(stage._accounts) == 1
    for name in os.listdir(storage.directory):
        assert stat.S_IMODE(os.stat(os.path.join(storage.directory, name)).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(storage.directory).st_mode) == 0o700


@pytest.mark.parametrize(
    ("fault", "words", "refused", "retry_s"),
    [
        ("rateLimited", "rateLimited: too many certificates", True, 7200.0),
        ("invalid", "is not validated (unauthorized: Invalid response from  [31mhttp://elsewhere)", True, 0.0),
        ("garbage", "the server's answer makes no sense", False, 0.0),
        ("endless", "its answer is too long, or too slow", False, 0.0),
        ("other key", "a certificate of another key", False, 0.0),
        ("other names", "a certificate for other names", False, 0.0),
    ],
)
def test_what_goes_wrong(
    stage: AcmeStage, config: AcmeConfig, answers: Answers, fault: str, words: str, refused: bool, retry_s: float
) -> None:
    """It is told in words of the server that are fit for a log, with how long the server wants to hear nothing; and the
    next order is as good as any."""
    stage.faults[fault] = 1
    asked = server(config)
    with pytest.raises(OrderError) as caught:
        asked.order(answers.publish)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()
    assert (caught.value.refused, caught.value.retry_after_s) == (refused, retry_s)
    assert answers.told == {}
    assert asked.order(answers.publish).count(b"BEGIN CERTIFICATE") == 2


def test_another_node_orders(stage: AcmeStage, config: AcmeConfig, answers: Answers) -> None:
    """The server is not asked to validate what another node is asked for."""
    answers.elsewhere = True
    with pytest.raises(ElsewhereError):
        server(config).order(answers.publish)
    assert not stage.validated
    assert answers.told == {}


def test_a_server_that_is_away(stage: AcmeStage, config: AcmeConfig, answers: Answers) -> None:
    """It is no refusal; nor is one whose certificate is of another authority."""
    with pytest.raises(OrderError, match="cannot be reached") as caught:
        server(attrs.evolve(config, directory="https://localhost:1/directory")).order(answers.publish)
    assert not caught.value.refused
    with pytest.raises(OrderError, match="cannot be reached"):
        server(attrs.evolve(config, ca="")).order(answers.publish)


def test_a_slow_server(stage: AcmeStage, config: AcmeConfig, answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not done in time is given up."""
    monkeypatch.setattr(acme_order, "ORDER_S", 0.5)
    monkeypatch.setattr(stage, "_validate", lambda challenge: None)
    with pytest.raises(OrderError, match="not done within"):
        server(config).order(answers.publish)


def test_what_a_server_suggests(stage: AcmeStage, config: AcmeConfig, answers: Answers) -> None:
    """When it wants a certificate to be renewed is heard."""
    asked = server(config)
    Storage(config).keep_certificate(asked.order(answers.publish))
    own = Storage(config).certificate()
    assert own is not None
    later = asked.renewal_time(own)
    stage.renew_now = True
    now = asked.renewal_time(own)
    assert later is not None and now is not None and now < own.not_valid_after_utc < later
