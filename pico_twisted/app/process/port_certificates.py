"""The certificates of a node's ports and links: read at the start, again for a reload, and when their files change.

A reload takes all of them or none. A change of files takes those that can be used: a port has nothing to do with what
is wrong with another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import attrs
from prometheus_client.core import GaugeMetricFamily

from pico_twisted.app.process.ports import CannotStart
from pico_twisted.config import ClusterTlsConfig, ConfigFaults, Fault, NodeConfig, ServerTlsConfig
from pico_twisted.config.certificates import tls_sections, too_old, unusable
from pico_twisted.config.pem import UnusableCertificateError, day, good_until, refused_for
from pico_twisted.net.links.tls import LinkTls
from pico_twisted.net.tls.port_context import HTTP_1_1, ServerContext

Take = Callable[[], Iterable[str]]
"""Takes what was read, and says in words what that changed."""


class PortCertificates:
    """Those in use, by the section of the configuration that names them."""

    def __init__(self) -> None:
        self._in_use: dict[str, ServerContext] = {}

    def start(
        self, name: str, context: ServerContext | ServerTlsConfig, protocols: Sequence[bytes] = (HTTP_1_1,)
    ) -> ServerContext:
        """Read a certificate, and keep it.

        Args:
            name: of its section: `proxy`, `upstream`, `admin` or `cluster`.
            context: what is to be read, or the section of a port.
            protocols: what is spoken at that port; see `ServerContext`.

        Raises:
            CannotStart: it cannot be used.
        """
        made = ServerContext(context, protocols) if isinstance(context, ServerTlsConfig) else context
        self._in_use[name] = made
        try:
            made.reload()
        except UnusableCertificateError as error:
            raise CannotStart(f"{name}.tls: {error}") from error
        return made

    def prepare(self, config: NodeConfig) -> Take:
        """Read all of them again, from the files that a configuration names now. See `Daemon.prepare`."""
        sections = ((path.partition(".")[0], tls) for path, tls in tls_sections(config).items())
        # To switch TLS on or off takes a restart.
        kept = {name: self._context(name, tls) for name, tls in sections if name in self._in_use and tls.enabled}
        take, faults = self._read(kept)
        if faults:
            raise ConfigFaults(faults)
        return take

    def files(self) -> list[str]:
        """The names of all files."""
        return [name for context in self._in_use.values() for name in context.files]

    def _context(self, name: str, tls: ServerTlsConfig | ClusterTlsConfig) -> ServerContext:
        """What a section of another configuration names, as far as it takes no restart; not read yet."""
        if isinstance(tls, ServerTlsConfig):
            in_use = self._in_use[name]
            return ServerContext(attrs.evolve(tls, acme=in_use.tls.acme), in_use.protocols)
        return LinkTls(tls)

    def read_again(self) -> tuple[Take, Iterable[str]]:
        """Read the files in use again. See `FileWatch`."""
        take, faults = self._read({name: context.again() for name, context in self._in_use.items()})
        return take, [f"{fault.path}: found {fault.found}" for fault in faults]

    def _read(self, fresh: Mapping[str, ServerContext]) -> tuple[Take, list[Fault]]:
        now = datetime.now(UTC)
        faults: list[Fault] = []
        usable: list[tuple[ServerContext, ServerTlsConfig, str, ServerContext]] = []
        for name, read in fresh.items():
            in_use, path = self._in_use[name], f"{name}.tls"
            try:
                read.reload()
            except UnusableCertificateError as error:  # also when a file has changed since it was checked
                faults.append(unusable(error, path))
                continue
            if read.loaded.same_as(in_use.loaded) and read.tls == in_use.tls:
                continue
            old = [(file, words) for file, chain in read.loaded.chains.items() if (words := refused_for(chain, now))]
            faults += [too_old(path, file, words) for file, words in old]
            if not old:
                usable.append((in_use, in_use.tls, name, read))

        def take() -> Iterator[str]:
            for in_use, tls, name, read in usable:
                if in_use.tls is tls:  # else the configuration was reloaded meanwhile
                    in_use.become(read)
                    yield f"{name} certificate until {day(min(map(good_until, read.loaded.chains.values())))}"

        return take, faults

    def ends(self) -> dict[str, float]:
        """When the first certificate of each port ends, in seconds since 1970, by the name of its section."""
        expiry = {name: context.expiry.values() for name, context in self._in_use.items()}
        return {name: min(untils).timestamp() for name, untils in expiry.items() if untils}

    def expiry(self) -> Iterator[GaugeMetricFamily]:
        """When the certificates expire, for the metrics."""
        family = GaugeMetricFamily(
            "pico_certificate_expiry_timestamp_seconds",
            "Unix time at which the certificate in a file, one of its chain, or a list of revoked ones expires.",
            labels=("port", "file"),
        )
        for name, context in self._in_use.items():
            for file, until in context.expiry.items():
                family.add_metric((name, file), until.timestamp())
        yield family
