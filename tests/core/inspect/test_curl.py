"""A command of curl sends what the client sent, and nothing that a stranger wrote is run by the shell."""

from __future__ import annotations

import atexit
import functools
import re
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.inspect.curl import command, note, quoted
from pico_twisted.core.inspect.recording import Recording, Recordings
from tests.core.inspect.recorded import recorded

# It tells its arguments, each with a NUL behind it, and what it reads.
_FAKE = "#!/bin/sh\nfor word in \"$@\"; do printf '%s\\0' \"$word\"; done\nprintf 'then '\ncat\n"
_SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)] or ["sh"]


@functools.cache
def fake_curl() -> Path:
    """A directory with a curl that sends nothing."""
    directory = Path(tempfile.mkdtemp(prefix="pico-test-"))
    atexit.register(shutil.rmtree, directory)
    (directory / "curl").write_text(_FAKE)
    (directory / "curl").chmod(0o755)
    return directory


def run(line: str, shell: str) -> tuple[list[bytes], bytes]:
    """What a shell gives curl: its words, and its standard input."""
    directory = fake_curl()
    ran = subprocess.run(
        [shell, "-c", line],
        env={"PATH": f"{directory}:/usr/bin:/bin", "LC_ALL": "C"},
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    assert ran.stderr == b""
    words, _, read = ran.stdout.rpartition(b"\0then ")
    return words.split(b"\0"), read


def after(words: Sequence[bytes], option: bytes) -> list[bytes]:
    """What stands behind each of an option."""
    return [words[at + 1] for at, word in enumerate(words) if word == option]


VALUES = st.binary(max_size=30).map(lambda value: re.sub(rb"[^\t -~\x80-\xff]", b"'", value).strip(b" \t"))
TARGETS = st.text(alphabet=[chr(byte) for byte in range(0x21, 0x7F) if chr(byte) != "#"], max_size=30)
NAMES = st.text(alphabet="abXY-_!$&'*+.^`|~09%", min_size=1, max_size=12)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    shell=st.sampled_from(_SHELLS), method=NAMES, target=TARGETS, name=NAMES, value=VALUES, body=st.binary(max_size=80)
)
@example(
    shell=_SHELLS[0], method="POST", target="$(id)`id`'\"\\!", name="x", value=b"'; id; echo '", body=b"@/etc/passwd"
)
@example(shell=_SHELLS[0], method="PUT", target="{a,b}[1-9]", name="x", value=b"@/etc/passwd", body=b"a\n'b'\n\n")
@example(shell=_SHELLS[0], method="GET", target="../..", name="x", value=b"Jos\xe9 100% \x85", body=b"\x1b[201~id\r\n")
@example(shell=_SHELLS[0], method="-o", target="-o", name="x", value=b"", body="tab\t, \u202e and é".encode())
def test_the_words_are_those_of_the_request(
    shell: str, method: str, target: str, name: str, value: bytes, body: bytes
) -> None:
    """Any method, target, field and body come through a real shell byte for byte; a terminal is given no control
    character at all."""
    fields = f"{name}: ".encode() + value + b"\r\nContent-Length: %d\r\n" % len(body)
    try:
        call = recorded(f"{method} /{target} HTTP/1.1".encode(), fields, body)
    except Http1Error:
        return  # such a request does not come
    line = command(call, reveal=True)
    assert all(char.isprintable() or char == "\n" for char in line)
    words, read = run(line, shell)
    assert words[0] == f"https://shop.example.com/{target}".encode()
    sent = after(words, b"-X")
    assert sent == ([] if method == "POST" else [method.encode()])
    headers = after(words, b"-H")
    for lower, own, held in call.request.fields if call.request else ():
        if lower == name.lower().encode() and lower not in (b"te", b"via"):
            assert (own + b": " + held if held else own + b";") in headers
    assert not any(header.lower().startswith((b"x-forwarded", b"host:", b"content-length")) for header in headers)
    (data,) = after(words, b"--data-binary")
    assert (read if data == b"@-" else data) == body
    assert data == b"@-" or not data.startswith(b"@")


@given(st.binary(max_size=60).map(lambda data: data.replace(b"\0", b"")))
@settings(deadline=None)
def test_any_bytes_are_one_word(data: bytes) -> None:
    """Whatever is quoted is one word for the shell."""
    if data.endswith(b"\n"):
        data += b"."  # no part of a head ends so
    words, _ = run(f"curl {quoted(data)}", _SHELLS[0])
    assert words == [data]


def send(line: str) -> bytes:
    """What a real curl sends for a command, with the service in the place of the host."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        got = bytearray()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(20)
                while b"\r\n\r\n" not in got:
                    got.extend(connection.recv(65536))
                length = re.search(rb"(?i)\r\ncontent-length: (\d+)", got)
                wanted = got.index(b"\r\n\r\n") + 4 + (int(length[1]) if length else 0)
                while len(got) < wanted:
                    got.extend(connection.recv(65536))
                connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        place = f"--connect-to ::127.0.0.1:{server.getsockname()[1]}"
        line = re.sub(
            r"(?m)^(.*\| *\\\n +)?curl ", lambda found: f"{found[0]}-q -s --noproxy '*' {place} ", line, count=1
        )
        subprocess.run(["sh", "-c", line.replace("https://", "http://")], check=True, timeout=20)
        thread.join(20)
    return bytes(got)


@pytest.mark.parametrize(
    ("first", "fields", "body"),
    [
        (b"GET /a/../b?x={1,2}&y=[3] HTTP/1.1", b"Accept: text/html\r\nUser-Agent: me/1\r\n", b""),
        (b"POST /form HTTP/1.1", b"Content-Type: text/plain\r\nContent-Length: 7\r\n", b"a='b'\n\n"),
        (b"PUT /bin HTTP/1.1", b"Content-Length: 6\r\n", b"\0\x01\xff\r\n@"),
        (b"PATCH /file HTTP/1.1", b"X-Empty:\r\nContent-Length: 11\r\n", b"@/etc/hosts"),
        (b"DELETE /thing HTTP/1.1", b"Cookie: a=b; c='d'\r\n", b""),
        (b"POST /nothing HTTP/1.1", b"Content-Length: 0\r\n", b""),
        (b"HEAD /page HTTP/1.1", b"X-Name: Jos\xe9\r\n", b""),
        (b"OPTIONS * HTTP/1.1", b"", b""),
    ],
)
def test_a_real_curl_sends_the_same_request(first: bytes, fields: bytes, body: bytes) -> None:
    """Its request is the client's, but for what hops add: no field more, none less, and the same body."""
    got = send(command(recorded(first, fields, body), reveal=True))
    head, _, sent_body = got.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == first and sent_body == body
    wanted = [line.replace(b"X-Empty:", b"X-Empty: ").strip() for line in fields.split(b"\r\n") if line]
    assert sorted(line.strip() for line in lines[1:] if not line.lower().startswith(b"host:")) == sorted(wanted)
    assert b"Host: shop.example.com" in lines


def test_credentials_stay_hidden() -> None:
    """The command of who did not ask for credentials has none of them, and still its fields."""
    call = recorded(b"GET /x?token=SECRET HTTP/1.1", b"Cookie: a=SECRET\r\nAuthorization: Bearer SECRET\r\n")
    line = command(call, reveal=False)
    assert "SECRET" not in line and "Authorization: Bearer (hidden)" in line
    assert command(call, reveal=True).count("SECRET") == 3


def test_a_body_that_is_cut_is_told_of() -> None:
    """Who copies the command of a large upload hears that it is not whole."""
    recordings = Recordings(most_body_bytes=10)
    call: Recording = recorded(b"POST / HTTP/1.1", b"Content-Length: 30\r\n", b"x" * 30, into=recordings)
    assert note(call) == "of the body there are only the first 10 of 30 bytes"
    assert note(recorded()) == ""
