"""What went wrong with a request, and what to do about it, by the code of its error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_BY_CODE: Final[Mapping[str, tuple[str, str]]] = {
    "client-gone": ("the client left before the answer was complete", "see how long the service took"),
    "request-timeout": ("the client did not send all of its request in time", "look at the client's connection"),
    "slow-body": ("the client sent its body too slowly", "look at the client's connection, or at proxy.min_body_rate"),
    "no-upstreams": (
        "no agent served the endpoint at any node",
        "see picoctl events for when its agent went, and start it",
    ),
    "upstream-unreachable": (
        "the connection that the request was on broke before the answer",
        "see picoctl events for what ended at that time",
    ),
    "upstream-timeout": ("the service did not answer in time", "see how long it takes without Pico; proxy.timeout"),
    "bad-response": ("what came back is not valid HTTP", "the log of the agent says what is wrong with it"),
    "response-too-large": ("the response is too large for an agent of version 1", "upgrade the agent"),
    "body-too-large": ("the body is too large for version 1 of the protocol", "upgrade the agent"),
    "busy": ("a limit of calls or memory was reached", "see limits in docs/limits.md, and picoctl top"),
    "overloaded": ("the node had more to do than it could", "give it more CPU, or the cluster more nodes; picoctl top"),
    "draining": ("the node was shutting down and had nowhere to send it", "send requests to another node"),
    "shutdown": ("the node ended and cut it", "a longer grace_period, if it matters"),
    "internal": ("a fault of Pico's own", "the log of the node has a traceback: please report it"),
    "loop": ("the request came to proxy ports again and again", "a service sends it back to Pico"),
    "service-unreachable": (
        "the agent could not connect to the service",
        "is the service running, and is its address in the agent's configuration right?",
    ),
    "service-failed": ("the service closed the connection without a response", "look at the service's own log"),
    "service-timeout": (
        "the service did not answer within the listener's timeout",
        "look at the service, or at the listener's timeout",
    ),
    "service-busy": ("too many requests wait for the service", "the service is too slow for them"),
    "timeout": ("the other side did not answer in time", "look at the service"),
    "idle-timeout": ("nothing moved for too long", "look at the service and the client; proxy.idle_timeout"),
}
"""The code of an error -> what it means, what to do."""

_BY_HOP: Final[Mapping[str, tuple[str, str]]] = {
    "client": ("the client's own fault", "the answer that it got says what is wrong"),
    "proxy": ("the node did not let it through", "see the codes in docs/reference.md"),
    "link": ("the way to the other node, or that node", "see picoctl status nodes and picoctl events"),
    "agent": ("the agent, or the way to it", "see picoctl agents, and the log of the agent"),
    "service": ("the service answered with an error of its own", "look at the service's own log"),
}


def advice(hop: str, error: str) -> tuple[str, str]:
    """What went wrong, and what to do about it.

    Args:
        hop: where a request failed.
        error: the code of the error; empty when Pico made none.
    """
    return _BY_CODE.get(error) or _BY_HOP.get(hop, ("something that this picoctl does not know", "upgrade it"))
