"""What no single key can tell: keys that contradict each other, and files that are not there.

Each fault comes with the other keys that it speaks of: when one of those has a fault of its own, the contradiction is
with a default that nobody asked for, and is not told.
"""

from __future__ import annotations

from collections.abc import Iterator

from .agent import AgentConfig
from .common import ServerTlsConfig
from .faults import MAX_FILE_NAME_SHOWN, Fault, shown
from .kinds import SECRET
from .node import NodeConfig, NodeLimitsConfig
from .values import Address

_MAX_FILE_BYTES = 1 << 20

Contradiction = tuple[Fault, tuple[str, ...]]


def node_faults(config: NodeConfig) -> Iterator[Contradiction]:
    """What is wrong with a node's configuration as a whole."""
    yield from _certificate_faults(config.proxy.tls, "proxy.tls")
    yield from _certificate_faults(config.upstream.tls, "upstream.tls")
    yield from _certificate_faults(config.admin.tls, "admin.tls")
    yield from _shared_port_faults(
        {
            "proxy.bind_addr": config.proxy.bind_addr,
            "upstream.bind_addr": config.upstream.bind_addr,
            "admin.bind_addr": config.admin.bind_addr,
        }
    )
    yield from _limit_faults(config.limits)


def agent_faults(config: AgentConfig) -> Iterator[Contradiction]:
    """What is wrong with an agent's configuration as a whole."""
    connect = config.connect
    if connect.token and connect.token_file:
        yield (
            Fault(path="connect.token_file", found="a file beside connect.token", expected="one of the two"),
            ("connect.token",),
        )
    yield from _file_faults(connect.token_file, "connect.token_file")
    yield from _file_faults(connect.tls.root_cas, "connect.tls.root_cas")
    if config.limits.v1_body_bytes > config.limits.buffered_bytes:
        yield _above("limits.v1_body_bytes", "limits.buffered_bytes")
    if not config.listeners:
        expected = "at least one, in the file or with a flag such as --listen my-endpoint=localhost:3000"
        yield Fault(path="listeners", found="none", expected=expected), ()


def read_secret(file_name: str) -> str | None:
    """The secret in a file, without the line end behind it; None when there is none that could be used."""
    try:
        with open(file_name, encoding="ascii") as file:
            text = file.read(_MAX_FILE_BYTES).strip()
    except (OSError, ValueError):
        return None
    return text if text and SECRET.fits(text) else None


def _certificate_faults(tls: ServerTlsConfig, path: str) -> Iterator[Contradiction]:
    if bool(tls.cert) != bool(tls.key):
        missing, given = ("key", "cert") if tls.cert else ("cert", "key")
        other = f"{path}.{given}"
        yield Fault(path=f"{path}.{missing}", found="nothing", expected=f"a file, because {other} is set"), (other,)
    yield from _file_faults(tls.cert, f"{path}.cert")
    yield from _file_faults(tls.key, f"{path}.key")


def _file_faults(file_name: str, path: str) -> Iterator[Contradiction]:
    if not file_name:
        return
    try:
        with open(file_name, "rb") as file:
            file.read(1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a file name"
        found = f"{shown(file_name, MAX_FILE_NAME_SHOWN)} ({reason})"
        yield Fault(path=path, found=found, expected="a file that can be read"), ()


def _shared_port_faults(addresses: dict[str, Address]) -> Iterator[Contradiction]:
    seen: dict[str, Address] = {}
    for path, address in addresses.items():
        for other_path, other in seen.items():
            same_host = address.host == other.host or address.is_all or other.is_all
            if address.port and address.port == other.port and same_host:
                expected = f"another port than {other_path}, which has {other}"
                yield Fault(path=path, found=shown(str(address)), expected=expected), (other_path,)
                break
        seen[path] = address


def _limit_faults(limits: NodeLimitsConfig) -> Iterator[Contradiction]:
    if limits.uri_bytes > limits.head_bytes:
        yield _above("limits.uri_bytes", "limits.head_bytes")
    if limits.v1_body_bytes > limits.buffered_bytes:
        yield _above("limits.v1_body_bytes", "limits.buffered_bytes")


def _above(path: str, other_path: str) -> Contradiction:
    return Fault(path=path, found=f"more than {other_path}", expected=f"at most {other_path}"), (other_path,)
