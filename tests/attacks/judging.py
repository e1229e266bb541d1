"""Sends an attack through a proxy, and finds out what the service saw and what the client got."""

from __future__ import annotations

from tests.attacks.requests import FENCE, Attack
from tests.peers.pipe import Ended
from tests.system import wire
from tests.system.service import Service, answer
from tests.system.wire import Broken, Malformed, Request

REFUSED = "refused"
"""Nothing whole reached the service; or, of an answer, the client got an error of the proxy's, or one that was cut."""
ONE = "one"
"""The service saw the attack as one request, with all that is behind it but the fence as its body, or nowhere."""
TWO = "two"
"""The service saw the second request too, and the client got two answers, each its own."""
DESYNC = "desync"
"""The service and the client disagree on what was asked and answered."""
MALFORMED = "malformed"
"""What reached the service, or the client, is no HTTP."""
WAITS = "waits"
"""The proxy waits for more; of an answer, the client got nothing."""

PATIENCE_S = 1.5
"""How long nothing may come before a proxy counts as waiting."""


def saw(request: Request) -> bytes:
    """Answer with what was asked, and no body."""
    return answer(headers=[("X-Saw", request.target.decode("latin-1")), ("X-Body", str(len(request.body)))])


def judge(stream: wire.Stream, data: bytes, service: Service) -> str:
    """What became of an attack.

    Args:
        stream: a connection to the proxy, which is closed.
        data: its bytes, as this proxy gets them.
        service: behind the proxy; nobody else asks it meanwhile. Its handler is `saw`.
    """
    before, errors = len(service.requests), len(service.errors())
    answered: list[bytes | None] = []
    waits = False
    try:
        stream.send(data)
        while True:
            response = stream.read_response("HEAD" if data.startswith(b"HEAD") else "GET", PATIENCE_S)
            answered.append(response.get("x-saw"))
    except (Ended, Broken):
        pass
    except TimeoutError:
        waits = True
    except Malformed:
        return MALFORMED
    finally:
        stream.close()
    asked = [request.target for request in service.requests[before:]]
    if any(isinstance(error, Malformed) for error in service.errors()[errors:]):
        return MALFORMED
    if asked != [target for target in answered if target is not None]:
        return DESYNC
    if not asked or asked == [b"/fence"]:
        return WAITS if waits and not answered else REFUSED
    if asked[0] == b"/smuggled":
        return DESYNC
    return TWO if b"/smuggled" in asked else ONE


def bytes_of(attack: Attack) -> bytes:
    """An attack with its fence."""
    return attack.data + FENCE
