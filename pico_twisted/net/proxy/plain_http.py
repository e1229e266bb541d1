"""What clients get over plain HTTP in front of an HTTPS port, and what an ACME server gets on either (RFC 8555 8.3)."""

from __future__ import annotations

from random import getrandbits
from typing import Final

from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from pico_twisted.net.proxy.request import ProxyRequest
from pico_twisted.net.tls.acme.challenges import HTTP_01, Challenges

CHALLENGE_PATH: Final = b"/.well-known/acme-challenge/"
"""Where an ACME server asks; the token follows."""


class ChallengeResource(Resource):
    """Answers what ACME servers ask of this cluster. All else goes on, also what they ask of the services behind it.

    Args:
        challenges: says what is to be answered.
        further: gets the other requests.
    """

    isLeaf = True

    def __init__(self, challenges: Challenges, further: IResource) -> None:
        Resource.__init__(self)
        self._challenges = challenges
        self._further = further

    def render(self, request: ProxyRequest) -> int:
        """Answer the request, or pass it on."""
        target = request.head.target
        if target.startswith(CHALLENGE_PATH) and request.method in (b"GET", b"HEAD"):
            token = target[len(CHALLENGE_PATH) :].decode("ascii", "replace")
            answer = self._challenges.answer(HTTP_01, token)
            if answer is not None:
                request.request_id = b"%016x" % getrandbits(64)
                request.answer(200, [(b"content-type", b"application/octet-stream")], answer.encode("ascii", "replace"))
                return NOT_DONE_YET
        result: int = self._further.render(request)
        return result


class HttpsResource(Resource):
    """Sends clients to the same URL with https.

    Args:
        port: of that URL.
    """

    isLeaf = True

    def __init__(self, port: int) -> None:
        Resource.__init__(self)
        self._port = b"" if port == 443 else b":%d" % port

    def render(self, request: ProxyRequest) -> int:
        """Answer the request. 308 has the client repeat its method and body (RFC 9110 15.4.9)."""
        request.request_id = b"%016x" % getrandbits(64)
        host, target = request.head.host or b"", request.head.target
        if not host:
            request.fail(400, "this port leads to https only, and the request names no host", "https-required")
            request.done()
            return NOT_DONE_YET
        name = host if host.endswith(b"]") else host.rpartition(b":")[0] or host
        location = b"https://" + name + self._port + (target if target.startswith(b"/") else b"")
        request.answer(308, [(b"location", location)], b"")
        return NOT_DONE_YET
