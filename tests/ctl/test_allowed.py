"""`picoctl check --token-file`: what a credential may do by the files of a configuration."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pico_twisted.core.access.credentials_file import hash_of
from tests.ctl.harness import picoctl

KEY = Ed25519PrivateKey.generate()


def signed(key: Ed25519PrivateKey = KEY, **claims: Any) -> str:
    """A JWT."""
    return jwt.encode({"sub": "ci", "pico": {"rules": ["listen:ci-*"]}, **claims}, key, "EdDSA")


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A node's file: tokens at the proxy port, JWTs at the upstream port, and an admin port that asks nobody."""
    (tmp_path / "tokens").write_text(
        f"acme sha256:{hash_of(b'acme-token').hex()} listen:x connect:acme-* connect:shop;rate=5/s\n"
    )
    public = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(public)
    path = tmp_path / "pico.yaml"
    path.write_text(
        f"proxy: {{auth: {{tokens_file: {tmp_path}/tokens}}}}\n"
        f"upstream: {{auth: {{jwt: {{keys: [{tmp_path}/key.pem], audience: pico}}}}}}\n"
    )
    return str(path)


def check(file: str, token: str, *more: str) -> tuple[int, str]:
    """The exit status, and what is printed, each row of a table with single spaces."""
    shown = Path(file).with_name("shown")
    shown.write_text(token + "\n")
    done = picoctl("check", file, "--token-file", str(shown), *more, COLUMNS="200")
    assert token not in done.stdout + done.stderr
    return done.returncode, "\n".join(" ".join(line.split()) for line in done.stdout.splitlines())


def test_what_it_may_do(file: str) -> None:
    """All rules of the credential, port by port, and why it does not count elsewhere."""
    status, told = check(file, "acme-token")
    assert status == 0 and "proxy acme token never connect:acme-* connect:shop;rate=5/s" in told
    assert "upstream - - - the credential is not known here" in told and "admin - - - all, to everybody" in told
    status, told = check(file, signed(aud="pico", exp=4102444800))
    assert status == 0 and "upstream ci jwt 2100-01-01 00:00:30 UTC listen:ci-*" in told


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"aud": "other"}, "another audience"),
        ({"aud": "pico", "exp": time.time() - 3600}, "has expired"),
        ({"aud": "pico", "key": Ed25519PrivateKey.generate()}, "signature of the JWT is wrong"),
    ],
)
def test_a_jwt_that_does_not_count(file: str, claims: dict[str, Any], words: str) -> None:
    """It is said why, as the port would say it."""
    assert words in check(file, signed(**claims))[1]


@pytest.mark.parametrize(
    ("endpoint", "status", "words"),
    [
        ("acme-web", 0, "proxy acme token never connect:acme-*\n"),
        ("SHOP", 0, "proxy acme token never connect:shop;rate=5/s\n"),
        ("other-web", 1, "proxy - - - the credential does not allow connect:other-web: ask for a rule that does\n"),
    ],
)
def test_which_rule_decides(file: str, endpoint: str, status: int, words: str) -> None:
    """For one endpoint there is the rule that lets the credential use it, or serve it; none is status 1."""
    found, told = check(file, "acme-token", "--endpoint", endpoint)
    assert (found, words in told + "\n", "admin" in told) == (status, True, False)


def test_command_lines_that_make_no_sense(file: str, tmp_path: Path) -> None:
    """What is missing or wrong is told with its option, and status 2."""
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "some").write_text("some-token\n")
    for options, words in (
        (("--endpoint", "a"), "--endpoint: is for the token of a --token-file"),
        (("--token-file", str(tmp_path / "none")), "holds no token"),
        (("--token-file", str(tmp_path / "empty")), "holds no token"),
        (("--token-file", str(tmp_path / "some"), "--endpoint", "a b"), "is no endpoint ID"),
    ):
        done = picoctl("check", file, *options)
        assert done.returncode == 2 and words in done.stderr.replace("\n", " ")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("tokens", "acme\n", "found no hash behind the name"),
        ("tokens", f"acme sha256:{'0' * 64} serve:x\n", "found what is no rule"),
        ("key.pem", "no key\n", "upstream.auth.jwt.keys"),
    ],
)
def test_files_with_faults(file: str, name: str, content: str, words: str) -> None:
    """The files that say who may use a port are checked with the configuration, offline."""
    Path(file).with_name(name).write_text(content)
    done = picoctl("check", file)
    assert (done.returncode, words in done.stderr) == (1, True), done.stderr
