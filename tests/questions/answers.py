"""For each question of the page: plant what it asks for, and say which facts an answer names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import attrs

from pico_twisted import __version__
from tests.questions.rig import ENDS_IN_DAYS, LATER, OLD, SESSIONS_AT_N3, Rig

Plant = Callable[[Rig], "Facts"]


@attrs.frozen
class Facts:
    """What an answer has to name.

    Attributes:
        named: these texts, in the same line of the answer.
        also: these, anywhere in it.
        pattern: a regular expression that is found in it; empty for none.
        words: what stands on the page, and what it is here.
        at: the node that is asked.
        page: what the admin page shows behind the click; the same as `named` and `also` when empty.
        page_pattern: a regular expression that is found in what it shows; empty for none.
        during: what goes on while somebody asks; called again and again.
        undo: takes away again what would be in the way of other questions.
    """

    named: tuple[str, ...]
    also: tuple[str, ...] = ()
    pattern: str = ""
    words: Mapping[str, str] = attrs.field(factory=dict)
    at: str = "n1"
    page: tuple[str, ...] = ()
    page_pattern: str = ""
    during: Callable[[], object] = lambda: None
    undo: Callable[[], object] = lambda: None

    def missing(self, said: str) -> list[str]:
        """What an answer does not name."""
        lines = said.splitlines() or [""]
        best = min(([text for text in self.named if text not in line] for line in lines), key=len)
        unfound = [] if re.search(self.pattern, said) else [self.pattern]
        return best + [text for text in self.also if text not in said] + unfound

    def hidden(self, shown: str) -> list[str]:
        """What the page does not show."""
        unfound = [] if re.search(self.page_pattern, shown) else [self.page_pattern]
        return [text for text in self.page or self.named + self.also if text not in shown] + unfound


def who_serves(rig: Rig) -> Facts:
    """Two agents, at two nodes."""
    rig.wait_known("shop")
    return Facts(named=("agent-7f3", "n2", "127.0.0.1"), also=("agent-a01",))


def what_an_agent_serves(rig: Rig) -> Facts:
    """One agent with two endpoints."""
    page = ("acme-blog", "shop", "127.0.0.1", "n1")
    return Facts(named=("agent-a01", "acme-blog, shop", "127.0.0.1", "n1"), page=page)


def old_agent(rig: Rig) -> Facts:
    """One of another version."""
    rig.agent("agent-old", "n3", {"legacy": rig.fast.address}, old=True)
    return Facts(named=("agent-old", OLD), also=(__version__,), page=("agent-old", f"{OLD} older"))


def turned_away(rig: Rig) -> Facts:
    """An agent whose token is for other endpoints."""
    rig.agent("agent-stray", "n2", {"acmes-till": rig.fast.address}, token="acme", wait=False)
    return Facts(named=("n2", "Refused at the upstream port: not-allowed", "127.0.0.1", "acmes-till", "subject=acme"))


def revoked(rig: Rig) -> Facts:
    """A token that somebody took away."""
    done = rig.ask(("revoke", "lost"))
    assert done.returncode == 0, done.stderr
    return Facts(named=("lost", "operator"))


def taken_out(rig: Rig) -> Facts:
    """A node that an operator cordoned."""
    done = rig.ask(("cordon", "n3"), at="n2")
    assert done.returncode == 0, done.stderr
    return Facts(named=("n3", "cordoned"), undo=lambda: rig.ask(("uncordon", "n3")))


def slow(rig: Rig) -> Facts:
    """A service that takes its time, behind one agent."""
    rig.agent("agent-slow", "n2", {"reports": rig.slow.address})
    rig.wait_known("reports")
    return Facts(
        named=("agent-slow", "n2"),
        pattern=r"n1 .* [2-9]\d\d ms",  # that of the service; the round trip to the agent is a few milliseconds
        page=("agent-slow", "GET /"),
        during=lambda: rig.request("n1", "reports"),
    )


def dropped(rig: Rig) -> Facts:
    """A request of which its client tells the ID: nothing listens where the agent looks for the service."""
    rig.broken_agent()
    rig.wait_known("broken")
    answer = rig.request("n3", "broken")
    assert answer.status == 502, answer
    return Facts(
        named=("failed at the service",),
        also=("agent-b0b", "node n2", "service-unreachable"),
        words={"9a2f33aa01b2c3d4": answer.fields["x-request-id"]},
        page=("broken", "service-unreachable", answer.fields["x-request-id"][:8]),
    )


def failing(rig: Rig) -> Facts:
    """The same service, asked again."""
    rig.broken_agent()
    rig.wait_known("broken")
    assert rig.request("n1", "broken").status == 502
    return Facts(named=("502", "broken", "service-unreachable"))


def limited(rig: Rig) -> Facts:
    """More requests than the endpoint may have."""
    rig.agent("agent-narrow", "n1", {"narrow": rig.fast.address})
    rig.wait_known("narrow")

    def too_many() -> None:
        assert 429 in {rig.request("n1", "narrow").status for _ in range(5)}

    too_many()
    return Facts(named=("429", "narrow", "endpoint-rate", "127.0.0.1"), page=("429", "endpoint-rate"), during=too_many)


def changed(rig: Rig) -> Facts:
    """An agent that came."""
    rig.agent("agent-new", "n1", {"fresh": rig.fast.address})
    return Facts(named=("n1", "Endpoint fresh registered by agent-new"), words={"3:02": "10m"})


def reconnects(rig: Rig) -> Facts:
    """Two agents with one ID, which push each other out."""
    for _ in range(2):
        rig.agent("agent-twin", "n2", {"twins": rig.fast.address}, wait=False)
    return Facts(named=("Two agents have the ID agent-twin",))


def in_use(rig: Rig) -> Facts:
    """A client that asks for something."""
    return Facts(
        named=("/basket", "127.0.0.1"),
        page=("agent-7f3", "GET /basket"),
        during=lambda: rig.request("n2", "shop", "/basket"),
    )


def different(rig: Rig) -> Facts:
    """An agent that came between two snapshots."""
    files = {name: str(rig.directory / name) for name in ("yesterday.tar.gz", "today.tar.gz")}
    before, after = files.values()
    for file in files.values():
        Path(file).unlink(missing_ok=True)
    assert rig.ask(("snapshot", before)).returncode == 0
    rig.agent("agent-late", "n1", {"late": rig.fast.address})
    rig.wait_known("late")
    assert rig.ask(("snapshot", after)).returncode == 0
    return Facts(named=("agent-late",), words=files)


def not_reloaded(rig: Rig) -> Facts:
    """A file with a fault, which a node was told to read again."""
    node = rig.cluster["n2"]
    before = dict(node.settings)
    node.write_settings({"nonsense": 1})
    assert rig.ask(("reload",), at="n2").returncode == 1
    node.settings = before
    node.write_settings()
    page = ("n2", "not reloaded", "nonsense")
    return Facts(named=("reloads", "n2"), page=page, undo=lambda: rig.ask(("reload",), at="n2"))


def ends_next(rig: Rig) -> Facts:
    """The certificate of n2's proxy port ends before all others."""
    days = f"{ENDS_IN_DAYS - 1} d"  # whole ones are counted, and a moment of the last one is over
    return Facts(named=("certificates", "proxy", "n2", days), page=("proxy", days))


def near_a_limit(rig: Rig) -> Facts:
    """Nearly as many sessions at n3 as it may have."""
    rig.agent("agent-many", "n3", {f"many-{at}": rig.fast.address for at in range(SESSIONS_AT_N3 - 1)})
    return Facts(named=("n3 uses ", f"of {SESSIONS_AT_N3} (limits.sessions)"))


def of_one_mind(rig: Rig) -> Facts:
    """A node of another version."""
    rig.node(LATER, old=True).wait_ready()
    return Facts(named=("versions", OLD, __version__), page=(LATER, f"{OLD} older"))


def unreachable(rig: Rig) -> Facts:
    """A node whose process was killed."""
    if LATER not in rig.cluster.nodes:
        rig.node(LATER).wait_ready()
    node = rig.cluster[LATER]
    node.kill()
    file = {"/etc/pico/pico.yaml": str(rig.cluster["n1"].config_path)}
    address = rig.cluster.gossip_address(LATER)
    return Facts(
        named=(address, "connection refused"),
        also=(f"{LATER} at {address} is unreachable",),
        words=file,
        page=("unreachable", address),
    )


def busiest(rig: Rig) -> Facts:
    """Clients that ask again and again for one endpoint."""
    rig.agent("agent-rush", "n1", {"rush": rig.fast.address})
    rig.wait_known("rush")

    def rush() -> None:
        for _ in range(40):
            rig.request("n2", "rush")

    return Facts(
        named=("rush",),
        pattern=r"ENDPOINT .*\nrush ",
        page=("agent-rush",),
        page_pattern=r"(?i)\bendpoint\t[^\n]*requests/s[^\n]*\n+rush\t",
        during=rush,
    )


ANSWERS: Final[Mapping[str, Plant]] = {
    "Who serves shop?": who_serves,
    "What does an agent serve, and from where?": what_an_agent_serves,
    "Why is reports slow?": slow,
    "Who dropped this request?": dropped,
    "Where do 502s come from?": failing,
    "Which clients get 429 or 503, and why?": limited,
    "Who uses shop now?": in_use,
    "What changed at 3:02?": changed,
    "Which agent reconnects again and again?": reconnects,
    "What is different since yesterday?": different,
    "Which agent is old?": old_agent,
    "Which node is draining or cordoned?": taken_out,
    "Why is a node unreachable?": unreachable,
    "Which certificate ends next?": ends_next,
    "Who is near a limit?": near_a_limit,
    "Did the last reload work?": not_reloaded,
    "Is the cluster of one mind?": of_one_mind,
    "Which endpoint is the busiest now?": busiest,
    "Which agent is turned away, and why?": turned_away,
    "Who is revoked, and by whom?": revoked,
}
"""By the titles of the page."""
