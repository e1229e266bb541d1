"""What is different in a later snapshot, in lines for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from pico_twisted.core.text import escaped, span
from pico_twisted.ctl.samples import read_samples
from pico_twisted.ctl.snapshot.archive import Snapshot

MOST_RATES: Final = 20
"""Counters of a node that are told: those that rose most."""

Facts = Mapping[str, str]


def differences(before: Snapshot, after: Snapshot) -> Iterator[tuple[str, list[str]]]:
    """Compare two snapshots.

    Returns:
        What is compared, and lines of what changed; nothing for what did not.
    """
    elapsed = after.at_s - before.at_s
    sections: list[tuple[str, Callable[[Snapshot], dict[str, Facts]]]] = [
        ("nodes", _nodes),
        ("endpoints", _endpoints),
        ("agents", _agents),
        ("configuration", _configuration),
        ("doctor", _doctor),
    ]
    for title, read in sections:
        if lines := list(_changed(read(before), read(after))):
            yield title, lines
    for id, text in sorted(after.nodes("metrics.txt").items()):
        earlier = before.nodes("metrics.txt").get(id)
        if earlier is not None and elapsed > 0:
            lines = list(_rates(str(earlier), str(text), elapsed))
            if lines:
                yield f"counters of {escaped(id)}, in {span(elapsed)}", lines


def _changed(before: Mapping[str, Facts], after: Mapping[str, Facts]) -> Iterator[str]:
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        shown = escaped(name)
        if new is None:
            yield f"- {shown}"
        elif old is None:
            yield f"+ {shown}" + (f": {_all(new)}" if new else "")
        else:
            for key in sorted(old.keys() | new.keys()):
                was, now = old.get(key, "nothing"), new.get(key, "nothing")
                if was != now:
                    yield f"  {shown} {escaped(key)}: {escaped(was)} -> {escaped(now)}"


def _all(facts: Facts) -> str:
    return ", ".join(f"{escaped(key)} {escaped(value)}" for key, value in facts.items() if value)


def _texts(row: Mapping[str, Any], *keys: str) -> dict[str, str]:
    return {key: str(row[key]) for key in keys if row.get(key) not in (None, "")}


def _nodes(snapshot: Snapshot) -> dict[str, Facts]:
    keys = ("status", "intake", "version", "proxy_addr", "admin_addr", "gossip_addr", "endpoints", "upstreams")
    return {str(row.get("id")): _texts(row, *keys) for row in snapshot.table("nodes.json")}


def _endpoints(snapshot: Snapshot) -> dict[str, Facts]:
    found = snapshot.mapping("endpoints.json").items()
    return {id: {node: str(count) for node, count in held.items()} for id, held in found if isinstance(held, dict)}


def _agents(snapshot: Snapshot) -> dict[str, Facts]:
    found: dict[str, dict[str, set[str]]] = {}
    sessions = snapshot.mapping("agents.json").get("sessions")
    for session in sessions if isinstance(sessions, list) else ():
        if isinstance(session, dict):
            facts = found.setdefault(str(session.get("agent")), {})
            for key in ("version", "node", "endpoint", "subject"):
                if session.get(key):
                    facts.setdefault(key, set()).add(str(session[key]))
            facts.setdefault("address", set()).add(str(session.get("address")).rpartition(":")[0])
    return {id: {key: ", ".join(sorted(values)) for key, values in facts.items()} for id, facts in found.items()}


def _configuration(snapshot: Snapshot) -> dict[str, Facts]:
    found = snapshot.nodes("configuration.json").items()
    return {id: {key: str(value) for key, value in told.items()} for id, told in found if isinstance(told, dict)}


def _doctor(snapshot: Snapshot) -> dict[str, Facts]:
    lines = [line for line in snapshot.table("doctor.json") if line.get("verdict") != "green"]
    return {f"{line.get('verdict')} {line.get('check')}: {line.get('words')}": {} for line in lines}


def _rates(before: str, after: str, elapsed: float) -> Iterator[str]:
    """How fast the counters of a node rose."""
    old, new = read_samples(before), read_samples(after)
    rates = []
    for name in new.by_name:
        if not name.endswith("_total") or name.startswith("python_"):
            continue
        for labels, value in new.all(name):
            was = next((then for own, then in old.all(name) if own == labels), 0.0)
            if value < was:
                yield "  it has started again in between: its counters began anew"
                return
            if value > was:
                told = ",".join(f'{key}="{escaped(text)}"' for key, text in labels.items())
                rates.append(((value - was) / elapsed, f"{name}{{{told}}}" if told else name))
    for rate, name in sorted(rates, reverse=True)[:MOST_RATES]:
        yield f"  {rate:10.3f}/s  {name}"
    if len(rates) > MOST_RATES:
        yield f"  and {len(rates) - MOST_RATES} more"
