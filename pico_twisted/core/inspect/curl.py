"""A request as a command line of curl for a POSIX shell, to be pasted into a terminal.

What is needed: the command sends what the client sent, byte for byte, whatever those bytes are. What can go wrong: a
stranger wrote most of it, and it ends in a shell. A quotation mark that ends a word would run what follows; an `@` in
front of a body would send a file; a control byte may end a pasted text for the terminal, and what is behind it would be
typed. So a word is written as it is only when all of its characters are printable, in single quotation marks, in which
a shell reads nothing; other words are written in octal for printf; and a body that is no such text goes through base64
and standard input.
"""

from __future__ import annotations

import base64
import re
from typing import Final

from pico_twisted.core.field_names import BETWEEN_HOPS, ONWARD, is_ours, plain_name
from pico_twisted.core.http1.head import RequestHead
from pico_twisted.core.inspect.masks import masked, text_of
from pico_twisted.core.inspect.recording import Recording
from pico_twisted.core.secret_names import hide_query_secrets

_PLAIN: Final = re.compile(r"[A-Za-z0-9_+:,./-]+")
_OF_CURL: Final = (b"accept", b"user-agent")
"""What curl sends of itself unless it is told not to."""
_OF_HOPS: Final = frozenset((b"cdn-loop", b"via", b"x-request-id"))
_NEXT: Final = " \\\n  "


def quoted(data: bytes) -> str:
    """One word of a command line."""
    text = _printable(data)
    if text is None:
        return "\"$(printf '" + "".join(map(_for_printf, data)) + "')\""
    return text if _PLAIN.fullmatch(text) else "'" + text.replace("'", "'\\''") + "'"


def _for_printf(byte: int) -> str:
    if byte == ord("%"):
        return "%%"  # shells differ in what a percent sign in octal is
    return chr(byte) if byte < 0x80 and chr(byte).isalnum() else f"\\{byte:03o}"


def _printable(data: bytes, besides: str = "") -> str | None:
    """Bytes as a text that a terminal can be given; None when they are none."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if all(char.isprintable() or char in besides for char in text) else None


def url_of(recording: Recording, *, reveal: bool) -> str:
    """The URL that the client asked for, as the node tells it.

    Args:
        recording: whose head has come.
        reveal: the values of parameters that are credentials, too.
    """
    head = recording.request
    assert head is not None
    scheme = "https" if head.by_name.get(b"x-forwarded-proto", b"").lower() == b"https" else "http"
    host = (head.host or b"localhost").decode("latin-1")
    target = recording.target if reveal else hide_query_secrets(recording.target)
    return f"{scheme}://{host}{target if target.startswith('/') else '/'}"


def command(recording: Recording, *, reveal: bool) -> str:
    """The command.

    Args:
        recording: of an http call whose head has come. Of its body goes along what is kept.
        reveal: what is hidden, too.
    """
    head = recording.request
    assert head is not None
    url = url_of(recording, reveal=reveal)
    body = bytes(recording.request_body.kept)
    sends = bool(body) or head.length == 0
    words = ["curl", quoted(url.encode("utf-8"))]
    if re.search(r"[\[\]{}]", url):
        words.append("--globoff")
    if "/." in recording.target:
        words.append("--path-as-is")
    if not recording.target.startswith("/"):
        words.append(f"--request-target {quoted(head.target)}")
    if head.method == b"HEAD" and not sends:
        words.append("--head")
    elif head.method != (b"POST" if sends else b"GET"):
        words.append(f"-X {quoted(head.method)}")
    words += [f"-H {quoted(field)}" for field in _fields(head, reveal, sends)]
    if b"accept-encoding" in head.by_name:
        words.append("--compressed")
    before = ""
    if sends:
        text = None if body.startswith(b"@") else _printable(body, "\n")
        if text is None:
            before = f"printf %s '{base64.b64encode(body).decode('ascii')}' | base64 -d |{_NEXT}"
            words.append("--data-binary @-")
        else:
            words.append("--data-binary '" + text.replace("'", "'\\''") + "'")
    return before + _NEXT.join(words)


def _fields(head: RequestHead, reveal: bool, sends: bool) -> list[bytes]:
    """The fields that the client sent, as curl takes them."""
    found = []
    for lower, name, value in head.fields:
        if lower in ONWARD or lower in _OF_HOPS or is_ours(plain_name(lower)) or lower.startswith(BETWEEN_HOPS):
            continue
        shown = masked(lower, value)
        if not reveal and shown != text_of(value):
            value = shown.encode("utf-8")
        found.append(name + b": " + value if value else name + b";")
    wanted = (*_OF_CURL, b"content-type") if sends else _OF_CURL
    return found + [name + b":" for name in wanted if name not in head.by_name]


def note(recording: Recording) -> str:
    """What the command does not do; empty for nothing."""
    body = recording.request_body
    if body.cut:
        return f"of the body there are only the first {len(body.kept)} of {body.count} bytes"
    return ""
