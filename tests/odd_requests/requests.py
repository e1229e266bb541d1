"""A few hundred requests that RFC 9110 and RFC 9112 allow and that few clients send, generated.

Each has a name, which says what is odd about it. The last ones are put together from several oddities at random, always
the same ones.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

ENDPOINT = b"x-pico-endpoint: odd\r\n"
"""Stands in every request, for the node that is asked; to others it is one field more."""

COMBINED = 150

METHODS = b"""
    GET HEAD POST PUT DELETE OPTIONS TRACE PATCH ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT COPY LABEL LINK LOCK MERGE
    M-SEARCH MKACTIVITY MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE NOTIFY ORDERPATCH PRI PROPFIND PROPPATCH PURGE
    QUERY REBIND REPORT SEARCH SOURCE SUBSCRIBE UNBIND UNCHECKOUT UNLINK UNLOCK UNSUBSCRIBE UPDATE UPDATEREDIRECTREF
    VERSION-CONTROL LIST RPC_IN_DATA RPC_OUT_DATA RDG_OUT_DATA BITS_POST CCM_POST BAN X-CUSTOM FROB DESCRIBE get Post
    A M2 X.Y X~Y X!Y X$Y X'Y X*Y X+Y X^Y X`Y X|Y X&Y X%Y
""".split()

TARGETS = {
    **{f"visible byte {chr(byte)}": b"/a" + bytes([byte]) + b"b" for byte in b"!\"$&'()*+,-.;<=>@[\\]^_`{|}~:"},
    **{f"visible byte {chr(byte)} in the query": b"/?a" + bytes([byte]) + b"b" for byte in b"\"'<>[\\]^`{|}/?"},
    "two slashes": b"//a//b",
    "dot segments": b"/a/./b/../c",
    "dots above the root": b"/../a",
    "an encoded slash": b"/a%2Fb",
    "an encoded dot": b"/%2e%2E/a",
    "an encoded NUL": b"/a%00b",
    "an encoded line end": b"/a%0D%0Ab",
    "an encoded high byte": b"/%FF%fe",
    "a percent sign alone": b"/100%",
    "a percent sign and no digits": b"/a%zzb",
    "UTF-8": "/caf\u00e9/\u20ac".encode(),
    "Latin-1": b"/caf\xe9",
    "UTF-8 in the query": "/?q=\u00e9".encode(),
    "an empty query": b"/a?",
    "two question marks": b"/a??b=?",
    "a colon at the start": b"/:80",
    "a URL in the path": b"/http://other.example/",
    "a long target": b"/" + b"a" * 4000,
    "a longer target": b"/" + b"a" * 7900,
    "a long query": b"/?" + b"a=b&" * 900,
    "absolute": b"http://a.example/x?y",
    "absolute of another host": b"http://b.example:81/x",
    "absolute with a query alone": b"http://a.example?x",
    "absolute with nothing": b"http://a.example",
    "absolute in capitals": b"HTTP://A.EXAMPLE/x",
    "absolute https": b"https://a.example/x",
    "absolute with an empty port": b"http://a.example:/x",
    "absolute with an IPv6 address": b"http://[::1]:80/x",
    "absolute with UTF-8": "http://a.example/\u00e9".encode(),
}

HOSTS = {
    "none": b"",
    "a port": b"a.example:8080",
    "an empty port": b"a.example:",
    "port 0": b"a.example:0",
    "port with zeros": b"a.example:00080",
    "a dot at the end": b"a.example.",
    "one label": b"localhost",
    "capitals": b"A.EXAMPLE",
    "an underscore": b"a_b.example",
    "a tilde": b"a~b.example",
    "an exclamation mark": b"a!b.example",
    "a percent sign": b"a%41.example",
    "an asterisk": b"*.example",
    "a dollar sign": b"a$b.example",
    "an ampersand": b"a&b.example",
    "an apostrophe": b"a'b.example",
    "parentheses": b"a(b).example",
    "a plus": b"a+b.example",
    "a comma": b"a,b.example",
    "a semicolon": b"a;b.example",
    "an equals sign": b"a=b.example",
    "two dots": b"a..example",
    "a hyphen at the start": b"-a.example",
    "digits": b"123",
    "IPv4": b"127.0.0.1",
    "IPv4 and a port": b"127.0.0.1:80",
    "IPv6": b"[::1]",
    "IPv6 and a port": b"[2001:db8::1]:8080",
    "IPv6 and an empty port": b"[::1]:",
    "IPv6 with a zone": b"[fe80::1%25eth0]",
    "IPv6 with IPv4": b"[::ffff:1.2.3.4]",
    "a long name": b"a" * 250,
    "63 labels": b".".join([b"abc"] * 63),
    "punycode": b"xn--caf-dma.example",
}

_UTF_8 = "Jos\u00e9 \u20ac".encode()
FIELDS = {
    **{
        f"high bytes in {name.decode()}": name + b": " + before + _UTF_8 + behind
        for name, before, behind in [
            (b"Cookie", b"name=", b""),
            (b"Referer", b"http://a.example/", b""),
            (b"User-Agent", b"Agent ", b"/1"),
            (b"Content-Disposition", b'attachment; filename="', b'"'),
            (b"If-Match", b'"', b'"'),
            (b"Authorization", b'Digest username="', b'"'),
            (b"Destination", b"http://a.example/", b""),
            (b"Remote-User", b"", b""),
            (b"From", b"", b"@a.example"),
            (b"Accept-Language", b"", b""),
            (b"X-Forwarded-User", b"", b""),
            (b"Content-Type", b'text/plain; name="', b'"'),
            (b"Slug", b"", b""),
            (b"Origin", b"http://", b""),
            (b"X-Name", b"", b""),
        ]
    },
    **{
        f"byte {byte:02x} in a value": b"X-A: a" + bytes([byte]) + b"b" for byte in (0x80, 0x85, 0xA0, 0xAD, 0xE9, 0xFF)
    },
    **{f"byte {chr(byte)} in a name": b"X" + bytes([byte]) + b"A: b" for byte in b"!#$%&'*+.^_`|~0"},
    "an empty value": b"X-A:",
    "blanks alone": b"X-A: \t ",
    "tabs in a value": b"X-A: a\tb",
    "no space behind the colon": b"X-A:b",
    "many blanks": b"X-A:" + b" " * 100 + b"b" + b" " * 100,
    "a value of colons": b"X-A: :::",
    "a long value": b"X-A: " + b"a" * 6000,
    "a long name": b"X-" + b"a" * 200 + b": b",
    "quotes": b'X-A: "a, \\"b\\""',
    "one quote": b'X-A: "a',
    "a name of one letter": b"A: b",
    "capitals": b"X-ALL-CAPITALS: b",
    "an underscore": b"X_A: b",
    "two of a name": b"X-A: b\r\nX-A: c",
    "two cookies": b"Cookie: a=b\r\nCookie: c=d",
    "two Accepts": b"Accept: a/b\r\nAccept: c/d",
    "fifty cookies": b"Cookie: " + b"; ".join(b"c%d=v" % number for number in range(50)),
    "ninety fields": b"\r\n".join(b"X-%d: y" % number for number in range(90)),
    "a request ID that is none": b"X-Request-Id: a b c",
    "Forwarded": b'Forwarded: for="[::1]";proto=https',
    "X-Forwarded-For": b"X-Forwarded-For: 6.6.6.6, unknown",
    "Via": b"Via: 1.0 fred, 1.1 p.example",
    "Max-Forwards": b"Max-Forwards: 0",
    "Date": b"Date: Thu, 01 Jan 1970 00:00:00 GMT",
    "a Date that is none": b"Date: yesterday",
    "Range": b"Range: bytes=0-0,-1",
    "a Range that is none": b"Range: lines=5",
    "If-Modified-Since that is none": b"If-Modified-Since: now",
    "Accept-Encoding of nothing": b"Accept-Encoding:",
    "Authorization of nothing": b"Authorization:",
    "Content-Type without a body": b"Content-Type: text/plain",
    "Content-Encoding without a body": b"Content-Encoding: gzip",
    "Trailer without trailers": b"Trailer: X-T",
    "TE": b"TE: trailers\r\nConnection: TE",
    "TE with weights": b"TE: trailers, deflate;q=0.5",
    "TE of nothing": b"TE:",
    "Upgrade without Connection": b"Upgrade: websocket",
    "Connection: Upgrade alone": b"Connection: Upgrade",
    "Upgrade to h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
    "Upgrade that nobody takes": b"Connection: Upgrade\r\nUpgrade: foo/2",
    "Upgrade to TLS": b"Connection: Upgrade\r\nUpgrade: TLS/1.3",
    "Upgrade to several": b"Connection: Upgrade\r\nUpgrade: a/1, b",
    "Connection: close": b"Connection: close",
    "Connection: keep-alive": b"Connection: keep-alive",
    "Connection in capitals": b"CONNECTION: CLOSE",
    "Connection of two": b"Connection: keep-alive, close",
    "Connection with commas": b"Connection: ,, close ,",
    "Connection of nothing": b"Connection:",
    "Connection twice": b"Connection: keep-alive\r\nConnection: X-A",
    "Connection names a field": b"Connection: X-A\r\nX-A: b",
    "Connection names nothing that is there": b"Connection: X-Z",
    "Keep-Alive": b"Keep-Alive: timeout=5, max=100",
    "Proxy-Connection": b"Proxy-Connection: keep-alive",
    "Proxy-Authorization": b"Proxy-Authorization: Basic eDp5",
    "Sec- fields": b'Sec-Fetch-Mode: cors\r\nSec-CH-UA: "a";v="1"',
    "Content-Length: 0": b"Content-Length: 0",
    "Content-Length: 000": b"Content-Length: 000",
    "Priority": b"Priority: u=1, i",
    "Early-Data": b"Early-Data: 1",
}

EXPECTATIONS = {
    "continue": b"100-continue",
    "continue in capitals": b"100-Continue",
    "continue with blanks": b" 100-continue\t",
    "nothing": b"",
    "continue with a comma": b"100-continue,",
    "something else": b"200-ok",
    "continue twice": b"100-continue, 100-continue",
    "a parameter": b"100-continue;q=1",
}


def _chunks(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


BODY = b"hello, body"
_HELLO = b"b\r\n" + BODY + b"\r\n"
CODED = {
    "one chunk": _chunks(BODY),
    "chunks of one byte": _chunks(*(bytes([byte]) for byte in BODY)),
    "a capital size": b"B\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a zero before the size": b"0b\r\n" + BODY + b"\r\n0\r\n\r\n",
    "zeros before the size": b"0" * 14 + b"b\r\n" + BODY + b"\r\n0\r\n\r\n",
    "many zeros before the size": b"0" * 60 + b"b\r\n" + BODY + b"\r\n0\r\n\r\n",
    "many zeros at the end": _HELLO + b"0" * 10 + b"\r\n\r\n",
    "an extension": b"b;a=b\r\n" + BODY + b"\r\n0\r\n\r\n",
    "an extension without a value": b"b;a\r\n" + BODY + b"\r\n0\r\n\r\n",
    "an extension in quotes": b'b;a="b;c"\r\n' + BODY + b"\r\n0\r\n\r\n",
    "extensions": b"b;a;b=c;d\r\n" + BODY + b"\r\n0;e\r\n\r\n",
    "blanks around an extension": b"b ; a = b\r\n" + BODY + b"\r\n0\r\n\r\n",
    "an extension of forty bytes": b"b;" + b"a" * 40 + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
    "forty bytes at each chunk": b"1;%b\r\nx\r\n" % (b"a" * 40) * 1000 + b"0\r\n\r\n",
    "blanks behind the size": b"b  \r\n" + BODY + b"\r\n0\r\n\r\n",
    "a tab behind the size": b"b\t\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a trailer": _HELLO + b"0\r\nX-T: y\r\n\r\n",
    "trailers": _HELLO + b"0\r\nX-T: y\r\nX-U:\r\nX-V: z\r\n\r\n",
    "a trailer with high bytes": _HELLO + b"0\r\nX-T: " + _UTF_8 + b"\r\n\r\n",
    "no body": b"0\r\n\r\n",
}
CODED_BODIES = {"forty bytes at each chunk": b"x" * 1000, "no body": b""}


@dataclass(frozen=True, kw_only=True)
class OddRequest:
    """One request.

    Attributes:
        name: what is odd about it, behind the kind of oddity and a colon.
        data: its bytes.
        method: as the service should see it.
        body: likewise.
        piece_bytes: how many bytes are sent at a time; 0 for all at once.
    """

    name: str
    data: bytes
    method: bytes = b"GET"
    body: bytes = b""
    piece_bytes: int = 0

    def with_data(self, data: bytes) -> OddRequest:
        """The same request with other bytes."""
        return replace(self, data=data)

    @property
    def kind(self) -> str:
        """The kind of oddity."""
        return self.name.partition(":")[0]


def _request(
    name: str,
    *lines: bytes,
    method: bytes = b"GET",
    target: bytes = b"/",
    version: bytes = b"1.1",
    host: bytes | None = b"a.example",
    body: bytes = b"",
    coded: bytes = b"",
    piece_bytes: int = 0,
) -> OddRequest:
    fields = list(lines)
    if host is not None:
        fields.insert(0, b"Host: " + host)
    if coded:
        fields.append(b"Transfer-Encoding: chunked")
    elif body:
        fields.append(b"Content-Length: %d" % len(body))
    line = method + b" " + target + b" HTTP/" + version
    head = b"\r\n".join([line, *fields]) + b"\r\n" + ENDPOINT + b"\r\n"
    return OddRequest(name=name, data=head + (coded or body), method=method, body=body, piece_bytes=piece_bytes)


def _singles() -> Iterator[OddRequest]:
    for method in METHODS:
        yield _request(f"method: {method.decode()}", method=method)
        if method not in (b"GET", b"HEAD", b"TRACE"):
            yield _request(f"method: {method.decode()} with a body", method=method, body=BODY)
    yield _request("method: GET with a body", body=BODY)
    yield _request("method: HEAD with a body", method=b"HEAD", body=BODY)
    yield _request("target: * for OPTIONS", method=b"OPTIONS", target=b"*")
    yield _request("target: absolute with nothing for OPTIONS", method=b"OPTIONS", target=b"http://a.example")
    for name, target in TARGETS.items():
        yield _request(f"target: {name}", target=target)
    for name, host in HOSTS.items():
        yield _request(f"host: {name}", host=host)
    for name, field in FIELDS.items():
        yield _request(f"field: {name}", field)
        if name.startswith(("Upgrade", "Connection", "TE")):
            yield _request(f"field: {name}, with a body", field, method=b"POST", body=BODY)
        else:
            yield _request(f"field: {name}, on 1.0", field, version=b"1.0")
    for name, value in EXPECTATIONS.items():
        yield _request(f"expectation: {name}", b"Expect: " + value, method=b"POST", body=BODY)
        yield _request(f"expectation: {name}, without a body", b"Expect: " + value)
        yield _request(f"expectation: {name}, on 1.0", b"Expect: " + value, method=b"PUT", version=b"1.0", body=BODY)
    for name, coded in CODED.items():
        body = CODED_BODIES.get(name, BODY)
        yield _request(f"coding: {name}", method=b"POST", coded=coded, body=body)
    yield from _framings()


def _framings() -> Iterator[OddRequest]:
    coded = _chunks(BODY)
    for name, field in {"in capitals": b"CHUNKED", "with blanks": b"  chunked \t"}.items():
        request = _request(f"coding: chunked {name}", method=b"POST", coded=coded, body=BODY)
        yield OddRequest(
            name=request.name,
            data=request.data.replace(b"g: chunked", b"g: " + field),
            method=b"POST",
            body=BODY,
        )
    yield OddRequest(
        name="length: zeros in front",
        data=b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0011\r\n" + ENDPOINT + b"\r\n" + BODY,
        method=b"POST",
        body=BODY,
    )
    for size in (1, 100, 4096, 16_384, 65_536, 200_000):
        yield _request(f"size: a body of {size}", method=b"POST", body=b"x" * size)
        yield _request(
            f"size: chunks of {size}", method=b"POST", coded=_chunks(b"x" * size, b"y"), body=b"x" * size + b"y"
        )
    for size in (1000, 3000, 7000):
        yield _request(f"size: a field of {size}", b"X-A: " + b"a" * size)
        yield _request(f"size: fields of {size}", *[b"X-%d: " % number + b"a" * (size // 10) for number in range(10)])
    for version in (b"1.0", b"1.2", b"1.9"):
        for host in (b"a.example", None) if version == b"1.0" else (b"a.example",):
            which = f"{version.decode()}{'' if host else ' without Host'}"
            yield _request(f"version: {which}", version=version, host=host)
            yield _request(f"version: {which}, kept alive", b"Connection: Keep-Alive", version=version, host=host)
            yield _request(f"version: {which} with a body", method=b"POST", version=version, host=host, body=BODY)
    yield _request("order: Host at the end", b"X-A: b", b"Host: a.example", host=None)
    yield OddRequest(
        name="order: the length first",
        data=b"POST / HTTP/1.1\r\nContent-Length: 11\r\nX-A: b\r\n" + ENDPOINT + b"Host: a.example\r\n\r\n" + BODY,
        method=b"POST",
        body=BODY,
    )
    plain = _request("", b"X-A: b", method=b"POST", body=BODY)
    for count in (1, 2, 5):
        yield OddRequest(
            name=f"order: {count} empty lines in front", data=b"\r\n" * count + plain.data, method=b"POST", body=BODY
        )
    for piece_bytes in (1, 2, 7):
        yield OddRequest(
            name=f"order: in pieces of {piece_bytes}",
            data=plain.data,
            method=b"POST",
            body=BODY,
            piece_bytes=piece_bytes,
        )
        chunked = _request("", method=b"POST", coded=_chunks(*(bytes([byte]) for byte in BODY)), body=BODY)
        yield OddRequest(
            name=f"order: chunks in pieces of {piece_bytes}",
            data=chunked.data,
            method=b"POST",
            body=BODY,
            piece_bytes=piece_bytes,
        )


def _combined(chance: random.Random) -> Iterator[OddRequest]:
    for number in range(COMBINED):
        method = chance.choice([method for method in METHODS if method not in (b"HEAD", b"TRACE")])
        target = chance.choice(sorted(TARGETS))
        host = chance.choice([host for host in sorted(HOSTS) if not set(HOSTS[host]) & set(b",;=")])
        fields = chance.sample([name for name in sorted(FIELDS) if b"Connection" not in FIELDS[name]], 3)
        coding = chance.choice([None, "", *sorted(CODED)])
        has_body = coding is not None and not any("Length" in name for name in fields)
        body = CODED_BODIES.get(coding or "", BODY) if has_body else b""
        yield _request(
            f"combined: {number}",
            *[FIELDS[name] for name in fields],
            method=method,
            target=TARGETS[target],
            host=HOSTS[host],
            coded=CODED[coding] if has_body and coding else b"",
            body=body,
        )


def odd_requests() -> list[OddRequest]:
    """All of them, always the same ones."""
    return [*_singles(), *_combined(random.Random(1))]
