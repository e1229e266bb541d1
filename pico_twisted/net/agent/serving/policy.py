"""What a listener lets through to its service: by address, by password, and so many at once and in a time.

The order is the price of asking, and so that nobody uses up what others share: first the address, then the password,
and only who may come in at all counts among those in progress and takes from the rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from twisted.internet.defer import Deferred

from pico_twisted.config import ListenerConfig, in_networks
from pico_twisted.core.access.ceilings import Ceiling, Limit, Over
from pico_twisted.core.agent.service_call import CallRequest
from pico_twisted.core.sweep import Sweep
from pico_twisted.core.text import is_ip
from pico_twisted.net.access.ceilings import LimitCounts, retry_after
from pico_twisted.net.access.retry_after import RETRY_AFTER
from pico_twisted.net.agent.serving.basic_auth import BasicAuth, InThread
from pico_twisted.net.observe.metrics import Metrics

MoreFields = Sequence[tuple[bytes, bytes]]
"""What stands in an answer besides, (name, value)."""


class Denied(Exception):
    """A request does not reach the service.

    Attributes:
        answer: its status, message, code and further fields.
    """

    def __init__(self, status: int, message: str, code: str, fields: MoreFields) -> None:
        super().__init__(status, code)
        self.answer = (status, message, code, fields)


_ANSWERS: Final = {
    Limit.LISTENER_ADDRESS: (403, "this address may not use the endpoint"),
    Limit.LISTENER_LOGIN: (401, "a user name and a password are needed"),
    Limit.LISTENER_LOGINS: (503, "too many passwords wait to be checked"),
    Limit.LISTENER_IN_FLIGHT: (503, "too many requests for this endpoint in progress"),
    Limit.LISTENER_RATE: (429, "too many requests for this endpoint in a short time"),
}


class ListenerPolicy:
    """Judges the requests of one listener.

    Args:
        config: of the listener.
        basic_auth: knows users and passwords.
        counts: how often something was denied, by why.
        sweep: tells the time.
    """

    def __init__(self, config: ListenerConfig, basic_auth: BasicAuth, counts: LimitCounts, sweep: Sweep) -> None:
        self._config = config
        self._basic_auth = basic_auth
        self._counts = counts
        self._sweep = sweep
        self._ceiling = Ceiling(Limit.LISTENER_IN_FLIGHT, Limit.LISTENER_RATE, config.max_in_flight, config.rate)
        realm = config.basic_auth_realm or config.endpoint
        self._challenge = b'Basic realm="%b", charset="UTF-8"' % realm.encode("ascii")

    def judge(self, call: object, request: CallRequest) -> Deferred[None] | None:
        """Let a request in.

        Args:
            call: stays in flight until `leave`, if the request comes in.
            request: whose head has come.

        Returns:
            None when it may come in at once; or what fires when it may, or fails with `Denied`.

        Raises:
            Denied: it may not.
        """
        config, client, head = self._config, request.client, request.head
        if config.allow or config.deny:
            allowed = in_networks(config.allow, client) if config.allow else is_ip(client)
            if not allowed or in_networks(config.deny, client):
                raise self._denied(Limit.LISTENER_ADDRESS)
        if not config.basic_auth_file:
            self._enter(call)
            return None
        authorization = head.by_name.get(b"authorization", b"") if head is not None else b""
        right = self._basic_auth.check(config.basic_auth_file, authorization, self._sweep.now)
        if isinstance(right, Deferred):
            return right.addCallback(self._logged_in, call)
        if right is None:
            raise self._denied(Limit.LISTENER_LOGINS)
        self._logged_in(right, call)
        return None

    def _logged_in(self, right: bool, call: object) -> None:
        if not right:
            raise self._denied(Limit.LISTENER_LOGIN)
        self._enter(call)

    def _enter(self, call: object) -> None:
        over = self._ceiling.enter(call, self._sweep.now)
        if over is not None:
            raise self._denied(over.limit, over.retry_after_s)

    def _denied(self, limit: Limit, retry_after_s: float | None = None) -> Denied:
        self._counts.count(limit)
        status, message = _ANSWERS[limit]
        fields = [(RETRY_AFTER, retry_after(Over(limit, retry_after_s)))] if status in (429, 503) else []
        if limit is Limit.LISTENER_LOGIN:
            fields = [(b"www-authenticate", self._challenge)]
        return Denied(status, message, limit.value, fields)

    def leave(self, call: object) -> None:
        """A request is over, that came in or not. Idempotent."""
        self._ceiling.leave(call)


class Policies:
    """The policies of an agent's listeners, which share users and counts.

    Args:
        in_thread: where passwords are checked.
        metrics: where it is shown what was denied.
        sweep: tells the time.

    Attributes:
        basic_auth: knows users and passwords.
    """

    def __init__(self, in_thread: InThread, metrics: Metrics, sweep: Sweep) -> None:
        self.basic_auth = BasicAuth(in_thread)
        self._counts = LimitCounts(metrics)
        self._sweep = sweep

    def of(self, config: ListenerConfig) -> ListenerPolicy | None:
        """The policy of a listener; None when it lets everything through."""
        bounded = config.max_in_flight is not None or config.rate is not None
        if not (config.allow or config.deny or config.basic_auth_file or bounded):
            return None
        return ListenerPolicy(config, self.basic_auth, self._counts, self._sweep)
