"""Names of endpoints that were given none, and the files of the user that hold them."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from pico_twisted.core.public_url import endpoint_url
from pico_twisted.expose.kept import MAX_BYTES, KeptFile, config_folder
from pico_twisted.expose.names import FILE, NAME, KeptNames, bits, new_name
from pico_twisted.expose.words import ADJECTIVES, ANIMALS


def test_nobody_guesses_a_name() -> None:
    """A name has 30 bits of chance at least, and no two words are alike."""
    assert bits() > 30
    for words in (ADJECTIVES, ANIMALS):
        assert len(set(words)) == len(words)
    assert len({new_name() for _ in range(1000)}) == 1000


def test_a_name_is_a_label() -> None:
    """Every name is one label of a host name, so that there is a URL for it."""
    longest = f"{max(ADJECTIVES, key=len)}-{max(ANIMALS, key=len)}-zzzz"
    for name in (new_name(), longest):
        assert NAME.fullmatch(name)
        assert endpoint_url("https://*.tunnel.example.com", name) == f"https://{name}.tunnel.example.com"


def test_the_same_tomorrow(tmp_path: Path) -> None:
    """What was kept is the name the next time, for that and for nothing else; the file is for the user alone."""
    folder = tmp_path / "config" / "pico"
    warnings: list[str] = []
    first = KeptNames(str(folder), warnings.append).name_for("localhost:3000")
    KeptNames(str(folder), warnings.append).keep("localhost:3000", first)
    KeptNames(str(folder), warnings.append).keep("localhost:3001", "other")
    again = KeptNames(str(folder), warnings.append)
    assert again.name_for("localhost:3000") == first
    assert again.name_for("localhost:3002") != first
    assert warnings == []
    assert (folder / FILE).stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert os.listdir(folder) == [FILE]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "it holds no JSON"),
        (b"\xff\xfe", "it holds no JSON"),
        (b"[" * 100_000, "it holds no JSON"),
        (b"[]", "it holds no JSON object"),
        (b'"' + b"a" * MAX_BYTES + b'"', "it is larger than 1 MiB"),
    ],
)
def test_a_file_that_is_not_understood(tmp_path: Path, content: bytes, why: str) -> None:
    """It is told of, ends nothing, and is left as it is."""
    (tmp_path / FILE).write_bytes(content)
    warnings: list[str] = []
    names = KeptNames(str(tmp_path), warnings.append)
    names.keep("localhost:3000", names.name_for("localhost:3000"))
    assert len(warnings) == 2
    assert all(why in warning and str(tmp_path) in warning for warning in warnings)
    assert (tmp_path / FILE).read_bytes() == content
    assert os.listdir(tmp_path) == [FILE]


@pytest.mark.parametrize("kept", [7, "", "Upper", "a b", "a.b", "-a", "a" * 64, "\x1b[2J", None])
def test_a_name_that_is_none(tmp_path: Path, kept: object) -> None:
    """Somebody's editor may have written anything: a new name stands in."""
    (tmp_path / FILE).write_text(json.dumps({"localhost:3000": kept}))
    assert NAME.fullmatch(KeptNames(str(tmp_path), pytest.fail).name_for("localhost:3000"))


def test_what_cannot_be_written(tmp_path: Path) -> None:
    """A place where no folder can be is told of, and ends nothing."""
    (tmp_path / "file").write_text("")
    warnings: list[str] = []
    KeptNames(str(tmp_path / "file" / "pico"), warnings.append).keep("localhost:3000", "brave-otter-bcdf")
    assert len(warnings) == 1
    assert "nothing is kept for the next time: Not a directory" in warnings[0]


def test_two_at_once(tmp_path: Path) -> None:
    """Two commands that keep something in the same moment both have it kept."""

    def keep(number: int) -> None:
        for each in range(20):
            KeptFile(str(tmp_path), FILE, pytest.fail).update({f"{number}-{each}": "a"})

    threads = [threading.Thread(target=keep, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(KeptFile(str(tmp_path), FILE, pytest.fail).read()) == 80


def test_where_they_are() -> None:
    """The folder is that of the XDG specification, which wants absolute names."""
    home = os.path.expanduser("~")
    assert config_folder({}) == f"{home}/.config/pico"
    assert config_folder({"XDG_CONFIG_HOME": "/elsewhere"}) == "/elsewhere/pico"
    assert config_folder({"XDG_CONFIG_HOME": "relative"}) == f"{home}/.config/pico"
