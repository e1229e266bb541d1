"""Tokens are made, listed and taken away in a file, of which nothing else changes, whoever changes it too."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pico_twisted.core.access.credentials_file import hash_of, read_tokens
from tests.ctl.harness import PROGRAM, environment, picoctl

OTHERS = "# tokens of the shop\n\nshop sha256:" + "a" * 64 + " listen:shop # since May\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of tokens, with one."""
    path = tmp_path / "tokens"
    path.write_text(OTHERS)
    path.chmod(0o640)
    return path


def create(file: Path, name: str = "ci", *options: str) -> subprocess.CompletedProcess[str]:
    """Make a token."""
    return picoctl("token", "create", name, "--rule", "listen:acme-*;rate=5/s", "--file", str(file), *options)


def test_a_token_is_made(file: Path) -> None:
    """It is printed once, has 256 bits behind a prefix that scanners find, and its hash and rules are a line of the
    file, behind what was there, whose mode stays."""
    done = create(file, "ci", "--rule", "admin:read")
    assert done.returncode == 0 and re.fullmatch(r"pico_[0-9a-f]{64}\n", done.stdout)
    assert "picoctl reload" in done.stderr and "is new" not in done.stderr
    text = file.read_text()
    assert text.startswith(OTHERS) and done.stdout.strip() not in text
    found, faults = read_tokens(text)
    assert not faults
    subject = found[hash_of(done.stdout.strip().encode())]
    assert (subject.name, list(map(str, subject.rules))) == ("ci", ["listen:acme-*;rate=5/s", "admin:read"])
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert create(file, "other").stdout != done.stdout


def test_a_new_file(tmp_path: Path) -> None:
    """A file that is made is for its owner alone, and it is said that the daemon has to read it."""
    path = tmp_path / "tokens"
    done = create(path)
    assert done.returncode == 0 and "is new" in done.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and os.listdir(tmp_path) == ["tokens"]


def test_a_file_for_the_token(file: Path, tmp_path: Path) -> None:
    """The token is written to a new file for its owner alone, and not printed; one that is there is not touched, and
    then no token is made."""
    out = tmp_path / "token"
    done = create(file, "ci", "--token-file", str(out))
    assert (done.returncode, done.stdout) == (0, "")
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert hash_of(out.read_text().strip().encode()) in read_tokens(file.read_text())[0]
    before = file.read_text(), out.read_text()
    again = create(file, "two", "--token-file", str(out))
    assert again.returncode == 1 and "there already" in again.stderr
    taken = create(file, "ci", "--token-file", str(tmp_path / "third"))
    assert taken.returncode == 1 and not (tmp_path / "third").exists()
    assert (file.read_text(), out.read_text()) == before


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("shop", "--rule", "listen:x"), 1, "has a token shop already"),
        (("ci",), 2, "--rule"),
        (("ci", "--rule", "listen"), 2, "listen:<pattern>"),
        (("ci", "--rule", "serve:x"), 2, "listen:<pattern>"),
        (("c i", "--rule", "listen:x"), 2, "a name has"),
        (("", "--rule", "listen:x"), 2, "a name has"),
        (("ci\nroot", "--rule", "listen:x"), 2, "a name has"),
        (("#ci", "--rule", "listen:x"), 2, "a name has"),
    ],
)
def test_what_is_refused(file: Path, arguments: tuple[str, ...], status: int, words: str) -> None:
    """A name that is taken or none, and no or bad rules: the file stays as it is."""
    done = picoctl("token", "create", *arguments, "--file", str(file))
    assert (done.returncode, done.stdout) == (status, "") and words in done.stderr
    assert file.read_text() == OTHERS


@pytest.mark.parametrize("text", ["shop nonsense listen:x\n", "\xff", "a sha256:" + "0" * 64 + "\n"])
def test_a_file_that_cannot_be_used(file: Path, text: str) -> None:
    """Nothing is added to a file that no node would take, and it is said what is wrong with it."""
    file.write_text(text, encoding="latin-1")
    done = create(file)
    assert done.returncode == 1 and str(file) in done.stderr
    assert file.read_text(encoding="latin-1") == text
    assert picoctl("token", "list", "--file", str(file)).returncode == 1


@pytest.mark.parametrize("place", ["nowhere/tokens", "folder", "pipe", "link-to-nothing"])
def test_what_is_no_file(tmp_path: Path, place: str) -> None:
    """What is no file is not taken for one, nor replaced by one."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link-to-nothing").symlink_to(tmp_path / "nowhere" / "tokens")
    before = sorted(os.listdir(tmp_path))
    for command in (("create", "ci", "--rule", "listen:x"), ("list",), ("revoke", "ci")):
        done = picoctl("token", *command, "--file", str(tmp_path / place))
        assert done.returncode == 1 and str(tmp_path / place) in done.stderr
    assert sorted(os.listdir(tmp_path)) == before


def test_listed(file: Path) -> None:
    """Names and rules are shown, and no hash."""
    create(file, "ci", "--rule", "connect:a", "--rule", "admin:operate")
    done = picoctl("token", "list", "--file", str(file))
    assert done.stdout.split("\n")[1:] == [
        "ci    listen:acme-*;rate=5/s connect:a admin:operate",
        "shop  listen:shop",
        "",
    ]
    shown = json.loads(picoctl("token", "list", "--file", str(file), "--json").stdout)
    assert shown[1] == {"name": "shop", "rules": ["listen:shop"]}
    assert "sha256" not in done.stdout + json.dumps(shown)
    made = json.loads(create(file, "three", "--json").stdout)
    assert (made["name"], made["rules"], made["token"][:5]) == ("three", ["listen:acme-*;rate=5/s"], "pico_")


def test_taken_away(file: Path) -> None:
    """The line of the token goes, and nothing else, also where another line is wrong; what is next is said."""
    create(file)
    text = file.read_text() + "ci-2 nonsense\n"
    file.write_text(text)
    done = picoctl("token", "revoke", "ci", "--file", str(file))
    assert (done.returncode, done.stdout) == (0, "") and "picoctl revoke ci" in done.stderr
    assert file.read_text() == OTHERS + "ci-2 nonsense\n"
    again = picoctl("token", "revoke", "ci", "--file", str(file))
    assert again.returncode == 1 and "has no token ci" in again.stderr


def test_a_link_stays_one(file: Path, tmp_path: Path) -> None:
    """What it leads to is changed, and a last line without an end gets one."""
    link = tmp_path / "link"
    link.symlink_to(file)
    file.write_text(OTHERS.rstrip("\n"))
    assert create(link).returncode == 0
    assert link.is_symlink() and file.read_text().startswith(OTHERS) and len(read_tokens(file.read_text())[0]) == 2


def test_many_at_once(file: Path) -> None:
    """Of those who change a file at the same time nobody loses anything."""

    def run(number: int) -> int:
        command = [*PROGRAM, "token", "create", f"t{number}", "--rule", "listen:x", "--file", str(file)]
        return subprocess.run(command, env=environment(), capture_output=True, check=False).returncode

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(8))) == [0] * 8
    assert len(read_tokens(file.read_text())[0]) == 9
