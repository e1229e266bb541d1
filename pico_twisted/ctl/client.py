"""Asks an admin port over HTTP, and says in words why there is no answer.

The answer may come from anything: another program's port, a proxy's error page, a node that hangs. So it is bounded in
size; the whole exchange, with the look-up of the name and every byte, has one deadline; and JSON is demanded.
A deadline for everything is kept by a thread that is left behind when the time is over: `http.client` has one only
for each read, and looking up a name has none at all. Proxies of the environment are not used, redirects not followed.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Mapping
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import attrs
import click

from pico_twisted import __version__
from pico_twisted.core.ports import ADMIN, port_that_answered, wrong_port
from pico_twisted.ctl.exits import ExitWithMessage, NoAnswer, SaidNo
from pico_twisted.net.admin.shapes.paths import NO_SUCH_NODE, OPERATOR
from pico_twisted.net.admin.shapes.reading import ShapeError, read

T = TypeVar("T")

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""Most bytes of an answer that are read: as many as a node passes on from another one."""

UNIX: Final = "unix:"
"""What an address begins with that is the path of a Unix socket."""

_HINTS: Final[Mapping[int, str]] = {
    http.HTTPStatus.UNAUTHORIZED: ". A token: --token-file FILE or PICO_TOKEN_FILE; a certificate: --cert FILE",
}
"""What may help, by the status of an answer that says no."""

_OF_CERTIFICATES: Final = ("CERTIFICATE", "UNKNOWN_CA")
"""What stands in OpenSSL's reasons when a server refuses the certificate of its client, or misses one."""

_CHUNK_BYTES: Final = 64 * 1024
_JSON_ERRORS: Final = (ValueError, RecursionError)  # no JSON; nested without end


@attrs.frozen
class Answer:
    """What the admin port said.

    Attributes:
        status: of HTTP.
        data: the decoded JSON.
    """

    status: int
    data: Any

    @property
    def error(self) -> str:
        """The words of an error; empty when there are none."""
        words = self.data.get("error") if isinstance(self.data, dict) else None
        return words if isinstance(words, str) else ""


@attrs.frozen(kw_only=True)
class AdminPort:
    """The admin port that is asked.

    Attributes:
        url: its base URL, without a slash at the end; or `unix:` and the path of a socket.
        forward: ID of the node that is to answer through it; empty for its own.
        timeout_s: for one question and its answer.
        tls: for https, else None.
        token: that is shown; none when empty.
    """

    url: str
    forward: str = ""
    timeout_s: float
    tls: ssl.SSLContext | None = None
    token: str = attrs.field(default="", repr=False)

    def ask(self, path: str, *, change: bool = False) -> Answer:
        """Ask for a path.

        Args:
            path: of a route, quoted, perhaps with a query.
            change: the route changes something, and takes a POST.

        Raises:
            NoAnswer: nothing answers, or what answers is no admin port.
        """
        status, body = self._bounded(path, change)
        try:
            return Answer(status, json.loads(body, parse_constant=_refuse_constant))
        except _JSON_ERRORS:
            raise self.no_admin_port(f"it answers with {status}, and not in JSON") from None

    def text(self, path: str) -> str:
        """Ask for a path whose answer is a text.

        Args:
            path: of a route, quoted.

        Raises:
            ExitWithMessage: there is no such answer.
        """
        status, body = self._bounded(path, False)
        if status == http.HTTPStatus.OK:
            return body.decode("utf-8", "replace")
        try:
            refused = Answer(status, json.loads(body, parse_constant=_refuse_constant))
        except _JSON_ERRORS:
            refused = Answer(status, None)
        raise self.refusal(refused)

    def _bounded(self, path: str, change: bool) -> tuple[int, bytes]:
        """Status and body of an answer, in the time that there is for both."""
        outcome: list[tuple[int, bytes] | Exception] = []

        def exchange() -> None:
            try:
                outcome.append(self._exchange(path, change))
            except Exception as error:
                outcome.append(error)

        thread = threading.Thread(target=exchange, daemon=True)
        thread.start()
        thread.join(self.timeout_s)
        result = outcome[0] if outcome else TimeoutError()
        if isinstance(result, tuple):
            return result
        raise (result if isinstance(result, NoAnswer) else NoAnswer(self._why(result))) from None

    def refusal(self, answer: Answer) -> ExitWithMessage:
        """How to end with an answer that is none of those that were hoped for."""
        if answer.status == http.HTTPStatus.NOT_FOUND and answer.error.startswith(NO_SUCH_NODE):
            return SaidNo(answer.error)
        if answer.error:
            hint = _HINTS.get(answer.status, "")
            return NoAnswer(f"{self.url} answers with {answer.status}: {answer.error}{hint}")
        return self.no_admin_port(f"it answers with {answer.status}")

    def shaped(self, answer: Answer, kind: type[T]) -> T:
        """What an answer says, as a shape. Raises NoAnswer: it has another one."""
        try:
            return read(answer.data, kind)
        except ShapeError:
            raise self.no_admin_port("it answers with something else than was asked for") from None

    def no_admin_port(self, why: str) -> NoAnswer:
        """How to end when something else seems to listen there."""
        return NoAnswer(f"{self.url} is not the admin port of a node: {why}")

    def _exchange(self, path: str, change: bool) -> tuple[int, bytes]:
        with contextlib.closing(self._connection()) as connection:
            query = ("&" if "?" in path else "?") + urlencode({"forward": self.forward}) if self.forward else ""
            headers = {"accept": "application/json", "connection": "close", "user-agent": f"picoctl/{__version__}"}
            if change:
                headers[OPERATOR] = "picoctl"
            if self.token:
                headers["authorization"] = f"Bearer {self.token}"
            base = "" if self.url.startswith(UNIX) else urlsplit(self.url).path
            connection.request("POST" if change else "GET", base + path + query, headers=headers)
            response = connection.getresponse()
            body = self._read(response)
        if elsewhere := wrong_port(port_that_answered(response.getheader), ADMIN):
            raise self.no_admin_port(f"{elsewhere}. The admin port has 8001 unless configured")
        return response.status, body

    def _connection(self) -> http.client.HTTPConnection:
        if self.url.startswith(UNIX):
            return _UnixConnection(self.url.removeprefix(UNIX), self.timeout_s)
        where = urlsplit(self.url)
        assert where.hostname is not None
        if self.tls is None:
            return http.client.HTTPConnection(where.hostname, where.port, timeout=self.timeout_s)
        return http.client.HTTPSConnection(where.hostname, where.port, timeout=self.timeout_s, context=self.tls)

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        """The body, whole and bounded."""
        pieces: list[bytes] = []
        room = MAX_ANSWER_BYTES
        while piece := response.read(_CHUNK_BYTES):
            room -= len(piece)
            if room < 0:
                raise self.no_admin_port(f"its answer is longer than {MAX_ANSWER_BYTES >> 20} MiB")
            pieces.append(piece)
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        return b"".join(pieces)

    def _why(self, error: Exception) -> str:
        """Why there is no answer, and what may help."""
        url = self.url
        match error:
            case ConnectionRefusedError():
                return f"nothing answers at {url}: is the node running? Another address: --admin URL or PICO_ADMIN"
            case FileNotFoundError():
                return f"there is no {url}: is the daemon running?"
            case socket.gaierror():
                return f"no address for the name in {url}. Another address: --admin URL or PICO_ADMIN"
            case TimeoutError():
                return (
                    f"no answer from {url} within {self.timeout_s:g} s: is it the admin port, and http or https? "
                    "A longer wait: --timeout"
                )
            case ssl.SSLCertVerificationError():
                return f"the certificate of {url} is refused: {error.verify_message}. The authority to trust: --ca FILE"
            case ssl.SSLError() if any(word in str(error.reason) for word in _OF_CERTIFICATES):
                return (
                    f"{url} does not take this certificate, or wants one ({error.reason}): --cert FILE and --key FILE"
                )
            case ssl.SSLError():
                return f"no TLS with {url} ({error.reason or error.strerror}): should it be http://?"
            case ConnectionError() | http.client.IncompleteRead():
                return f"{url} closed the connection before the whole answer had come"
            case http.client.HTTPException():
                return self.no_admin_port("what it says is not HTTP").message
            case OSError():
                return f"{url} cannot be reached: {error.strerror or error}"
        raise error


class _UnixConnection(http.client.HTTPConnection):
    """A connection to a Unix socket.

    Args:
        path: of the socket.
        timeout_s: for each step.
    """

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def read_url(text: str, hint: str, like: str = "http://localhost:8001, or unix:/run/pico/admin") -> str:
    """The base URL of a port as it was given, checked.

    Args:
        text: what was given.
        hint: where.
        like: examples.

    Raises:
        click.BadParameter: it is no such URL.
    """
    if text.startswith(UNIX) and text.isprintable() and len(text) > len(UNIX):
        return text
    try:
        where = urlsplit(text)
        fits = where.scheme in ("http", "https") and where.hostname and where.port != 0 and text.isprintable()
        fits = fits and not where.query and not where.fragment and where.username is None and " " not in text
        (where.hostname or "").encode("idna")
    except ValueError:
        fits = False
    if not fits:
        raise click.BadParameter(f"found {text!r}, expected a URL such as {like}", param_hint=hint)
    return f"{where.scheme}://{where.netloc}{quote(where.path.rstrip('/'), safe='/%')}"


def read_tls(url: str, ca: str | None, cert: str | None = None, key: str | None = None) -> ssl.SSLContext | None:
    """How the server of a URL is checked, and what it is shown. None for http.

    Args:
        url: of the server.
        ca: the PEM file of those to trust; the system's when None.
        cert: the PEM file of a certificate to show; none when None.
        key: the PEM file of its key; the same file when None.

    Raises:
        click.BadParameter: a file cannot be used, or the URL has no use for it.
    """
    for name, value in (("--ca", ca), ("--cert", cert), ("--key", key)):
        if value is None:
            continue
        if not url.startswith("https:"):
            raise click.BadParameter(f"is for https, and the URL is {url}", param_hint=name)
        try:
            with open(value, "rb"):
                pass
        except OSError as error:
            raise click.BadParameter(f"{value} cannot be read: {error.strerror}", param_hint=name) from None
    if key is not None and cert is None:
        raise click.BadParameter("is the key of a certificate, and there is no --cert", param_hint="--key")
    if not url.startswith("https:"):
        return None
    try:
        context = ssl.create_default_context(cafile=ca)
    except ssl.SSLError:
        raise click.BadParameter(f"{ca} holds no certificate in PEM form", param_hint="--ca") from None
    if cert is not None:
        try:
            context.load_cert_chain(cert, key, password="")  # an encrypted key would ask on the terminal
        except (ssl.SSLError, ValueError):
            words = f"{cert} and {key or cert} are not a certificate and its unencrypted key in PEM form"
            raise click.BadParameter(words, param_hint="--cert") from None
    return context
