"""What a key may hold: how its text is read, which values are possible, and how both are told to an operator."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import attrs

from pico_twisted.config import values
from pico_twisted.config.faults import Misfits, Unfit, shown
from pico_twisted.core.access.rules import Pattern, Rule, rate_text, read_rate
from pico_twisted.core.header_edits import read_field, read_field_name
from pico_twisted.core.text import ENDPOINT_ID_PATTERN, NAME_PATTERN

T = TypeVar("T")

DAY_S = 24 * 3600.0
_OR_NONE = ', or "" for none'
SHORTEST_WAIT_S = 0.001  # what the timers can tell apart

_PREFIX = re.compile(r"[A-Za-z0-9._-]{1,48}", re.ASCII)  # leaves room for what is drawn behind it
_SUBSYSTEM = re.compile(r"[a-z][a-z0-9_.-]{0,63}", re.ASCII)
_SERVER_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.:-]{0,252})", re.ASCII)
_HOST_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}", re.ASCII)
_TOKEN = re.compile(r"[\x21-\x7e]{1,8192}", re.ASCII)  # goes into a header line as it is
_TEXT = re.compile(r"[\x21-\x7e]{1,2048}", re.ASCII)
_ORIGIN = re.compile(r"https?://(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.ASCII)
_REALM = re.compile(r"[ !#-\[\]-~]{1,100}", re.ASCII)
_CLUSTER_SECRET = re.compile(r"[\x21-\x2b\x2d-\x7e]{16,4096}", re.ASCII)  # a comma would be two secrets in a flag


@attrs.frozen(kw_only=True)
class Kind(Generic[T]):
    """One kind of value.

    Attributes:
        name: a word for the reference documentation, such as ``duration``.
        expected: what fits, as words that continue "expected ...".
        read: turns the text of a file, a flag or a variable into the value, or raises `ValueError`.
        fits: whether a value is possible.
        text: turns a value back into its text.
        empty_fits: whether an empty text fits, whatever `read` and `fits` say of it.
        empty: the value of an empty text, if that fits.
        secret: its values are never shown.
        file: its text names a file, and a relative name is taken from the directory of the start.
    """

    name: str
    expected: str
    read: Callable[[str], T]
    fits: Callable[[T], bool] = attrs.field(default=lambda _value: True)
    text: Callable[[T], str] = attrs.field(default=str)
    empty_fits: bool = False
    empty: T | None = None
    secret: bool = False
    file: bool = False

    def parse(self, raw: object) -> T | None:
        """The value of what a file or a flag holds.

        Raises:
            Unfit: it is no such value.
        """
        if not isinstance(raw, str):
            raise Unfit(shown(raw), self.expected)
        if raw == "" and self.empty_fits:
            return self.empty
        try:
            value = self.read(raw)
        except values.SocketPathTooLong as error:
            raise self._unfit(raw, f"; {error}") from None
        except ValueError:
            raise self._unfit(raw) from None
        if not self.fits(value):
            raise self._unfit(raw)
        return value

    def _unfit(self, raw: str, hint: str = "") -> Unfit:
        hint += ", or --config.expand-env, which puts a variable of the environment here" if "${" in raw else ""
        return Unfit("a value that is not shown here" if self.secret else shown(raw), self.expected + hint)

    def check(self, value: Any) -> None:
        """Raise `ValueError` for a value that code gave and that no file could."""
        if not (self.empty_fits and value == self.empty) and not self.fits(value):
            raise ValueError(f"{'a value that is not shown' if self.secret else repr(value)} is not {self.expected}")

    def to_text(self, value: T | None) -> str:
        """The text of a value, as `parse` reads it."""
        return "" if value is None or (self.empty_fits and value == self.empty) else self.text(value)


@attrs.frozen(kw_only=True)
class Many(Generic[T]):
    """Several values of one kind: a list, or one text with commas between them. The value is a tuple."""

    item: Kind[T]
    at_least: int = 0

    @property
    def name(self) -> str:
        return f"list of {self.item.name}"

    @property
    def expected(self) -> str:
        return f"a list, each item {self.item.expected}"

    @property
    def secret(self) -> bool:
        return self.item.secret

    @property
    def file(self) -> bool:
        return self.item.file

    def parse(self, raw: object) -> tuple[T | None, ...]:
        """The values of what a file or a flag holds.

        Raises:
            Unfit: it is no list, or has too few items.
            Misfits: some items do not fit.
        """
        items = split_commas(raw) if isinstance(raw, str) else raw
        if not isinstance(items, list | tuple):
            raise Unfit(shown(raw), self.expected)
        if len(items) < self.at_least:
            raise Unfit("an empty list", f"at least {self.at_least}, each {self.item.expected}")
        parsed: list[T | None] = []
        misfits: list[tuple[int, Unfit]] = []
        for index, item in enumerate(items):
            try:
                parsed.append(self.item.parse(item))
            except Unfit as misfit:
                misfits.append((index, misfit))
        if misfits:
            raise Misfits(misfits, tuple(parsed) if len(parsed) >= self.at_least else None)
        return tuple(parsed)

    def check(self, value: Any) -> None:
        """Raise `ValueError` for values that code gave and that no file could."""
        if not isinstance(value, tuple) or len(value) < self.at_least:
            words = "a value that is not shown" if self.secret else repr(value)
            raise ValueError(f"{words} is not a tuple of {self.at_least} items or more")
        for item in value:
            self.item.check(item)

    def to_text(self, value: tuple[T, ...]) -> str:
        """The values as one text with commas, as `parse` reads it."""
        return ",".join(self.item.to_text(item) for item in value)


def split_commas(text: str) -> list[str]:
    """The items of a text with commas; blanks around them do not count. An empty text has no items."""
    return [item.strip() for item in text.split(",")] if text.strip() else []


def duration(*, least_s: float = SHORTEST_WAIT_S, most_s: float = DAY_S, or_none: bool = False) -> Kind[float]:
    """A time to wait. The value is in seconds; with `or_none` an empty text is None."""
    least, most = values.duration_text(least_s), values.duration_text(most_s)
    examples = ", ".join(text for text in ("500ms", "15s", "1m30s") if least_s <= values.read_duration(text) <= most_s)
    expected = f"a duration such as {examples}, from {least} to {most}"
    return Kind(
        name="duration",
        expected=expected + _OR_NONE if or_none else expected,
        read=values.read_duration,
        fits=lambda seconds: least_s <= seconds <= most_s,
        text=values.duration_text,
        empty_fits=or_none,
    )


def size(*, least: int, most: int, or_none: bool = False) -> Kind[int]:
    """A number of bytes; with `or_none` an empty text is None."""
    expected = (
        f"a size in KiB, MiB or GiB from {values.size_text(least)} to {values.size_text(most)}, "
        f"such as {values.size_text(min(most, 1 << 30))}"
    )
    return Kind(
        name="size",
        expected=expected + _OR_NONE if or_none else expected,
        read=values.read_size,
        fits=lambda count: least <= count <= most,
        text=values.size_text,
        empty_fits=or_none,
    )


def count(*, least: int = 1, most: int = 10_000_000, or_none: bool = False) -> Kind[int]:
    """A whole number of things; with `or_none` an empty text is None."""
    expected = f"a whole number from {least} to {most}"
    return Kind(
        name="number",
        expected=expected + _OR_NONE if or_none else expected,
        read=values.read_integer,
        fits=lambda number: least <= number <= most,
        empty_fits=or_none,
    )


def count_or_auto(*, least: int = 1, most: int) -> Kind[int]:
    """A whole number of things, or `auto`, whose value is 0."""
    number = count(least=least, most=most)
    return Kind(
        name="number or auto",
        expected=f"{number.expected}, or auto",
        read=lambda text: 0 if text.lower() == "auto" else number.read(text) or -1,
        fits=lambda value: value == 0 or number.fits(value),
        text=lambda value: "auto" if value == 0 else str(value),
    )


def one_of(*words: str) -> Kind[str]:
    """One of a few words."""

    def read(text: str) -> str:
        return text.lower()

    return Kind(name="|".join(words), expected="one of " + ", ".join(words), read=read, fits=lambda word: word in words)


def matching(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    """Texts that are of a pattern as a whole."""
    return lambda text: pattern.fullmatch(text) is not None


def _boolean_text(value: bool) -> str:
    return "true" if value else "false"


BOOLEAN: Kind[bool] = Kind(name="boolean", expected="true or false", read=values.read_boolean, text=_boolean_text)
_BIND_EXPECTED = "an address to listen on such as 8000, :8000, 127.0.0.1:8000 or [::1]:8000 (in quotes in a file)"
BIND_ADDRESS_OR_OFF: Kind[values.Address] = Kind(
    name="address", expected=_BIND_EXPECTED + ', or "" for none', read=values.read_bind_address, empty_fits=True
)
BIND_ADDRESS_OR_DEFAULT: Kind[values.Address] = Kind(
    name="address", expected=_BIND_EXPECTED + ', or "" for the default', read=values.read_bind_address, empty_fits=True
)
ADVERTISE_ADDRESS: Kind[values.Address] = Kind(
    name="address",
    expected='an address to connect to such as 10.1.2.3:8000 or node1.example.com:8000, or "" for the bound one',
    read=values.read_reachable_address,
    empty_fits=True,
)
JOIN_ADDRESS: Kind[values.Address] = Kind(
    name="address",
    expected="a node's gossip port as host or host:port, such as node1.example.com, 10.1.2.3:8003 or [2001:db8::1]",
    read=values.read_join_address,
)
SERVICE_ADDRESS: Kind[values.ServiceAddress] = Kind(
    name="service address",
    expected="where the service listens: a port, host:port, an http, https or h2c URL without a path, or unix:/path",
    read=values.read_service_address,
)
NODE_URL: Kind[str] = Kind(
    name="URL",
    expected="the http, https, ws or wss URL of a node, such as https://pico.example.com:8002, "
    "with no path and no user name, or unix:/path",
    read=values.read_node_url,
)
NETWORK: Kind[values.Network] = Kind(
    name="network",
    expected="an IP address or a range such as 10.0.0.0/8 (the bits behind the prefix are zero)",
    read=values.read_network,
)
CLUSTER_NAME: Kind[str] = Kind(
    name="name", expected="1 to 64 letters, digits, dots, dashes or underscores", read=str, fits=matching(NAME_PATTERN)
)
OPTIONAL_ID: Kind[str] = Kind(
    name="ID",
    expected='1 to 64 letters, digits, dots, dashes or underscores, or "" to have one made',
    read=str,
    fits=matching(NAME_PATTERN),
    empty_fits=True,
    empty="",
)
PATTERN: Kind[str] = Kind(
    name="pattern",
    expected="an endpoint ID, or the beginning of some with a * behind it, such as acme-*",
    read=lambda text: Pattern.read(text).text,
)
RATE: Kind[float] = Kind(
    name="rate",
    expected="a number in a time such as 200/s, 30/min or 1000/h" + _OR_NONE,
    read=read_rate,
    fits=lambda rate: rate > 0,
    text=rate_text,
    empty_fits=True,
)
HEADER: Kind[str] = Kind(
    name="header",
    expected="a header such as `X-Frame-Options: DENY`, none that says where a message ends, where it goes or whose it "
    "is",
    read=read_field,
)
HEADER_NAME: Kind[str] = Kind(
    name="name",
    expected="the name of a header, none that says where a message ends, where it goes or whose it is",
    read=read_field_name,
)
REALM: Kind[str] = Kind(
    name="text",
    expected="1 to 100 visible ASCII characters and blanks, without quotes and backslashes",
    read=str,
    fits=matching(_REALM),
    empty_fits=True,
    empty="",
)
ID_PREFIX: Kind[str] = Kind(
    name="ID",
    expected='1 to 48 letters, digits, dots, dashes or underscores, or "" for none',
    read=str,
    fits=matching(_PREFIX),
    empty_fits=True,
    empty="",
)
ENDPOINT_ID: Kind[str] = Kind(
    name="endpoint ID",
    expected="an endpoint ID: 1 to 128 letters, digits, dots, dashes or underscores, the first a letter or a digit",
    read=str,
    fits=matching(ENDPOINT_ID_PATTERN),
)
SUBSYSTEM: Kind[str] = Kind(
    name="subsystem",
    expected="the name of a subsystem as log lines show it, such as proxy",
    read=str,
    fits=matching(_SUBSYSTEM),
)
FILE: Kind[str] = Kind(
    name="file", expected="the name of a file", read=str, fits=str.isprintable, empty_fits=True, empty="", file=True
)
FILE_OR_URL: Kind[str] = Kind(
    name="file or URL",
    expected="the name of a file, or an https URL such as https://id.example.com/keys.json",
    read=str,
    fits=lambda text: text.isprintable() and ("://" not in text or values.is_https_url(text)),
    empty_fits=True,
    empty="",
    file=True,
)
RULE: Kind[Rule] = Kind(
    name="rule",
    expected="a rule such as listen:acme-*, connect:acme-* or admin:read",
    read=values.read_rule,
    text=str,
)
TEXT: Kind[str] = Kind(
    name="text",
    expected="1 to 2048 visible ASCII characters without blanks",
    read=str,
    fits=matching(_TEXT),
    empty_fits=True,
    empty="",
)
FILE_NAME: Kind[str] = Kind(
    name="file",
    expected="the name of a file",
    read=str,
    fits=lambda text: text != "" and text.isprintable(),
    file=True,
)
SECRET: Kind[str] = Kind(
    name="secret",
    expected="1 to 8192 visible ASCII characters without blanks",
    read=str,
    fits=matching(_TOKEN),
    empty_fits=True,
    empty="",
    secret=True,
)
SERVER_NAME: Kind[str] = Kind(
    name="name",
    expected='the name or the IP address in a certificate, such as shop.internal, or "" for that of the address',
    read=str,
    fits=matching(_SERVER_NAME),
    empty_fits=True,
    empty="",
)
HOST_NAME: Kind[str] = Kind(
    name="name",
    expected="the name of a host, such as node1.example.com, without a port",
    read=str,
    fits=matching(_HOST_NAME),
)
ORIGIN: Kind[str] = Kind(
    name="origin",
    expected="scheme, host and perhaps a port of a page, such as https://app.example.com",
    read=str.lower,
    fits=matching(_ORIGIN),
)
CLUSTER_SECRET: Kind[str] = Kind(
    name="secret",
    expected="16 to 4096 visible ASCII characters without blanks and commas",
    read=str,
    fits=matching(_CLUSTER_SECRET),
    secret=True,
)
