"""What no single key can tell: keys that contradict each other, and files that are not there.

Each fault comes with the other keys that it speaks of: when one of those has a fault of its own, the contradiction is
with a default that the operator did not ask for, and is not told.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from pico_twisted.config.agent import AgentConfig
from pico_twisted.config.common import ServerTlsConfig
from pico_twisted.config.document import child
from pico_twisted.config.faults import MAX_FILE_NAME_SHOWN, Fault, shown
from pico_twisted.config.kinds import CLUSTER_SECRET, SECRET, Kind
from pico_twisted.config.node import ClusterConfig, ClusterTlsConfig, NodeConfig, NodeLimitsConfig
from pico_twisted.config.values import Address

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
            "cluster.gossip.bind_addr": config.cluster.gossip_bind_addr,
        }
    )
    yield from _cluster_faults(config.cluster)
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


def read_cluster_secrets(cluster: ClusterConfig) -> tuple[tuple[str, ...], tuple[Fault, ...]]:
    """All secrets of a cluster, each once: those that stand in the configuration, then those of the files.

    Returns:
        The secrets, and a fault for each file that gives none.
    """
    found = list(cluster.secrets)
    faults: list[Fault] = []
    for index, file_name in enumerate(cluster.secret_files):
        path = child("cluster.secret_files", index)
        secret = read_secret(file_name, CLUSTER_SECRET)
        if secret is not None:
            found.append(secret)
        else:
            expected = f"a file with one line of {CLUSTER_SECRET.expected}"
            faults.append(Fault(path=path, found="a file that holds no secret", expected=expected))
    return tuple(dict.fromkeys(found)), tuple(faults)


def read_secret(file_name: str, kind: Kind[str] = SECRET) -> str | None:
    """The secret in a file, without the line end behind it; None when there is none that could be used."""
    try:
        with open(file_name, encoding="ascii") as file:
            text = file.read(_MAX_FILE_BYTES).strip()
    except (OSError, ValueError):
        return None
    return text if text and kind.fits(text) else None


def _cluster_faults(cluster: ClusterConfig) -> Iterator[Contradiction]:
    _, faults = read_cluster_secrets(cluster)
    without_secret = {fault.path: fault for fault in faults}
    for index, file_name in enumerate(cluster.secret_files):
        path = child("cluster.secret_files", index)
        unreadable = list(_file_faults(file_name, path))
        if unreadable:
            yield from unreadable
        elif path in without_secret:
            yield without_secret[path], ()
    yield from _certificate_faults(cluster.tls, "cluster.tls")


def _certificate_faults(tls: ServerTlsConfig | ClusterTlsConfig, path: str) -> Iterator[Contradiction]:
    """The files of a `tls` section: all of them or none, and all of them readable."""
    files: dict[str, str] = {child(path, name): value for name, value in attrs.asdict(tls).items()}
    given = [name for name, value in files.items() if value]
    for name, value in files.items():
        if given and not value:
            yield Fault(path=name, found="nothing", expected=f"a file, because {given[0]} is set"), tuple(given)
        yield from _file_faults(value, name)


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
