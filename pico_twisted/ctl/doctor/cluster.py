"""What the admin port of a node tells the doctor of the whole cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Final

import attrs

from pico_twisted.core.routing.table import ACTIVE, DRAINING
from pico_twisted.core.text import escaped, span
from pico_twisted.ctl.asking import get
from pico_twisted.ctl.attention import SOON_S, near_limits, overloaded, uses
from pico_twisted.ctl.client import AdminPort
from pico_twisted.ctl.doctor.lines import Line, Verdict, at_once, green, red, yellow
from pico_twisted.ctl.exits import ExitWithMessage
from pico_twisted.ctl.samples import Samples, read_samples
from pico_twisted.ctl.versions import newest, older
from pico_twisted.net.admin.shapes.agents import Agents
from pico_twisted.net.admin.shapes.nodes import NodeDetail, NodeRow

CLOCKS_S: Final = 2.0
"""Seconds by which clocks may differ without a word: answers take time, too."""
MOST_CLOCKS_S: Final = 30.0
"""Seconds from which on nodes refuse each other's passes."""
MOST_NAMED: Final = 5
"""Most agents that one line names."""


@attrs.frozen(kw_only=True)
class Seen:
    """What a node said.

    Attributes:
        samples: its metrics.
        rows: the nodes as it sees them.
        ahead_s: how many seconds its clock is ahead of this machine's; None when it does not tell the time.
    """

    samples: Samples
    rows: Sequence[NodeRow]
    ahead_s: float | None


def cluster_lines(port: AdminPort) -> Iterator[Line]:
    """Ask one node, and all others through it.

    Args:
        port: of that node.

    Raises:
        ExitWithMessage: it gives no answer.
    """
    _, rows = get(port, "/status/cluster/nodes", list[NodeRow])
    _, own = get(port, "/status/cluster/nodes/local", NodeDetail)
    yield green("admin port", f"{port.url} answers as node {escaped(own.id)}, and takes who asks")
    ready = port.ask("/ready")
    yield from _standing(rows, own.id, ready.error if ready.status != 200 else "")
    there = [row.id for row in rows if row.status in (ACTIVE, DRAINING)]
    answers = at_once([partial(_ask, attrs.evolve(port, forward=id)) for id in there], port.timeout_s)
    seen = {id: answer for id, answer in zip(there, answers, strict=True) if isinstance(answer, Seen)}
    for id, answer in zip(there, answers, strict=True):
        if isinstance(answer, Exception):
            words = f"{escaped(id)} does not tell how it is: {escaped(_words(answer))}"
            cure = "an admin.bind_addr that the other nodes reach, and one cluster.secret_files for all"
            yield yellow("nodes", words, cure)
    yield from _links(seen)
    yield from _clocks(seen)
    yield from _certificates(seen)
    yield from _reloads(seen)
    yield from _limits(seen)
    yield from _agents(port, rows)


def _ask(port: AdminPort) -> Seen:
    began = time.time()
    samples = read_samples(port.text("/metrics"))
    middle = (began + time.time()) / 2
    told = samples.value("pico_time_seconds")
    _, rows = get(port, "/status/cluster/nodes", list[NodeRow])
    return Seen(samples=samples, rows=rows, ahead_s=None if told is None else told - middle)


def _words(error: Exception) -> str:
    return error.message if isinstance(error, ExitWithMessage) else str(error)


def _standing(rows: Sequence[NodeRow], own: str, why_not: str) -> Iterator[Line]:
    """How the nodes are."""
    troubles = []
    for row in rows:
        id = escaped(row.id)
        if row.intake:
            cure = f"picoctl uncordon {id} puts it back"
            troubles.append(yellow("nodes", f"{id} is {escaped(row.intake)}", cure))
        elif row.status not in (ACTIVE, "left"):
            cure = "does it run, and do UDP and TCP reach its gossip port?" if row.status == "unreachable" else "wait"
            troubles.append(red("nodes", f"{id} at {row.gossip_addr} is {escaped(row.status)}", cure))
    if why_not and not any(row.id == own and row.intake for row in rows):
        troubles.append(
            red("nodes", f"{escaped(own)} is not ready: {escaped(why_not)}", "its log says what it waits for")
        )
    count = sum(row.status == ACTIVE for row in rows)
    yield from troubles or [green("nodes", f"{count} active{'' if count == len(rows) else ', others have left'}")]
    versions = sorted({row.version for row in rows if row.version and row.status in (ACTIVE, DRAINING)})
    if len(versions) > 1:
        yield yellow("versions", f"nodes of {', '.join(map(escaped, versions))}", "finish the upgrade, node by node")
    elif versions:
        yield green("versions", f"all nodes have {escaped(versions[0])}")


def _links(seen: Mapping[str, Seen]) -> Iterator[Line]:
    """Whether each node reaches each other one: both ways, as they say."""
    troubles = [
        red(
            "links",
            f"{escaped(id)} gets no link to {escaped(row.id)} at {row.gossip_addr}: {escaped(row.link)}",
            f"TCP and UDP to {row.gossip_addr} from {escaped(id)}: firewalls, cluster.gossip.advertise_addr, secrets",
        )
        for id, one in seen.items()
        for row in one.rows
        if row.link not in ("", "open") and row.status in (ACTIVE, DRAINING)
    ]
    if len(seen) > 1 or troubles:
        yield from troubles or [green("links", "no node fails to reach another one")]


def _clocks(seen: Mapping[str, Seen]) -> Iterator[Line]:
    ahead = {id: one.ahead_s for id, one in seen.items() if one.ahead_s is not None} | {"this machine": 0.0}
    first, last = min(ahead, key=ahead.__getitem__), max(ahead, key=ahead.__getitem__)
    differ = ahead[last] - ahead[first]
    words = f"the clock of {escaped(last)} is {differ:.1f} s ahead of that of {escaped(first)}"
    cure = "timedatectl set-ntp true, there and here"
    if differ > MOST_CLOCKS_S:
        yield red("clocks", words, cure)
    elif differ > CLOCKS_S:
        yield yellow("clocks", words, cure)
    elif len(ahead) > 1:
        yield green("clocks", f"within {CLOCKS_S:g} s of each other")


def _certificates(seen: Mapping[str, Seen]) -> Iterator[Line]:
    found = [
        (at, id, labels.get("port", ""))
        for id, one in seen.items()
        for labels, at in one.samples.all("pico_certificate_expiry_timestamp_seconds")
    ]
    troubles = []
    for at, id, of in found:
        left, name = at - time.time(), f"that of port {escaped(of)} at {escaped(id)}"
        if left <= 0:
            troubles.append(red("certificates", f"{name} has expired", "renew it: its file is read again"))
        elif left < SOON_S:
            troubles.append(
                yellow("certificates", f"{name} expires in {span(left)}", "renew it: its file is read again")
            )
    if found:
        yield from troubles or [
            green("certificates", f"{len(found)}, the first expires in {span(min(found)[0] - time.time())}")
        ]


def _reloads(seen: Mapping[str, Seen]) -> Iterator[Line]:
    troubles = []
    for id, one in seen.items():
        at = one.samples.value("pico_config_last_reload_timestamp_seconds")
        if one.samples.value("pico_config_last_reload_success") == 0:
            since = f" since {span(time.time() - at)}" if at else ""
            cure = f"picoctl reload at {escaped(id)} says what is wrong"
            troubles.append(yellow("reloads", f"{escaped(id)} does not take its configuration{since}", cure))
    yield from troubles or [green("reloads", "every node goes by its file as it was last read")]


def _limits(seen: Mapping[str, Seen]) -> Iterator[Line]:
    """What is near its limit: of the configuration, of the process, and of its CPU."""
    troubles = []
    for id, one in seen.items():
        share = one.samples.value("pico_overload_ratio") or 0.0
        if share > 0:
            troubles.append(red("limits", overloaded(id, share), "give it more CPU, or add a node"))
        for name, used, most in near_limits(one.samples):
            words = uses(id, name, used, most)
            troubles.append((red if used >= most else yellow)("limits", words, f"raise {name}, or add a node"))
        files = one.samples.value("process_max_fds")
        wanted = sum(
            one.samples.value("pico_limit", {"name": name}) or 0 for name in ("connections", "sessions", "links")
        )
        if files and wanted > files:
            cure = f"LimitNOFILE={_round_up(wanted)} in its unit, or lower limits"
            words = f"{escaped(id)} may open {files:.0f} files, and its limits allow {wanted:.0f} connections"
            troubles.append(yellow("limits", words, cure))
    yield from troubles or [green("limits", "nothing is near its limit")]


def _round_up(number: float) -> int:
    return 1 << int(number).bit_length()


def _agents(port: AdminPort, rows: Sequence[NodeRow]) -> Iterator[Line]:
    try:
        _, found = get(port, "/status/cluster/agents", Agents)
    except ExitWithMessage as error:
        yield yellow("agents", f"nobody tells of them: {error.message}", "look at the nodes first")
        return
    if not found.sessions:
        yield green("agents", "none is connected")
        return
    nodes_of: dict[tuple[str, str], set[str]] = {}
    for session in found.sessions:
        nodes_of.setdefault((session.agent, session.endpoint), set()).add(session.node)
    lines = []
    latest = newest([row.version for row in rows if row.status == ACTIVE])
    old = {one.agent for one in found.sessions if older(one.version, latest)}
    if old:
        words = f"{_some(old)} older than the nodes ({escaped(latest)})"
        lines.append(yellow("agents", words, "upgrade them when it suits"))
    if sum(row.status == ACTIVE for row in rows) > 1:
        single = {agent for (agent, _), nodes in nodes_of.items() if len(nodes) == 1}
        if single:
            cure = "connect.url with the upstream ports of several nodes, and connect.connections auto"
            lines.append(yellow("agents", f"{_some(single)} connected to one node alone: its end is an outage", cure))
    if not any(line.verdict is Verdict.YELLOW for line in lines):
        count = len({session.agent for session in found.sessions})
        lines.append(green("agents", f"{count} connected, none older than the nodes"))
    yield from lines


def _some(agents: set[str]) -> str:
    """Agents by their IDs, and whether they are one or several: `a, b and 3 more are`."""
    named = ", ".join(map(escaped, sorted(agents)[:MOST_NAMED]))
    more = len(agents) - MOST_NAMED
    return f"{named}{f' and {more} more' if more > 0 else ''} {'is' if len(agents) == 1 else 'are'}"
