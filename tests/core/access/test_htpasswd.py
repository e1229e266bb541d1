"""Files of users and passwords."""

from __future__ import annotations

import pytest

from pico_twisted.core.access.htpasswd import read_htpasswd

HASH = "$2y$05$" + "a" * 53


def test_users() -> None:
    """A user on each line, among comments and empty lines, in whichever of the forms of bcrypt."""
    text = f"# people\n\nann:{HASH}\r\nbjörn:{HASH.replace('2y', '2b')}:more\n"
    assert read_htpasswd(text) == ({b"ann": HASH.encode(), "björn".encode(): HASH.replace("2y", "2b").encode()}, [])


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("ann", "no name"),
        (f":{HASH}", "no name"),
        ("ann:secret", "no bcrypt hash"),
        ("ann:$apr1$x$y", "no bcrypt hash"),
        ("ann:{SHA}x", "no bcrypt hash"),
        (f"ann:{HASH}x", "no bcrypt hash"),
        (f"ann:{HASH.replace('05', '31')}", "a hash of cost 31"),
        (f"ann:{HASH.replace('05', '03')}", "a hash of cost 3"),
        (f"bob:{HASH}", "a name that stands above"),
    ],
)
def test_faults(line: str, found: str) -> None:
    """A line that cannot be used is told by its number, without what could be a password."""
    users, faults = read_htpasswd(f"bob:{HASH}\n{line}\n")
    assert users == {b"bob": HASH.encode()}
    assert [(fault.line, fault.found) for fault in faults] == [(2, found)]
    assert "secret" not in faults[0].expected


def test_nobody() -> None:
    """A file without a user is a fault: it would keep everybody out."""
    assert [fault.found for fault in read_htpasswd("# nobody\n")[1]] == ["no user"]
