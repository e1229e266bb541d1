"""Attacks of clients.

Each is one request whose end can be read in several ways, and behind it a second request. Whoever takes the second one
for a part of the first, or the other way round, answers somebody with what belongs to another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.system.service import chunk

ENDPOINT = b"x-pico-endpoint: attacked\r\n"
"""Stands in every request, for the node that is asked; to others it is one field more."""

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a.example\r\n" + ENDPOINT + b"\r\n"

FENCE = b"GET /fence HTTP/1.1\r\nHost: a.example\r\n" + ENDPOINT + b"Connection: close\r\n\r\n"
"""Follows on the same connection, so that the proxy ends it when nothing has broken it before."""


@dataclass(frozen=True)
class Attack:
    """What an attacker sends, with what follows it.

    Attributes:
        kind: the group that it belongs to.
        name: says what is wrong with it.
        data: its bytes.
    """

    kind: str
    name: str
    data: bytes


def head(*lines: bytes, line: bytes = b"POST /attack HTTP/1.1", host: bytes = b"Host: a.example\r\n") -> bytes:
    """A head with these lines in it, each as it is."""
    return line + b"\r\n" + host + ENDPOINT + b"".join(text + b"\r\n" for text in lines) + b"\r\n"


LENGTH = b"%d" % len(SMUGGLED)
LAST = b"0\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked"

ODD_BYTES = {
    "NUL": b"\x00",
    "0x01": b"\x01",
    "backspace": b"\x08",
    "tab": b"\t",
    "vertical tab": b"\x0b",
    "form feed": b"\x0c",
    "CR": b"\r",
    "LF": b"\n",
    "0x1c": b"\x1c",
    "0x1f": b"\x1f",
    "space": b" ",
    "delete": b"\x7f",
    "0x85": b"\x85",
    "0xa0": b"\xa0",
    "0xff": b"\xff",
    "UTF-8 blank": b"\xe2\x80\x83",
}

SIZES = {
    "LF alone": b"5\n",
    "CR CR LF": b"5\r\r\n",
    "CR alone": b"5\r",
    "LF CR": b"5\n\r",
    "a plus": b"+5\r\n",
    "a minus": b"-5\r\n",
    "0x": b"0x5\r\n",
    "0X and capitals": b"0X5\r\n",
    "an h": b"5h\r\n",
    "an underscore": b"0_5\r\n",
    "a comma": b"5,\r\n",
    "a dot": b"5.0\r\n",
    "in quotes": b'"5"\r\n',
    "a space in front": b" 5\r\n",
    "a tab in front": b"\t5\r\n",
    "nothing": b"\r\n",
    "an extension alone": b";a\r\n",
    "65 bits": b"10000000000000005\r\n",
    "65 bits of zeros": b"00000000000000005\r\n",
    "a thousand zeros": b"0" * 1000 + b"5\r\n",
    "an extension that ends in LF": b"5;a\n",
    "an extension with CR": b"5;a\rb\r\n",
    "an extension with LF": b"5;a\nb\r\n",
    "an extension with NUL": b"5;a\x00b\r\n",
    "an extension with CR in quotes": b'5;a="\rb"\r\n',
    "an extension with LF in quotes": b'5;a="\nb"\r\n',
    "an extension with CR LF in quotes": b'5;a="\r\nb"\r\n',
    "an extension with an open quote": b'5;a="b\r\n',
    "an empty extension and LF": b"5;\n",
    "an empty extension and CR": b"5;\r",
    "a long extension": b"5;" + b"a" * 20_000 + b"\r\n",
    "a blank, an extension and LF": b"5 ;a\n",
    "a space in the number": b"0 5\r\n",
    **{f"{name} behind": b"5" + byte + b"\r\n" for name, byte in ODD_BYTES.items() if byte not in b" \t\r\n"},
}
"""Lines with the size of a chunk of five bytes."""

ENDS = {
    "nothing": b"",
    "LF": b"\n",
    "CR": b"\r",
    "CR CR": b"\r\r",
    "LF LF": b"\n\n",
    "LF CR": b"\n\r",
    "two letters": b"XX",
    "a letter and LF": b"X\n",
    "CR and a letter": b"\rX",
    "a space": b" \r\n",
    "NUL": b"\x00\r\n",
    "two line ends": b"\r\n\r\n",
    "CR CR LF": b"\r\r\n",
}
"""Behind a chunk's data."""

LASTS = {
    "LF LF": b"0\n\n",
    "CR LF LF": b"0\r\n\n",
    "LF CR LF": b"0\n\r\n",
    "CR LF CR": b"0\r\n\r",
    "CR LF CR CR LF": b"0\r\n\r\r\n",
    "an extension and LF": b"0;a\n\r\n",
    "a trailer that ends in LF": b"0\r\nX: y\n\r\n",
    "a trailer with CR": b"0\r\nX: y\rZ: w\r\n\r\n",
    "a trailer with NUL": b"0\r\nX: y\x00\r\n\r\n",
    "a folded trailer": b"0\r\nX: y\r\n z\r\n\r\n",
    "a trailer without a colon": b"0\r\nXyz\r\n\r\n",
    "a trailer without a name": b"0\r\n: y\r\n\r\n",
    "a trailer with a blank name": b"0\r\nX : y\r\n\r\n",
    "minus": b"-0\r\n\r\n",
    "0x": b"0x0\r\n\r\n",
    "a request as trailer": b"0\r\nGET /smuggled HTTP/1.1\r\n\r\n",
    "a space in the empty line": b"0\r\n \r\n",
    "a bad size of zero": b"0g\r\n\r\n",
}

LENGTHS = {
    "a space before the colon": b"Content-Length : %b",
    "a tab before the colon": b"Content-Length\t: %b",
    "folded": b"Content-Length:\r\n %b",
    "folded with a tab": b"Content-Length:\r\n\t%b",
    "a plus": b"Content-Length: +%b",
    "a minus": b"Content-Length: -%b",
    "a comma": b"Content-Length: %b,",
    "a list": b"Content-Length: %b, %b",
    "a list of two": b"Content-Length: 0, %b",
    "a semicolon": b"Content-Length: %b;",
    "a dot": b"Content-Length: %b.0",
    "an exponent": b"Content-Length: %be0",
    "in quotes": b'Content-Length: "%b"',
    "in brackets": b"Content-Length: (%b)",
    "0x": b"Content-Length: 0x%b",
    "an underscore": b"Content-Length: 0_%b",
    "twice": b"Content-Length: %b\r\nContent-Length: %b",
    "zero and then": b"Content-Length: 0\r\nContent-Length: %b",
    "and then zero": b"Content-Length: %b\r\nContent-Length: 0",
    "empty and then": b"Content-Length:\r\nContent-Length: %b",
    "a space in the name": b"Content Length: %b",
    "a blank line of one": b"Content-Length: %b\r\n ",
    "LF behind": b"X: y\nContent-Length: %b",
    "CR behind": b"X: y\rContent-Length: %b",
    "a colon in front": b": Content-Length: %b",
    "two colons": b"Content-Length:: %b",
    "nothing": b"Content-Length:",
    "letters": b"Content-Length: abc",
    "behind an empty name": b": x\r\nContent-Length: %b",
}

CODINGS = {
    "and a length": b"Content-Length: %b\r\nTransfer-Encoding: chunked",
    "and a length of zero": b"Transfer-Encoding: chunked\r\nContent-Length: 0",
    "a space before the colon": b"Transfer-Encoding : chunked",
    "folded": b"Transfer-Encoding:\r\n chunked",
    "folded with a tab": b"Transfer-Encoding:\r\n\tchunked",
    "folded behind": b"Transfer-Encoding: chunked\r\n x",
    "identity, chunked": b"Transfer-Encoding: identity, chunked",
    "chunked, identity": b"Transfer-Encoding: chunked, identity",
    "gzip, chunked": b"Transfer-Encoding: gzip, chunked",
    "chunked twice": b"Transfer-Encoding: chunked, chunked",
    "in two lines": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "cow in two lines": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow",
    "identity in two lines": b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "an empty member": b"Transfer-Encoding: chunked,",
    "an empty member in front": b"Transfer-Encoding: ,chunked",
    "a parameter": b"Transfer-Encoding: chunked;q=1",
    "in quotes": b'Transfer-Encoding: "chunked"',
    "in single quotes": b"Transfer-Encoding: 'chunked'",
    "an underscore in the value": b"Transfer-Encoding: chun_ked",
    "xchunked": b"Transfer-Encoding: xchunked",
    "chunkedx": b"Transfer-Encoding: chunkedx",
    "chunk": b"Transfer-Encoding: chunk",
    "nothing": b"Transfer-Encoding:",
    "a space in the name": b"Transfer Encoding: chunked",
    "LF behind": b"X: y\nTransfer-Encoding: chunked",
    "CR behind": b"X: y\rTransfer-Encoding: chunked",
    "two colons": b"Transfer-Encoding:: chunked",
    "a colon in front": b": Transfer-Encoding: chunked",
    "a Kelvin sign": "Transfer-Encoding: chun\u212aed".encode(),
}

EXPECTATIONS = {
    "in capitals": b"Expect: 100-CONTINUE",
    "a word in front": b"Expect: y 100-continue",
    "a comma": b"Expect: 100-continue,",
    "a comma in front": b"Expect: ,100-continue",
    "another one behind": b"Expect: 100-continue, x",
    "twice": b"Expect: 100-continue\r\nExpect: 100-continue",
    "nothing": b"Expect:",
    "a parameter": b"Expect: 100-continue;a=b",
    "in quotes": b'Expect: "100-continue"',
    "folded": b"Expect:\r\n 100-continue",
    "a space before the colon": b"Expect : 100-continue",
    "another number": b"Expect: 101-continue",
    "cut short": b"Expect: 100-continu",
    "longer": b"Expect: 100-continue-wrtz",
    "LF in front": b"X: y\nExpect: 100-continue",
    "two words": b"Expect: 100 continue",
    **{f"{name} behind": b"Expect: 100-continue" + byte for name, byte in ODD_BYTES.items()},
    **{f"{name} in front": b"Expect:" + byte + b"100-continue" for name, byte in ODD_BYTES.items()},
}

HOSTS = {
    **{
        f"{name} and another host": b"a.example" + byte + b"b.example"
        for name, byte in {
            "a slash": b"/",
            "a backslash": b"\\",
            "a question mark": b"?",
            "a hash": b"#",
            "an at sign": b"@",
            "a comma": b",",
            "a semicolon": b";",
            "a percent sign": b"%",
            "an encoded NUL": b"%00",
            "an encoded slash": b"%2f",
            "a bar": b"|",
            "a quote": b'"',
            "an angle bracket": b"<",
            "a brace": b"{",
            "a caret": b"^",
            "a backtick": b"`",
            **ODD_BYTES,
        }.items()
    },
    "a port and an at sign": b"a.example:80@b.example",
    "a port and a slash": b"a.example:80/b.example",
    "two ports": b"a.example:80:81",
    "a port of letters": b"a.example:x",
    "a port with a sign": b"a.example:+80",
    "a port beyond 65535": b"a.example:65536",
    "a bracket": b"[::1",
    "a bracket and a name": b"[::1]b.example",
    "two names": b"a.example b.example",
    "a scheme": b"http://a.example",
    "nothing but a port": b":80",
    "nothing but a dot": b".",
    "an empty label": b"a..example",
}

METHODS = ("GET", "HEAD", "OPTIONS", "DELETE", "TRACE", "PUT", "FOO")


def attacks() -> list[Attack]:
    """All of them; the order and the names are always the same."""
    return list(_attacks())


def _attacks() -> Iterator[Attack]:
    yield from _chunks()
    yield from _framing()
    yield from _masked()
    yield from _expectations()
    yield from _hosts()
    yield from _others()


TRAILERS = (
    b"Content-Length: 5",
    b"Content_Length: 5",
    CHUNKED,
    b"Transfer-Encoding: identity",
    b"Host: b.example",
    b"x-pico-endpoint: other",
    b"Connection: close",
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Expect: 100-continue",
    b"X-T: y",
)


def _chunks() -> Iterator[Attack]:
    for name, size in SIZES.items():
        yield Attack("chunk size", name, head(CHUNKED) + size + b"hello\r\n" + LAST + SMUGGLED)
        # The data looks like an end, for those who read the size in another way.
        yield Attack("chunk size, hidden", name, head(CHUNKED) + size + b"0\r\n\r\n" + chunk(SMUGGLED) + LAST)
    for name, end in ENDS.items():
        yield Attack("chunk end", name, head(CHUNKED) + b"5\r\nhello" + end + LAST + SMUGGLED)
        yield Attack("chunk end, hidden", name, head(CHUNKED) + b"5\r\nhello" + end + chunk(SMUGGLED) + LAST)
    for name, last in LASTS.items():
        yield Attack("last chunk", name, head(CHUNKED) + chunk(b"hello") + last + SMUGGLED)
    for field in TRAILERS:
        trailer = b"0\r\n" + field + b"\r\n\r\n"
        yield Attack("trailer", field.decode(), head(CHUNKED) + chunk(b"hello") + trailer + SMUGGLED)
        # The same where trailers are taken, and announced.
        taken = head(CHUNKED, b"TE: trailers", b"Connection: TE", b"Trailer: " + field.partition(b":")[0])
        yield Attack("announced trailer", field.decode(), taken + chunk(b"hello") + trailer + SMUGGLED)


def _framing() -> Iterator[Attack]:
    for name, form in LENGTHS.items():
        line = form.replace(b"%b", LENGTH)
        yield Attack("length", name, head(line) + SMUGGLED)
        yield Attack("length of a GET", name, head(line, line=b"GET /attack HTTP/1.1") + SMUGGLED)
        yield Attack("length first", name, (b"POST /attack HTTP/1.1\r\n" + line + b"\r\n" + head()[23:]) + SMUGGLED)
    for name, form in CODINGS.items():
        line = form.replace(b"%b", LENGTH)
        yield Attack("coding", name, head(line) + LAST + SMUGGLED)
        yield Attack("coding and length", name, head(b"Content-Length: 5", line) + LAST + SMUGGLED)
        yield Attack("coding on 1.0", name, head(line, line=b"POST /attack HTTP/1.0") + LAST + SMUGGLED)
    for method in METHODS:
        start = method.encode() + b" /attack HTTP/1.1"
        name = method
        yield Attack("body with a length", name, head(b"Content-Length: " + LENGTH, line=start) + SMUGGLED)
        yield Attack("body in chunks", name, head(CHUNKED, line=start) + chunk(SMUGGLED) + LAST)
        yield Attack("no length", name, head(line=start) + SMUGGLED)


def _masked() -> Iterator[Attack]:
    for name, byte in ODD_BYTES.items():
        for field, value, body in (
            (b"Content-Length", LENGTH, b""),
            (b"Transfer-Encoding", b"chunked", LAST),
            (b"Host", b"b.example", b""),
            (b"x-pico-endpoint", b"other", b""),
        ):
            places = {
                "before the name": byte + field + b": " + value,
                "in the name": field[:3] + byte + field[3:] + b": " + value,
                "behind the name": field + byte + b": " + value,
                "before the value": field + b":" + byte + value,
                "in the value": field + b": " + value[:1] + byte + value[1:],
                "behind the value": field + b": " + value + byte,
            }
            for place, line in places.items():
                yield Attack(f"masked {field.decode()}", f"{name} {place}", head(line) + body + SMUGGLED)


def _expectations() -> Iterator[Attack]:
    for name, line in EXPECTATIONS.items():
        yield Attack("expect", name, head(line, b"Content-Length: " + LENGTH) + SMUGGLED)
        yield Attack(
            "expect of a GET", name, head(line, b"Content-Length: " + LENGTH, line=b"GET /attack HTTP/1.1") + SMUGGLED
        )
        yield Attack("expect and chunks", name, head(line, CHUNKED) + chunk(SMUGGLED) + LAST)


def _hosts() -> Iterator[Attack]:
    for name, host in HOSTS.items():
        line = b"Host: " + host + b"\r\n"
        yield Attack("host", name, head(host=line, line=b"GET /attack HTTP/1.1") + SMUGGLED)
        target = b"GET http://" + host + b"/attack HTTP/1.1"
        yield Attack("absolute target", name, head(host=line, line=target) + SMUGGLED)
        yield Attack("absolute target, another host", name, head(line=target) + SMUGGLED)


def _others() -> Iterator[Attack]:
    for name in ("content-length", "transfer-encoding", "host", "x-pico-endpoint", "x-forwarded-for", "expect"):
        line = b"Connection: close, " + name.encode()
        yield Attack("named in Connection", name, head(line, b"Content-Length: " + LENGTH) + SMUGGLED)
        line = b"Connection: keep-alive, " + name.encode()
        yield Attack("named in Connection, kept", name, head(line, b"Content-Length: 0") + SMUGGLED)
    for name in ("websocket", "h2c", "raw", "TLS/1.0"):
        lines = (b"Connection: Upgrade", b"Upgrade: " + name.encode())
        yield Attack("upgrade with a length", name, head(*lines, b"Content-Length: " + LENGTH) + SMUGGLED)
        yield Attack("upgrade with chunks", name, head(*lines, CHUNKED) + chunk(SMUGGLED) + LAST)
        yield Attack("upgrade and more", name, head(*lines, line=b"GET /attack HTTP/1.1") + SMUGGLED)
    names = {
        "an empty name": b": x",
        "a blank name": b" : x",
        "two colons": b"::x",
        "no colon": b"xyz",
        "a colon": b":",
    }
    for name, line in names.items():
        yield Attack("field", name, head(line, b"Content-Length: " + LENGTH) + SMUGGLED)
    lines_of_requests = {
        "a tab": b"POST\t/attack\tHTTP/1.1",
        "a vertical tab": b"POST\x0b/attack\x0bHTTP/1.1",
        "two spaces": b"POST  /attack HTTP/1.1",
        "a NUL": b"POST /attack\x00 HTTP/1.1",
        "a CR": b"POST /attack\rHTTP/1.1",
        "a version of 1.1.1": b"POST /attack HTTP/1.1.1",
        "a version of 1.2": b"POST /attack HTTP/1.2",
        "a version of 1": b"POST /attack HTTP/1",
        "a version of 3.0": b"POST /attack HTTP/3.0",
        "a version with a blank": b"POST /attack HTTP/ 1.1",
        "no version": b"POST /attack",
        "a colon behind the method": b"POST: /attack HTTP/1.1",
        "another line in the target": b"GET /attack HTTP/1.1\r\nGET /smuggled HTTP/1.1",
        "a line in front": b"X: y\r\nPOST /attack HTTP/1.1",
        "a blank in front": b" POST /attack HTTP/1.1",
        "an LF in front": b"\nPOST /attack HTTP/1.1",
        "a CR in front": b"\rPOST /attack HTTP/1.1",
        "a NUL in front": b"\x00POST /attack HTTP/1.1",
        "a byte order mark": b"\xef\xbb\xbfPOST /attack HTTP/1.1",
    }
    for name, line in lines_of_requests.items():
        yield Attack("request line", name, head(b"Content-Length: " + LENGTH, line=line) + SMUGGLED)
