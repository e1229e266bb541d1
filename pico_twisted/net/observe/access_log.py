"""The access log: a line for each request, of the subsystem `access`."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Protocol, TypedDict

from pico_twisted.core.http1.memo import Memo
from pico_twisted.core.secret_names import hide_query_secrets
from pico_twisted.core.text import escaped, milliseconds, short_size
from pico_twisted.net.observe.formats import Place, Timestamps, chosen_format, priority, text_value, time_of_day
from pico_twisted.net.observe.lines import MAX_FIELD_CHARS, bounded

ACCESS_BUFFER_CHARS: Final = 64 * 1024
"""Characters of access lines that wait for the next flush: about two hundred requests, which a crash may lose. Their
heads are kept so long."""

LINE_CHARS: Final = 400
"""Characters that a line is assumed to have beside its target."""

TARGET_COLUMNS: Final = 20
"""Columns that a target takes on a terminal at least, so that what stands behind short ones is below each other."""
MOST_TARGET_COLUMNS: Final = 40
"""Columns that a target takes on a terminal at most: the line of a request should fit into 80."""

_quote: Callable[[str], str] = json.encoder.encode_basestring_ascii
_COMBINED_TIME: Final = "%d/%b/%Y:%H:%M:%S +0000"
_NOT_PLAIN: Final = re.compile(r"""[^ !#-\[\]-~]""")


class LoggedRequest(TypedDict):
    """What is told of a request that is over, also of one that failed before it was routed.

    Attributes:
        client: the address that it came from; behind trusted proxies the one that they tell.
        proxies: addresses of these proxies, the nearest last; empty when there are none, or none that tells.
        method: as received; may be empty when there was no request line.
        target: path and query, as received; values of parameters that look like credentials are hidden.
        endpoint: the endpoint ID, empty when none was found.
        upstream: which agent or node served it, empty when none did.
        status: what the client got; 499 when it went away first.
        bytes_in: bytes of the request's body.
        bytes_out: bytes of the answer's body.
        first_byte_s: seconds until the answer began; None when it did not.
        duration_s: seconds from the first byte of the head to the end.
        request_id: the `x-request-id` that it went on with.
        error: the code of an error that Pico made, empty when it made none.
        protocol: what it came over: `HTTP/1.0`, `HTTP/1.1` or `HTTP/2.0`.
        fields: the first value of each field of its head, by lower-case name.
        subject: who sent it, where the port authenticates; empty otherwise, and for somebody unknown.
    """

    client: str
    proxies: bytes
    method: bytes
    target: bytes
    endpoint: str
    upstream: str
    status: int
    bytes_in: int
    bytes_out: int
    first_byte_s: float | None
    duration_s: float
    request_id: str
    error: str
    protocol: str
    fields: Mapping[bytes, bytes]
    subject: str


NO_FIELDS: Final[Mapping[bytes, bytes]] = MappingProxyType({})
"""Of a request of which nobody needs the fields any more."""


class RequestLog(Protocol):
    """Told of requests that are over, each once.

    Attributes:
        enabled: whether it wants to be.
    """

    enabled: bool

    def request(self, request: LoggedRequest) -> None:
        """Take a request."""


class AccessLog:
    """Gathers what is known of requests, and writes their lines.

    Requests are many and their lines all alike, so they do not pass through the logger: what is known of each is kept,
    and `flush` puts the lines together from quoted values and writes them with one call. Many lines in a row cost half
    of what they do one by one, between all else that a request is. `proxy.access_log` alone decides whether they are
    written; `log.level` does not.

    Args:
        stream_write: takes whole lines; `Logging.write`.
        format: `json`, `text`, `combined`, or `auto`.
        enabled: whether lines are made at all; may be changed later.
        wall_clock: seconds of the Unix epoch.
        worker: the number of the worker that speaks, on a host with several.
        place: where lines go. On a terminal a line of text says what a person looks for, elsewhere all that is known.
    """

    def __init__(
        self,
        stream_write: Callable[[str], object],
        format: str = "json",
        enabled: bool = True,
        wall_clock: Callable[[], float] = time.time,
        worker: int | None = None,
        place: Place = Place.ELSEWHERE,
    ) -> None:
        format = chosen_format(format, place)
        self._line = {
            "json": self._json_line,
            "combined": self._combined_line,
            "text": self._short_line if place is Place.TERMINAL else self._text_line,
        }[format]
        self._start = priority("info", place)
        if format == "json":
            self._end = "}\n" if worker is None else f',"worker":{worker}}}\n'
        else:
            self._end = "\n" if worker is None else f" worker={worker}\n"
        self._dated = place is not Place.JOURNAL
        self.enabled = enabled
        self._write = stream_write
        self._wall_clock = wall_clock
        self._timestamps = Timestamps()
        self._waiting: list[tuple[float, LoggedRequest]] = []
        self._chars = 0

    def request(self, request: LoggedRequest) -> None:
        """Log a request that is over. Its fields are taken out of it once its line is written."""
        if not self.enabled:
            return
        self._waiting.append((self._wall_clock(), request))
        self._chars += LINE_CHARS + len(request["target"])
        if self._chars >= ACCESS_BUFFER_CHARS:
            self.flush()

    def flush(self) -> None:
        """Write what is kept. Called by the sweep several times a second, and at the end."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self._chars = 0
            self._write("".join([self._line(at, request) for at, request in waiting]))
            for _, request in waiting:
                request["fields"] = NO_FIELDS

    def _json_line(self, at: float, request: LoggedRequest) -> str:
        first_byte_s, fields, subject = request["first_byte_s"], request["fields"], request["subject"]
        told = f'"subject":{_quote(bounded(subject))},' if subject else ""
        line = (
            f'{self._start}{{"time":"{self._timestamps.text(at)}","level":"info","subsystem":"access","message":"request",'
            f'"client":{_quote(request["client"])},"proxies":{_QUOTED[request["proxies"]]},'
            f'"method":{_QUOTED[request["method"]]},"host":{_QUOTED[fields.get(b"host", b"")]},'
            f'"target":{_quote(_target(request))},"protocol":"{request["protocol"]}","endpoint":{_quote(request["endpoint"])},'
            f'"upstream":{_quote(request["upstream"])},"status":{request["status"]},"bytes_in":{request["bytes_in"]},'
            f'"bytes_out":{request["bytes_out"]},'
            f'"first_byte_s":{"null" if first_byte_s is None else f"{first_byte_s:.6f}"},'
            f'"duration_s":{request["duration_s"]:.6f},"request_id":{_quote(request["request_id"])},'
            f'"error":{_quote(request["error"])},{told}"referer":{_QUOTED[fields.get(b"referer", b"")]},'
            f'"user_agent":{_QUOTED[fields.get(b"user-agent", b"")]}{self._end}'
        )
        return line.replace("\x7f", "\\u007f") if "\x7f" in line else line

    def _text_line(self, at: float, request: LoggedRequest) -> str:
        first_byte_s, subject = request["first_byte_s"], request["subject"]
        told = f" subject={text_value(bounded(subject))}" if subject else ""
        return (
            f"{self._start}{f'{self._timestamps.text(at)} info     ' if self._dated else ''}access: "
            f"{text_value(_method(request))} {text_value(_target(request))} "
            f"status={request['status']} client={text_value(request['client'])} "
            f"protocol={request['protocol']} host={text_value(_field(request, b'host'))} "
            f"endpoint={text_value(request['endpoint'])} upstream={text_value(request['upstream'])} "
            f"bytes_in={request['bytes_in']} bytes_out={request['bytes_out']} "
            f"first_byte_s={'-' if first_byte_s is None else f'{first_byte_s:.6f}'} "
            f"duration_s={request['duration_s']:.6f} request_id={text_value(request['request_id'])} "
            f"error={text_value(request['error'])}{told}{self._end}"
        )

    def _combined_line(self, at: float, request: LoggedRequest) -> str:
        """As nginx writes `combined`: what is no plain character is a backslash, an x and two hexadecimal digits."""
        line = f"{_method(request)} {_target(request)} {request['protocol']}"
        stamp = time.strftime(_COMBINED_TIME, time.gmtime(at))
        user = _combined(bounded(request["subject"])).replace(" ", "\\x20") or "-"
        return (
            f"{self._start}{_combined(request['client']) or '-'} - {user} [{stamp}] "
            f'"{_combined(line)}" {request["status"]} {request["bytes_out"]} '
            f'"{_combined(_field(request, b"referer")) or "-"}" "{_combined(_field(request, b"user-agent")) or "-"}"\n'
        )

    def _short_line(self, at: float, request: LoggedRequest) -> str:
        """What fits on a terminal: when, what, with which outcome, how long, how much, and for whom."""
        target = escaped(_target(request))
        if len(target) > MOST_TARGET_COLUMNS:
            target = f"{target[: MOST_TARGET_COLUMNS - 3]}..."
        took = milliseconds(request["duration_s"])
        about = f"  {escaped(request['endpoint'])}" if request["endpoint"] else ""
        error = f"  {request['error']}" if request["error"] else ""
        return (
            f"{time_of_day(at)}  {escaped(_method(request)):<4} {target:<{TARGET_COLUMNS}} {request['status']} "
            f"{took:>9} {short_size(request['bytes_out']):>8}{about}{error}{self._end}"
        )


def _field(request: LoggedRequest, name: bytes) -> str:
    return _text(request["fields"].get(name, b""))


def _text(value: bytes) -> str:
    return bounded(hide_query_secrets(value.decode("latin-1")))


_QUOTED: Final = Memo(lambda value: _quote(_text(value)), 1024, longest_bytes=256)
"""Values of fields as they stand in a line of JSON: clients send the same few again and again."""


def _combined(text: str) -> str:
    return _NOT_PLAIN.sub(lambda found: f"\\x{ord(found[0]):02X}", text)


def _method(request: LoggedRequest) -> str:
    return request["method"].decode("ascii", "backslashreplace")


def _target(request: LoggedRequest) -> str:
    target = request["target"].decode("ascii", "backslashreplace")
    if len(target) > MAX_FIELD_CHARS:
        target = bounded(target)
    return hide_query_secrets(target) if "?" in target else target
