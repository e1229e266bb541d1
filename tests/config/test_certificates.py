"""Certificates and keys that a configuration names: what the daemon could not use is a fault of the configuration."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from pico_twisted.config import AgentConfig, ConfigFaults, NodeConfig, load_agent, load_node
from pico_twisted.config.certificates import certificate_warnings
from pico_twisted.config.faults import whose
from pico_twisted.config.pem import UnusableCertificateError, load_certificates
from tools.stage.certificates import Authority, Made, make

PLACES = ("proxy.tls", "upstream.tls", "admin.tls", "cluster.tls")


class Files:
    """The files of one test, by what is wrong with them."""

    def __init__(self, directory: Path) -> None:
        self.root = make(directory, "root", authority=True)
        self.middle = make(directory, "middle", issuer=self.root, authority=True)
        self.own = make(directory, "own", issuer=self.middle)
        self.other = make(directory, "other")
        self._directory = directory

    def cert(self, *made: Made) -> str:
        """A file with these certificates."""
        return self.write(b"".join(one.pem for one in made))

    def write(self, data: bytes) -> str:
        path = self._directory / f"file-{len(list(self._directory.iterdir()))}"
        path.write_bytes(data)
        return str(path)

    def locked_key(self) -> str:
        form, cipher = serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"passphrase")
        return self.write(self.own.key.private_bytes(serialization.Encoding.PEM, form, cipher))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Certificates, and what is no such thing."""
    return Files(tmp_path)


def given(files: Files, place: str, cert: str, key: str) -> dict[str, str | list[str]]:
    """Flags for one section."""
    authority = {f"{place}.ca": files.cert(files.root)} if place == "cluster.tls" else {}
    return {f"{place}.cert": cert, f"{place}.key": key, **authority}


def faults(flags: dict[str, str | list[str]], now: datetime | None = None) -> list[str]:
    """What is wrong, each without its place."""
    try:
        load_node(None, flags, now=now)
    except ConfigFaults as error:
        return [f"{fault.path}: {fault.found}" for fault in error.faults]
    return []


@pytest.mark.parametrize("place", PLACES)
def test_what_a_port_cannot_use_is_a_fault(files: Files, place: str) -> None:
    """Of every section that names a certificate, and with words that say what to change."""
    own, key = files.own.cert_file, files.own.key_file
    chain = files.cert(files.own, files.middle)
    reversed_chain = files.cert(files.middle, files.own)
    damaged = files.write(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    nothing, locked = files.write(b"x"), files.locked_key()
    cases: tuple[tuple[str, str, list[str]], ...] = (
        (own, key, []),
        (chain, key, []),
        (own, files.other.key_file, [f'key: found "{files.other.key_file}", which is not the key of the certificate']),
        (reversed_chain, key, [f'cert: found "{reversed_chain}", which has its own certificate as number 2']),
        (own, locked, [f'key: found "{locked}", which is encrypted: a key without passphrase is needed']),
        (damaged, key, [f'cert: found "{damaged}", which holds a damaged certificate']),
        (
            key,
            own,
            [
                f'cert: found "{key}", which holds a private key and no certificate in PEM form',
                f'key: found "{own}", which holds a certificate and no private key in PEM form',
            ],
        ),
        (
            nothing,
            nothing,
            [
                f'cert: found "{nothing}", which holds no certificate in PEM form',
                f'key: found "{nothing}", which holds no private key in PEM form',
            ],
        ),
    )
    for cert, key_file, expected in cases:
        found = [line.replace(": ", ": found ", 1) for line in faults(given(files, place, cert, key_file))]
        assert len(found) == len(expected), found
        for line, words in zip(found, expected, strict=True):
            assert line.startswith(f"{place}.{words}"), line


@pytest.mark.parametrize("place", PLACES)
def test_the_age_of_a_certificate(tmp_path: Path, files: Files, place: str) -> None:
    """One that has expired, or is not valid yet, is a fault of a check and a warning of a start; one that expires
    within two weeks is a warning of both; the first of a chain to expire counts."""
    now = datetime.now(UTC)
    soon_above = make(tmp_path, "short", issuer=files.root, authority=True, days=(-1, 3))
    cases = (
        ((-1, 40), None, "", ""),
        ((-1, 5), None, "", "expires on 20"),
        ((-9, -2), None, "expired on 20", "expired on 20"),
        ((2, 40), None, "is not valid before 20", "is not valid before 20"),
        ((-1, 40), soon_above, "", "expires on 20"),
    )
    for days, issuer, fault, warning in cases:
        made = make(tmp_path, "aged", issuer=issuer, days=days)
        flags = given(files, place, made.cert_file, made.key_file)
        config = load_node(None, flags)
        told = certificate_warnings(config, now)
        assert [line.startswith(f'{place}.cert: "{made.cert_file}" {warning}') for line in told] == [True] * bool(
            warning
        )
        found = faults(flags, now)
        assert [line.startswith(f'{place}.cert: "{made.cert_file}", which {fault}') for line in found] == (
            [True] * bool(fault)
        )


def test_a_list_of_revoked_ones_that_is_out_of_date(tmp_path: Path) -> None:
    """It is a warning, of a start too, since it still counts."""
    authority = Authority(tmp_path)
    own = authority.issue("n1")
    flags: dict[str, str | list[str]] = {
        "cluster.tls.cert": str(own.cert),
        "cluster.tls.key": str(own.key),
        "cluster.tls.ca": str(authority.ca),
        "cluster.tls.crl": str(authority.revoke(days=(-9, -2))),
    }
    config, now = load_node(None, flags), datetime.now(UTC)
    assert any("is out of date since 20" in line for line in certificate_warnings(config, now))
    authority.revoke()
    assert not any("out of date" in line for line in certificate_warnings(config, now))


def test_a_chain_out_of_order_is_a_warning(files: Files) -> None:
    """Most clients put it in order themselves."""
    cert = files.cert(files.own, files.root, files.middle)
    flags = given(files, "proxy.tls", cert, files.own.key_file)
    assert faults(flags, datetime.now(UTC)) == []
    told = certificate_warnings(load_node(None, flags), datetime.now(UTC))
    assert any("has a certificate 2 that did not sign the one before it" in line for line in told), told


@pytest.mark.parametrize("agent", [False, True])
def test_authorities_to_trust(tmp_path: Path, files: Files, agent: bool) -> None:
    """A bundle without a certificate is a fault; so is one of which none is valid any more, when that is asked."""
    old = make(tmp_path, "old", authority=True, days=(-9, -2))
    now = datetime.now(UTC)

    def found(bundle: str, now: datetime | None = None) -> list[str]:
        try:
            if agent:
                load_agent(None, {"listen": ["web=3000"], "connect.tls.root_cas": bundle}, now=now)
            else:
                own = {"cluster.tls.cert": files.own.cert_file, "cluster.tls.key": files.own.key_file}
                load_node(None, {**own, "cluster.tls.ca": bundle}, now=now)
        except ConfigFaults as error:
            return [fault.found for fault in error.faults]
        return []

    nothing = files.write(b"x")
    assert found(nothing) == [f'"{nothing}", which holds no certificate in PEM form']
    assert found(files.cert(old)) == []
    assert "which expired on" in found(files.cert(old), now)[0]
    assert found(files.cert(old, files.root), now) == []


def test_no_certificate_no_warning() -> None:
    """Configurations without TLS open nothing."""
    now = datetime.now(UTC)
    assert certificate_warnings(NodeConfig(), now) == certificate_warnings(AgentConfig(), now) == []


def test_a_file_without_end_is_not_read_whole() -> None:
    """Nor does it take the process's memory."""
    with pytest.raises(UnusableCertificateError, match="longer than"):
        load_certificates("/dev/zero")


def test_whose_file_it_is(tmp_path: Path) -> None:
    """A file that may not be read is told with its owner, its mode, and who this process is."""
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    me = pwd.getpwuid(os.geteuid()).pw_name
    assert whose(str(secret)) == f"; this process runs as {me}, the file is {me}'s, mode 600"
    assert whose(str(tmp_path / "missing")) == ""


@pytest.mark.parametrize(
    ("lock", "words"),
    [
        (lambda file: file.chmod(0o600), "the file is root's, mode 600"),
        (lambda file: file.parent.chmod(0o700), "{directory} is root's, mode 700"),
    ],
)
def test_what_the_daemon_user_may_not_read(tmp_path: Path, lock: Callable[[Path], None], words: str) -> None:
    """A secret, a key and the file itself: each says whose it is, also when a directory is what keeps them away."""
    directory = tmp_path / "etc"
    directory.mkdir()
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(0o755)
    secret = directory / "secret"
    secret.write_text("s" * 20)
    lock(secret)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgid(65534)
            os.setuid(65534)
            (line,) = faults({"cluster.secret_files": str(secret)})
            told = words.format(directory=directory)
            status = 0 if f"(Permission denied; this process runs as nobody, {told})" in line else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_certificate_of_an_agent(files: Files) -> None:
    """It needs its own key, and is warned of as those of nodes are."""
    now = datetime.now(UTC)
    own, other = files.own, make(Path(files.own.cert_file).parent, "other", days=(-1, 3))

    def found(**flags: str) -> list[str]:
        given = {f"connect.tls.{name}": value for name, value in flags.items()}
        try:
            load_agent(None, {"listen": ["web=3000"], **given}, now=now)
        except ConfigFaults as error:
            return [fault.path for fault in error.faults]
        return []

    assert found(cert=own.cert_file, key=own.key_file) == []
    assert found(cert=own.cert_file) == ["connect.tls.key"] and found(key=own.key_file) == ["connect.tls.cert"]
    assert found(cert=own.cert_file, key=other.key_file) == ["connect.tls.key"]
    flags = {"connect.tls.cert": other.cert_file, "connect.tls.key": other.key_file}
    (line,) = certificate_warnings(load_agent(None, {"listen": ["web=3000"], **flags}), now)
    assert line.startswith("connect.tls.cert: ") and "expires" in line
