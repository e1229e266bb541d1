"""Judging silence: which nodes count as unreachable, and which are forgotten."""

from __future__ import annotations

from typing import Final

from pico_twisted.core.gossip.members import Standing
from pico_twisted.core.gossip.suspicion import MOST_PATIENT
from pico_twisted.core.gossip.view import View

LEARNING_S: Final = 20.0
"""Seconds after meeting a node in which its usual silences are still being learnt, so more patience is needed."""
MASS_FAILURE_NODES: Final = 8
"""Number of live nodes up to which many silent ones change nothing: so few are all asked in each round."""
MASS_FAILURE_PATIENCE: Final = 1.5
"""Factor on the silence that is suffered while more than a quarter of the live nodes are suspect at once."""


def judge(view: View, now: float) -> None:
    """A node that is silent for too long is unreachable, and one that was that for long is forgotten.

    Of a node that we have only just met we do not know yet how old its news usually are. In a large cluster they are
    older, since news take turns in packets, so we wait longer then. And so we do when many fall silent at once: those
    of us who are left on this side of a cut have asked the others for a while, and not each other.
    """
    for member in list(view.members.values()):
        if member.previous is not None and now >= member.previous_until:
            view.drop_previous(member)
        if member.standing is not Standing.LIVE and member.silence_s(now) > view.forget_s:
            view.forget(member)
    # these are few, mostly none, so all that makes us more patient need not be looked at for each node
    silent = [one for one in view.live() if now - one.alive_at >= one.accrual.unreachable_s]
    if not silent:
        return
    patience = 1.0 + len(view.members) / 100
    mass_failure = MASS_FAILURE_PATIENCE if _mass_failure(view, now) else 1.0
    most_s = MOST_PATIENT * view.interval_s
    for member in silent:
        learning = patience if now - member.first_heard_at < LEARNING_S else 1.0
        limit_s = min(member.accrual.unreachable_s * mass_failure * learning, most_s)
        if now - member.alive_at >= limit_s and member.silence_s(now) >= limit_s:
            view.stand(member, Standing.UNREACHABLE)


def _mass_failure(view: View, now: float) -> bool:
    """Whether many are suspect at once, in a cluster that is too large for all to be asked in each round."""
    live = list(view.live())
    return len(live) > MASS_FAILURE_NODES and 4 * sum(member.suspect(now) for member in live) > len(live)
