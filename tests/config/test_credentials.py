"""The files of a section `auth`, as the start and a check of a configuration read them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pico_twisted.config import ConfigFaults, load_node
from tests.doubles.jwt import SECRET, jwk, key_set, public_pem
from tools.stage.certificates import make

TOKEN = "sha256:" + hashlib.sha256(b"good").hexdigest()


def loaded(folder: Path, **keys: str) -> list[str]:
    """The faults of a configuration with these keys of `upstream.auth`, whose files are in a folder."""
    overrides = {f"upstream.auth.{name.replace('__', '.')}": value for name, value in keys.items()}
    try:
        load_node(None, dict(overrides), directory=str(folder))
    except ConfigFaults as error:
        return list(map(str, error.faults))
    return []


def test_files_that_can_be_used_are_no_faults(tmp_path: Path) -> None:
    """Their names are relative to where the configuration is read; a URL is none."""
    (tmp_path / "tokens").write_text(f"ci {TOKEN} listen:*\n")
    (tmp_path / "certificates").write_text("spiffe://acme/web listen:acme-*\n")
    (tmp_path / "key.pem").write_bytes(public_pem() + public_pem("p256"))
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "keys.json").write_bytes(key_set(jwk()))
    keys = {"tokens_file": "tokens", "certificates_file": "certificates", "jwt__keys": "key.pem"}
    for jwks in ("keys.json", "https://id.example.com/keys.json?tenant=a", "https://[::1]:8443/keys"):
        assert loaded(tmp_path, jwt__secret_files="secret", jwt__jwks=jwks, jwt__rules="listen:*", **keys) == []
    config = load_node(None, {"proxy.auth.jwt.jwks": "https://id.example.com/keys"}, directory=str(tmp_path))
    assert config.proxy.auth.jwt.jwks_url == "https://id.example.com/keys" and config.proxy.auth.enabled


@pytest.mark.parametrize(
    ("key", "content", "words"),
    [
        ("tokens_file", f"ci {TOKEN} listen:a\nweb {TOKEN[:-9]} listen:b\n", "(tokens:2): found no hash behind"),
        ("tokens_file", f"ci {TOKEN} listen:\n", "(tokens:1): found what is no rule, expected a pattern is"),
        ("tokens_file", None, 'found "tokens", which cannot be read: No such file or directory, expected'),
        ("tokens_file", b"\xff", "which is not UTF-8"),
        ("certificates_file", "spiffe://acme/web\n", "(certificates:1): found 0 rules"),
        ("jwt__keys", SECRET, 'upstream.auth.jwt.keys[0] (--upstream.auth.jwt.keys): found "keys", which holds no'),
        ("jwt__keys", "key", "which holds a private key"),
        ("jwt__secret_files", "short", "upstream.auth.jwt.secret_files[0]"),
        ("jwt__secret_files", public_pem(), "which holds no line of 32"),
        ("jwt__jwks", "{}", "which is no JWK set"),
        ("jwt__jwks_ca", "nothing", "which holds no certificate"),
        ("jwt__jwks", b" " * 300_000, "which is longer than 256 KiB"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_line_and_without_its_content(
    key: str, content: str | bytes | None, words: str, tmp_path: Path
) -> None:
    """Before anything starts."""
    name = key.rpartition("__")[2].removesuffix("_file").removesuffix("_files")
    if content == "key":
        content = Path(make(tmp_path, "signer").key_file).read_bytes()
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    (fault,) = loaded(tmp_path, **{key: name})
    assert words in fault.replace(str(tmp_path) + "/", "")
    assert SECRET not in fault and TOKEN[7:40] not in fault and "BEGIN" not in fault


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("jwks", "http://id.example.com/keys"), ("jwks", "https://"), ("jwks", "https://user@id.example.com/"),
        ("jwks", "file:///etc/keys"), ("jwks", "https://id.example.com/#a"), ("rules", "listen"), ("rules", "serve:a"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_used_is_told(key: str, value: str, tmp_path: Path) -> None:
    """Keys come over https only."""
    (fault,) = loaded(tmp_path, **{f"jwt__{key}": value})
    assert fault.startswith(f"upstream.auth.jwt.{key}")
