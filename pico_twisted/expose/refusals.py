"""Why a service cannot be made reachable, in the words of whoever typed the command."""

from __future__ import annotations

import re
from typing import Final

from pico_twisted.expose.plan import ExposePlan
from pico_twisted.expose.upstream import Source
from pico_twisted.net.agent.dial_failures import FailedAttempt

NOT_SHARED: Final = "not-shared"
"""The code with which a node refuses a name that another agent keeps for itself, or that we want for ourselves."""
_REFUSED: Final = re.compile(r"the node refused \(([0-9]{3})\): (.*)", re.DOTALL)
_OTHER_ID: Final = ", and is not shared: choose another endpoint ID"


def explained(failed: FailedAttempt, plan: ExposePlan) -> str:
    """What is wrong, and what may help.

    Args:
        failed: the attempt.
        plan: what was asked for.
    """
    url, words = failed.url, failed.words.replace("connect.url takes its", "--to takes the").replace("connect.", "--")
    found = _REFUSED.fullmatch(words)
    if found is None:
        kept = plan.upstream.source is Source.REMEMBERED
        return f"{url}: {words}{'. It is that of the last --to: give another one, or --local' if kept else ''}"
    status, said = found.groups()
    if failed.code == NOT_SHARED:
        served = said.removesuffix(_OTHER_ID)
        help = "who has it does not share it: take another name" if plan.share else "--share to join, or another name"
        return f"{served}: {help}, as in {_like(plan)}"
    if status == "401":
        return f"{url}: {said}. A token: --token-file FILE or PICO_TOKEN_FILE"
    if status == "403":
        return f"{url}: {said}. Another name: {_like(plan)}"
    return f"{url}: {said}"


def _like(plan: ExposePlan) -> str:
    """The command with a name."""
    target = plan.targets[0]
    if target.folder:
        return f"picoctl file NAME={target.shown}"
    plain = target.addr.removeprefix("localhost:")
    return f"picoctl {plan.protocol} NAME={plain}"
