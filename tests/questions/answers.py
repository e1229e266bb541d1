"""For each question of the page: plant what it asks for, and say which facts an answer names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import attrs

from pico_twisted import __version__
from tests.questions.rig import OLD, Rig

Plant = Callable[[Rig], "Facts"]


@attrs.frozen
class Facts:
    """What an answer has to name.

    Attributes:
        named: these texts, in the same line of the answer.
        also: these, anywhere in it.
        words: what stands on the page, and what it is here.
        at: the node that is asked.
        undo: takes away again what would be in the way of other questions.
    """

    named: tuple[str, ...]
    also: tuple[str, ...] = ()
    words: Mapping[str, str] = attrs.field(factory=dict)
    at: str = "n1"
    undo: Callable[[], object] = lambda: None

    def missing(self, said: str) -> list[str]:
        """What an answer does not name."""
        lines = said.splitlines() or [""]
        best = min(([text for text in self.named if text not in line] for line in lines), key=len)
        return best + [text for text in self.also if text not in said]


def who_serves(rig: Rig) -> Facts:
    """Two agents, at two nodes."""
    rig.wait_known("shop")
    return Facts(named=("agent-7f3", "n2", "127.0.0.1"), also=("agent-a01",))


def what_an_agent_serves(rig: Rig) -> Facts:
    """One agent with two endpoints."""
    return Facts(named=("agent-a01", "acme-blog, shop", "127.0.0.1", "n1"))


def old_agent(rig: Rig) -> Facts:
    """One of another version."""
    rig.agent("agent-old", "n3", {"legacy": rig.fast.address}, old=True)
    return Facts(named=("agent-old", OLD), also=(__version__,))


def allowed(rig: Rig) -> Facts:
    """A token for some endpoints."""
    return Facts(named=("upstream", "acme", "listen:acme-*"), words={"acme.token": str(rig.token_file("acme"))})


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


ANSWERS: Final[Mapping[str, Plant]] = {
    "Who serves shop?": who_serves,
    "What does an agent serve, and from where?": what_an_agent_serves,
    "Which agent is old?": old_agent,
    "Which node is draining or cordoned?": taken_out,
    "What may this token do?": allowed,
    "Who is revoked, and by whom?": revoked,
}
"""By the titles of the page."""
