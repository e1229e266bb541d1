"""Of a few hundred odd but legal requests a node serves every one that both nginx and HAProxy serve."""

from __future__ import annotations

import pytest

from tests.odd_requests.asking import SERVED, ask, saw
from tests.odd_requests.exceptions import EXCEPTIONS
from tests.odd_requests.record import read_table
from tests.odd_requests.requests import ENDPOINT, OddRequest, odd_requests
from tests.system.service import answer
from tests.system.stack import Stack
from tests.system.wire import Request

REQUESTS = odd_requests()
SAMPLED = 9
"""Over two nodes every so many-th request is sent, and all that are of a kind with few."""


def served_by_both() -> set[str]:
    """The names of those that both of the other proxies served when the table was made."""
    return {name for name, columns in read_table().items() if set(columns) == {SERVED}}


def test_the_table_is_of_these_requests() -> None:
    """It was recorded of what is generated now (`make odd-requests`), and has hundreds of rows."""
    assert list(read_table()) == [request.name for request in REQUESTS]
    assert len(served_by_both()) > 400
    assert set(EXCEPTIONS) <= served_by_both()


@pytest.mark.parametrize("kind", sorted({request.kind for request in REQUESTS}))
@pytest.mark.parametrize("running_stack", ["plain", "two"], indirect=True)
def test_what_others_serve_is_served(stack: Stack, kind: str) -> None:
    """The service sees the same method and body, and the request is well formed whatever the client's was."""

    def handler(request: Request) -> bytes:
        return answer(headers=[("X-Saw", saw(request.method, request.body).decode())])

    def given(request: OddRequest) -> str:
        data = request.data.replace(ENDPOINT, b"x-pico-endpoint: %b\r\n" % stack.endpoint.encode())
        return ask(stack.connect(), request.with_data(data))

    stack.service.handler = handler
    both = served_by_both()
    asked = [request for request in REQUESTS if request.kind == kind and request.name in both]
    if stack.two_nodes:
        asked = asked[:: SAMPLED if len(asked) > SAMPLED else 1]
    came = {request.name: given(request) for request in asked}
    assert {name: word for name, word in came.items() if word != SERVED and name not in EXCEPTIONS} == {}
    assert [name for name, word in came.items() if word == SERVED and name in EXCEPTIONS] == [], (
        "no exceptions any more"
    )
