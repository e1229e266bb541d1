"""The certificates of a node's ports and links: read at the start, and again for a reload, all of them or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

from pico_twisted.app.process.ports import CannotStart
from pico_twisted.config import ClusterTlsConfig, ConfigFaults, Fault, NodeConfig, ServerTlsConfig
from pico_twisted.config.checks import tls_sections, too_old, unusable
from pico_twisted.config.pem import UnusableCertificateError, day, good_until, refused_for
from pico_twisted.net.links.tls import LinkTls
from pico_twisted.net.tls.port_context import ServerContext


class PortCertificates:
    """Those in use, by the section of the configuration that names them."""

    def __init__(self) -> None:
        self._in_use: dict[str, ServerContext] = {}

    def start(self, name: str, context: ServerContext | ServerTlsConfig) -> ServerContext:
        """Read a certificate, and keep it.

        Args:
            name: of its section: `proxy`, `upstream`, `admin` or `cluster`.
            context: what is to be read, or the section of a port.

        Raises:
            CannotStart: it cannot be used.
        """
        made = _context(context) if isinstance(context, ServerTlsConfig) else context
        self._in_use[name] = made
        try:
            made.reload()
        except UnusableCertificateError as error:
            raise CannotStart(f"{name}.tls: {error}") from error
        return made

    def prepare(self, config: NodeConfig) -> Callable[[], Iterable[str]]:
        """Read all of them again, from the files that a configuration names now. See `Daemon.prepare`."""
        now = datetime.now(UTC)
        faults: list[Fault] = []
        fresh: dict[str, ServerContext] = {}
        for path, tls in tls_sections(config).items():
            name = path.partition(".")[0]
            if name not in self._in_use or not tls.enabled:
                continue  # to switch it on or off takes a restart
            read, used = _context(tls), self._in_use[name]
            try:
                read.reload()
            except UnusableCertificateError as error:  # a file has changed since it was checked
                faults.append(unusable(error, path))
                continue
            if read.loaded.same_as(used.loaded) and read.tls == used.tls:
                continue
            for file_name, chain in read.loaded.chains.items():
                if words := refused_for(chain, now):
                    faults.append(too_old(path, file_name, words))
            fresh[name] = read
        if faults:
            raise ConfigFaults(faults)

        def take() -> Iterator[str]:
            for name, read in fresh.items():
                self._in_use[name].become(read)
                until = min(map(good_until, read.loaded.chains.values()))
                yield f"{name} certificate until {day(until)}"

        return take


def _context(tls: ServerTlsConfig | ClusterTlsConfig) -> ServerContext:
    """What a section of the configuration names; not read yet."""
    return LinkTls(tls) if isinstance(tls, ClusterTlsConfig) else ServerContext(tls)
