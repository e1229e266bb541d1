"""Which node an endpoint is registered at: what is said, what was said before, one of this machine, or one of our own.

A person types `--to` once. It is remembered, with the file that the token is in and the authorities to trust, but never
the token. Who has never said anything, and runs no node, gets one in the process of the command: so the first minute
needs nothing but the command.
"""

from __future__ import annotations

import contextlib
import enum
import http.client
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs
import click

from pico_twisted.core.ports import UPSTREAM, port_that_answered
from pico_twisted.expose.kept import KeptFile

FILE: Final = "nodes.json"
"""Where the node is remembered."""
URL_VARIABLE: Final = "PICO_URL"
"""The environment's variable with the URLs of nodes."""
DEFAULT_PORT: Final = 8002
"""The upstream port of a node of this machine that has its default ports."""
DEFAULT_URL: Final = f"http://localhost:{DEFAULT_PORT}"
"""The URL of that port."""
LOOK_S: Final = 2.0
"""Most seconds for a look at that port: whatever listens on this machine answers in milliseconds."""


class Source(enum.Enum):
    """Where it is said which nodes are used."""

    TOLD = enum.auto()  # with --to, which is worth remembering
    ENVIRONMENT = enum.auto()
    REMEMBERED = enum.auto()
    DEFAULT = enum.auto()
    OWN = enum.auto()  # the node runs in this process


@attrs.frozen(kw_only=True)
class Upstream:
    """How nodes are reached.

    Attributes:
        urls: of upstream ports; none when the node is to run in this process.
        source: where that is from.
        token: shown to the nodes; none when empty.
        token_file: that it is from, and read again from; empty when it is from none.
        ca: the PEM file of those to trust; the system's when empty.
        cert: the PEM file of a certificate to show; none when empty.
        key: that of its key; empty likewise.
    """

    urls: tuple[str, ...] = ()
    source: Source = Source.OWN
    token: str = attrs.field(default="", repr=False)
    token_file: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""


class KeptUpstream:
    """The node that was named last.

    Args:
        folder: of the file.
        warn: told in words what is wrong with that.
    """

    def __init__(self, folder: str, warn: Callable[[str], None]) -> None:
        self._file = KeptFile(folder, FILE, warn)
        self._warn = warn

    def read(self) -> tuple[tuple[str, ...], dict[str, str]]:
        """Its URLs, none when none is remembered, and the files by what they are for (`token_file`, `ca`)."""
        found = self._file.read()
        urls = found.get("urls", [])
        files = {name: found.get(name, "") for name in ("token_file", "ca")}
        if not isinstance(urls, list) or not all(isinstance(one, str) for one in (*urls, *files.values())):
            self._warn(f"{FILE} of the last time is not used: it does not hold what was written there")
            return (), {}
        return tuple(urls), files

    def keep(self, upstream: Upstream) -> None:
        """Remember a node, which has taken us."""
        files = {"token_file": upstream.token_file, "ca": upstream.ca}
        absolute = {name: os.path.abspath(path) if path else "" for name, path in files.items()}
        self._file.update({"urls": list(upstream.urls), **absolute})


def read_urls(texts: Sequence[str], hint: str) -> tuple[str, ...]:
    """Read URLs of upstream ports: several options, or several in one with commas between them.

    Args:
        texts: as they were given.
        hint: where.

    Raises:
        click.BadParameter: one is none.
    """
    from pico_twisted.config.faults import Unfit
    from pico_twisted.config.kinds import NODE_URL

    urls = []
    for text in (part.strip() for given in texts for part in given.split(",")):
        try:
            urls.append(NODE_URL.parse(text))
        except Unfit as misfit:
            raise click.BadParameter(str(misfit), param_hint=hint) from None
    return tuple(dict.fromkeys(filter(None, urls)))


def choose(
    told: Sequence[str],
    environ: Mapping[str, str],
    kept: tuple[tuple[str, ...], dict[str, str]],
    shown: Upstream,
    answers: Callable[[], bool],
) -> Upstream:
    """Choose the nodes.

    Args:
        told: URLs of the command line.
        environ: the environment.
        kept: as of `KeptUpstream.read`.
        shown: the credentials of the command line and the environment.
        answers: whether a node of this machine answers at `DEFAULT_URL`.

    Raises:
        click.BadParameter: a URL is none.
    """
    if told:
        return attrs.evolve(shown, urls=read_urls(told, "--to"), source=Source.TOLD)
    if environ.get(URL_VARIABLE):
        return attrs.evolve(shown, urls=read_urls([environ[URL_VARIABLE]], URL_VARIABLE), source=Source.ENVIRONMENT)
    urls, files = kept
    if urls:
        token_file = shown.token_file or ("" if shown.token else files.get("token_file", ""))
        token = shown.token or _token_in(token_file)
        read = read_urls(urls, f"{FILE}, which is from an earlier --to")
        return attrs.evolve(
            shown,
            urls=read,
            source=Source.REMEMBERED,
            token=token,
            token_file=token_file,
            ca=shown.ca or files.get("ca", ""),
        )
    return attrs.evolve(shown, urls=(DEFAULT_URL,), source=Source.DEFAULT) if answers() else shown


def _token_in(path: str) -> str:
    from pico_twisted.config.checks import read_secret

    if not path:
        return ""
    token = read_secret(path)
    if not token:
        raise click.BadParameter(f"{path} of an earlier run holds no token any more", param_hint="--token-file")
    return token


def node_answers() -> bool:
    """Whether the upstream port of a node answers at `DEFAULT_URL`."""
    for host in ("127.0.0.1", "::1"):
        connection = http.client.HTTPConnection(host, DEFAULT_PORT, timeout=LOOK_S)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
            connection.request("GET", "/")
            if port_that_answered(connection.getresponse().getheader) == UPSTREAM:
                return True
    return False
