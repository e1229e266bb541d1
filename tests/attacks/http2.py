"""The attacks of clients over HTTP/2, and those that only HTTP/2 makes possible.

An attack of HTTP/1.1 is put into frames as it is: its lines become fields, byte for byte, and what follows its head
becomes DATA. HTTP/2 says where the message ends, so whoever writes it anew for a service has to write one message, or
none. The frames are made here: a client library would refuse to send most of it.

Sources of the forms: James Kettle, "HTTP/2: The sequel is always worse" (2021) and "HTTP/1.1 must die" (2025); Emil
Lerner, "HTTP request smuggling via higher HTTP versions" (2021); RFC 9113 8.2, 8.3 and 10.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from hpack import Decoder, HPACKError

from tests.attacks.judging import DESYNC, MALFORMED, ONE, PATIENCE_S, REFUSED, WAITS
from tests.attacks.requests import SMUGGLED, Attack, attacks
from tests.peers import http2_frames as frames
from tests.peers.pipe import Ended
from tests.system import wire
from tests.system.service import Service
from tests.system.wire import Malformed

FRAME_BYTES: Final = 16_000


@dataclass(frozen=True)
class Attack2:
    """One request over HTTP/2.

    Attributes:
        kind, name: as of `Attack`.
        fields: of its field section, in order, as they are.
        body: its DATA.
    """

    kind: str
    name: str
    fields: Sequence[tuple[bytes, bytes]]
    body: bytes = b""


def translated(attack: Attack, endpoint: bytes) -> Attack2:
    """An attack of HTTP/1.1 in frames."""
    head, _, body = attack.data.partition(b"\r\n\r\n")
    line, *lines = head.split(b"\r\n")
    method, _, rest = line.partition(b" ")
    target = rest.rpartition(b" ")[0] or rest
    fields = [(b":method", method), (b":scheme", b"http"), (b":path", target)]
    others: list[tuple[bytes, bytes]] = []
    for text in lines:
        name, colon, value = text.partition(b":")
        if name.lower() == b"host" and not any(one == b":authority" for one, _ in fields):
            fields.append((b":authority", value.strip(b" ")))
        elif name.lower() == b"x-pico-endpoint":
            others.append((b"x-pico-endpoint", endpoint))
        else:
            others.append((name.lower() if colon else text, value[1:] if value[:1] == b" " else value))
    return Attack2(attack.kind, attack.name, [*fields, *others], body)


def own(endpoint: bytes) -> Iterator[Attack2]:
    """Attacks that HTTP/1.1 has no words for."""

    def request(kind: str, name: str, *more: tuple[bytes, bytes], body: bytes = b"", **pseudo: bytes | None) -> Attack2:
        values = {"method": b"POST", "scheme": b"http", "authority": b"a.example", "path": b"/attack", **pseudo}
        fields = [(b":" + key.encode(), value) for key, value in values.items() if value is not None]
        return Attack2(kind, name, [*fields, (b"x-pico-endpoint", endpoint), *more], body)

    inner = b"\r\n\r\n" + SMUGGLED
    breaks = {"CR LF": b"\r\n", "LF": b"\n", "CR": b"\r", "NUL": b"\0", "two line ends": b"\r\n\r\n"}
    for name, end in breaks.items():
        yield request("break in a value", name, (b"x-a", b"b" + end + b"x-smuggled: 1"), body=b"hello")
        yield request("break in a name", name, (b"x-a: b" + end + b"x-smuggled", b"1"), body=b"hello")
        yield request("request in a value", name, (b"x-a", b"b" + end + SMUGGLED), body=b"hello")
        yield request("break in :path", name, path=b"/attack HTTP/1.1" + end + b"Host: b" + inner)
        yield request("break in :method", name, method=b"GET / HTTP/1.1" + end + b"Host: b" + inner)
        yield request("break in :authority", name, authority=b"a.example" + end + b"x-smuggled: 1" + inner)
        yield request("break in :scheme", name, scheme=b"http" + end + b"x-smuggled: 1")
        yield request("break in a cookie", name, (b"cookie", b"a=b" + end + b"x-smuggled: 1"), (b"cookie", b"c=d"))
        yield request("break at an end", name, (b"x-a", b"b" + end), body=b"hello")
        yield request("break at a beginning", name, (b"x-a", end + b"b"), body=b"hello")
    for length in (b"0", b"4", b"6", b"5, 5", b"+5", b"5 ", b"0x5", b"99999999999999999999", b"", b"-1", b"5\r\n"):
        yield request("H2.CL", length.decode(), (b"content-length", length), body=b"hello")
    yield request("H2.CL", "zero before a request", (b"content-length", b"0"), body=SMUGGLED)
    yield request("H2.CL", "two", (b"content-length", b"5"), (b"content-length", b"0"), body=b"hello")
    yield request("H2.CL", "two alike", (b"content-length", b"5"), (b"content-length", b"5"), body=b"hello")
    for coding in (b"chunked", b"Chunked", b"identity", b"gzip, chunked", b" chunked", b"chunked ", b"x"):
        yield request("H2.TE", coding.decode(), (b"transfer-encoding", coding), body=b"0\r\n\r\n" + SMUGGLED)
    for field_name in (b"connection", b"keep-alive", b"proxy-connection", b"upgrade", b"http2-settings", b"te"):
        yield request("of a connection", field_name.decode(), (field_name, b"close"), body=b"hello")
    for wrong in (b"Transfer-Encoding", b"X-A", b"x a", b"x-a ", b" x-a", b"x-a:", b"", b"x\xff", b"x\x7f", b"(x)"):
        yield request("name", repr(wrong), (wrong, b"chunked"), body=b"0\r\n\r\n" + SMUGGLED)
    for target in (b"", b"attack", b"*", b"/a b", b"/a\tb", b"http://b.example/a", b"//b.example/", b"/a#b", b"/\xff"):
        yield request(":path", repr(target), path=target)
    for verb in (b"", b"GET ", b" GET", b"GET /x", b"G\tET", b"CONNECT", b"get", b"HEAD\x00"):
        yield request(":method", repr(verb), method=verb)
    for authority in (b"", b"a.example, b", b"user@a.example", b"a.example/x", b"a b", b"a.example:x", b"\xff"):
        yield request(":authority", repr(authority), authority=authority)
    for scheme in (b"", b"ftp", b"http://b.example/?", b"https", b"http "):
        yield request(":scheme", repr(scheme), scheme=scheme)
    yield request("pseudo-headers", "no :path", path=None)
    yield request("pseudo-headers", "no :method", method=None)
    yield request("pseudo-headers", "no :scheme", scheme=None)
    yield request("pseudo-headers", "no :authority and no Host", authority=None)
    yield request("pseudo-headers", "two Hosts that differ", (b"host", b"b.example"))
    yield request("pseudo-headers", "a Host alone", (b"host", b"a.example"), authority=None)
    yield request("pseudo-headers", "two Hosts, no :authority", (b"host", b"a"), (b"host", b"b"), authority=None)
    for extra in (b":path", b":method", b":authority", b":scheme", b":status", b":protocol", b":x", b":"):
        yield request("pseudo-headers", f"{extra.decode()} behind the fields", (extra, b"/smuggled"))
    for first in (b":path", b":method", b":authority", b":scheme"):
        plain = request("pseudo-headers", f"{first.decode()} twice")
        yield Attack2(plain.kind, plain.name, [(first, b"/smuggled"), *plain.fields])
    yield request("pseudo-headers", "a CONNECT for a WebSocket", method=b"CONNECT", protocol=b"websocket\r\nx: y")
    yield request("endpoint", "two", (b"x-pico-endpoint", b"another"))


def bytes_of(attack: Attack2) -> bytes:
    """A connection with the attack as its first request, whole."""
    out = frames.PREFACE + frames.settings() + frames.headers(1, attack.fields, end=not attack.body)
    pieces = [attack.body[at : at + FRAME_BYTES] for at in range(0, len(attack.body), FRAME_BYTES)]
    for number, piece in enumerate(pieces, 1):
        out += frames.data(1, piece, end=number == len(pieces))
    return out


@dataclass
class Answered:
    """What came back.

    Attributes:
        fields: of the response; empty when there was none.
        ended: how: "whole", "reset", "closed" or "waits".
    """

    fields: dict[bytes, bytes] = field(default_factory=dict)
    ended: str = "waits"


def read_answer(stream: wire.Stream) -> Answered:
    """The answer to the one request of a connection."""
    decoder, answered = Decoder(), Answered()
    try:
        while answered.ended == "waits":
            head = stream.read(9, PATIENCE_S)
            payload = stream.read(int.from_bytes(head[:3], "big"), PATIENCE_S)
            kind, flags = head[3], head[4]
            if kind == frames.HEADERS:
                decoded = decoder.decode(payload, raw=True)
                answered.fields.update((bytes(one[0]), bytes(one[1])) for one in decoded)
            if kind == frames.RST_STREAM:
                answered.ended = "reset"
            elif kind in (frames.DATA, frames.HEADERS) and flags & frames.END_STREAM:
                answered.ended = "whole"
            elif kind == frames.GOAWAY and int.from_bytes(payload[4:8], "big"):
                answered.ended = "closed"
    except (Ended, TimeoutError) as error:
        answered.ended = "waits" if isinstance(error, TimeoutError) else "closed"
    except HPACKError as error:
        raise Malformed(str(error)) from None
    return answered


def judge(stream: wire.Stream, attack: Attack2, service: Service) -> str:
    """What became of an attack; the words are those of `judging`. The service's handler is `judging.saw`."""
    before, errors = len(service.requests), len(service.errors())
    try:
        stream.send(bytes_of(attack))
        answered = read_answer(stream)
    except Malformed:
        return MALFORMED
    except Ended:
        answered = Answered(ended="closed")
    finally:
        stream.close()
    requests = service.requests[before:]
    if any(isinstance(error, Malformed) for error in service.errors()[errors:]):
        return MALFORMED
    if not requests:
        return WAITS if answered.ended == "waits" else REFUSED
    (first, *others) = requests
    if others or first.body != attack.body or first.target == b"/smuggled" or b"x-smuggled" in first.names:
        return DESYNC
    if answered.ended == "whole" and answered.fields.get(b"x-saw") not in (None, first.target):
        return DESYNC
    return ONE


def all_attacks(endpoint: bytes) -> Iterator[Attack2]:
    """Those of HTTP/1.1 in frames, and those of HTTP/2 alone."""
    for attack in attacks():
        yield translated(attack, endpoint)
    yield from own(endpoint)
