"""What a bench is to do, as one value: each option of the command is a field of it, and said here alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import attrs
import click

from pico_twisted.ctl.options import Text, count, duration

MAX_CONNECTIONS: Final = 20_000
"""The connections that clients may have together."""
MAX_REGISTRATIONS: Final = 20_000
"""The agents of all endpoints together: each has a session, with a connection of its own."""
MAX_REQUESTS: Final = 1_000_000_000
"""The requests that one bench may make."""
MAX_BODY_BYTES: Final = 64 << 20
"""The bytes that one body may have."""
MAX_HELD_BYTES: Final = 1 << 30
"""The bytes of bodies that all connections together may have under way: this one process holds them in memory."""
MAX_RATE: Final = 1_000_000.0
"""The requests that may be begun in a second."""
MAX_CHURN: Final = 1_000.0
"""The agents that may leave in a second."""
DAY_S: Final = 86_400.0
"""The seconds that a measurement may take, and the load before it."""
DURATION_S: Final = 10.0
"""The seconds of a measurement for which nothing was said."""
MAX_TIMEOUT_S: Final = 600.0
"""The seconds that may be waited for one request."""
SPARE_FILES: Final = 64
"""The open files that the process needs beyond its connections."""
BODIES: Final = ("POST", "PUT", "PATCH")
"""The methods whose requests have a body."""
METHODS: Final = ("GET", "HEAD", *BODIES, "DELETE", "OPTIONS")
"""The methods that a bench can use."""
SMALL_BYTES: Final = 128
"""The size in bytes of a body for which none was given."""

F = TypeVar("F", bound=Callable[..., Any])  # a command, whatever its parameters


class _Rate(click.FloatRange):
    """A number in decimal digits, perhaps with a fraction: float() would take `nan` and `1_0` too."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # as click's own
        if isinstance(value, str) and not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,12})?", value):
            self.fail(f"{value!r} is not a number", param, ctx)
        return super().convert(value, param, ctx)


def _proxy_urls(context: click.Context, option: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    from pico_twisted.ctl.client import read_url

    return tuple(read_url(text, "--proxy") for text in texts)


def _token(context: click.Context, option: click.Parameter, file: str | None) -> str:
    if file is None:
        return ""
    try:
        with open(file, encoding="ascii") as opened:
            token = opened.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{file} cannot be read: {error}") from None
    if not token or not token.isprintable() or " " in token:
        raise click.BadParameter(f"{file} holds no token")
    return token


_PROXIES: Final = "A proxy port; may be given several times, connections are shared out."
_UPSTREAMS: Final = "An upstream port; may be given several times, agents are shared out."
_RATE: Final = (
    "Begin R requests a second, however slow the answers, and count latency from when each was due, so that a stall is "
    "seen in full. Without it each connection sends again when it has its answer."
)
_NODE_URL: Final = Text("url", lambda kinds: kinds.NODE_URL)
_SIZE: Final = Text("size", lambda kinds: kinds.size(least=0, most=MAX_BODY_BYTES))


def _option(flag: str, help: str, type: Any = None, default: object = None, **details: Any) -> Any:
    """A field of the plan that is an option of the command; what is given is as click.option takes it."""
    shown = {"help": help, "type": type, "default": default, "show_default": bool(default)}
    return attrs.field(metadata={"flag": flag, "details": shown | details})


@attrs.frozen(kw_only=True)
class BenchPlan:
    """What is measured, and how. The words of the options say what each field is for.

    Where nothing was given, `duration_s`, `method` and `request_bytes` hold what that stands for. Of `duration_s` and
    `requests` one is None: the other one ends the measurement. A `rate` of None means as many requests as there are
    answers; a `response_bytes` of None means that the request's own body comes back.
    """

    proxies: tuple[str, ...] = _option(
        "--proxy", _PROXIES, None, ("http://localhost:8000",), multiple=True, callback=_proxy_urls, metavar="URL"
    )
    upstreams: tuple[str, ...] = _option("--upstream", _UPSTREAMS, _NODE_URL, ("http://localhost:8002",), multiple=True)
    token: str = _option(
        "--token-file", "Holds the token that agents and clients show.", callback=_token, metavar="FILE"
    )
    ca: str = _option("--ca", "Trust the authorities in this PEM file, for https.", None, "", metavar="FILE")
    endpoints: int = _option(
        "--endpoints", "Endpoints to register. Their IDs are new ones.", count(1, MAX_REGISTRATIONS), 1
    )
    agents: int = _option("--agents", "Agents for each endpoint.", count(1, 1000), 2)
    connections: int = _option("--connections", "Connections of clients.", count(1, MAX_CONNECTIONS), 32)
    duration_s: float | None = _option(
        "--duration", f"How long to measure.  [default: {DURATION_S:g}s]", duration(0.1, DAY_S)
    )
    requests: int | None = _option("--requests", "How many, in place of --duration.", count(1, MAX_REQUESTS))
    rate: float | None = _option("--rate", _RATE, _Rate(0.1, MAX_RATE), metavar="R")
    warm_up_s: float = _option("--warm-up", "Load before the measurement.", duration(0.0, DAY_S), "1s")
    churn: float = _option(
        "--churn", "Agents a second that leave and come back.", _Rate(0.0, MAX_CHURN), 0.0, metavar="R"
    )
    websocket: bool = _option(
        "--websocket", "Send messages over WebSockets, and wait for each to come back.", None, False, is_flag=True
    )
    method: str = _option("--method", "Of the requests.  [default: GET; with a body POST]", click.Choice(METHODS))
    request_bytes: int = _option("--request-size", "Of the body or message, such as 16KiB.  [default: 0; 128B]", _SIZE)
    response_bytes: int | None = _option(
        "--response-size", "Of the answer.  [default: the request's own body; else 128B]", _SIZE
    )
    timeout_s: float = _option("--timeout", "For a request, and for the start.", duration(0.1, MAX_TIMEOUT_S), "10s")

    @property
    def things(self) -> str:
        """The word for what is sent."""
        return "messages" if self.websocket else "requests"

    @property
    def answer_bytes(self) -> int:
        """The body that comes back."""
        if self.method == "HEAD" and not self.websocket:
            return 0
        return self.request_bytes if self.response_bytes is None else self.response_bytes

    @property
    def open_files(self) -> int:
        """How many files this process will have open."""
        return self.connections + self.endpoints * self.agents + SPARE_FILES

    def setting(self) -> dict[str, object]:
        """What a reader of the figures has to know, without the token."""
        return {name: value for name, value in attrs.asdict(self).items() if name != "token"}


def plan_options(command: F) -> F:
    """Give a command all options of a plan."""
    for field in reversed(attrs.fields(BenchPlan)):
        command = click.option(field.metadata["flag"], field.name, **field.metadata["details"])(command)
    return command


def read_plan(given: dict[str, Any]) -> BenchPlan:
    """What is wanted.

    Args:
        given: the values of the options, as click read them.

    Raises:
        click.UsageError: it does not make sense, or cannot be done, however large the machine.
    """
    websocket, size, answer_size = (given[name] for name in ("websocket", "request_bytes", "response_bytes"))
    if given["duration_s"] is not None and given["requests"] is not None:
        raise click.UsageError("--duration and --requests: one of them ends the measurement")
    if websocket and (given["method"] or answer_size is not None):
        raise click.UsageError("--websocket: messages come back as they are; no --method and no --response-size")
    if size is None:
        size = SMALL_BYTES if websocket else 0
    plan = BenchPlan(
        **given
        | {
            "duration_s": given["duration_s"] or (DURATION_S if given["requests"] is None else None),
            "method": given["method"] or ("POST" if size and not websocket else "GET"),
            "request_bytes": size,
            "response_bytes": SMALL_BYTES if answer_size is None and not size and not websocket else answer_size,
        }
    )
    if size and not websocket and plan.method not in BODIES:
        raise click.UsageError(f"--request-size: a {plan.method} has no body; --method {' or '.join(BODIES)}")
    if plan.ca:
        from pico_twisted.ctl.client import read_tls

        if not any(url.startswith(("https:", "wss:")) for url in (*plan.proxies, *plan.upstreams)):
            raise click.BadParameter("is for https, and no URL is", param_hint="--ca")
        read_tls("https:", plan.ca)
    if plan.endpoints * plan.agents > MAX_REGISTRATIONS:
        raise click.UsageError(f"--endpoints times --agents is over {MAX_REGISTRATIONS}")
    if plan.connections * (size + plan.answer_bytes) > MAX_HELD_BYTES:
        raise click.UsageError(f"the bodies of all connections together are over {MAX_HELD_BYTES >> 30} GiB")
    return plan
