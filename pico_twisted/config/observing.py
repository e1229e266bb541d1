"""What can be seen of a node or an agent beyond what it always shows."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import attrs

from pico_twisted.config import kinds
from pico_twisted.config.fields import setting


@attrs.frozen(kw_only=True)
class MetricsConfig:
    """What the metrics show."""

    per_endpoint: bool = setting(
        kinds.BOOLEAN,
        "false",
        "Whether requests are counted by endpoint, too: by status, with the time to the first byte, and those in "
        "progress. That is about ten time series for each endpoint; those beyond 1,000 are counted as `other`.",
    )


def _read_collector(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or not text.isprintable():
        raise ValueError
    if parts.port == 0 or any(character.isspace() for character in text):  # `port` raises for what is none
        raise ValueError
    return text if parts.path.strip("/") else parts._replace(path="/v1/traces").geturl()


COLLECTOR: kinds.Kind[str] = kinds.Kind(
    name="URL",
    expected="the http or https URL of a collector that takes OTLP over HTTP, such as http://localhost:4318/v1/traces",
    read=_read_collector,
    empty_fits=True,
    empty="",
)
SHARE: kinds.Kind[float] = kinds.Kind(
    name="share",
    expected="a number from 0 to 1, such as 0.01",
    read=float,
    fits=lambda share: 0 <= share <= 1,
    text=lambda share: f"{share:g}",
)


def _endpoint_setting() -> Any:  # as of `setting`
    return setting(
        COLLECTOR,
        "",
        "Where spans go: the URL of a collector that takes OTLP over HTTP, such as http://localhost:4318/v1/traces. It "
        "needs the extra `otlp`. Empty: nothing is traced, and `traceparent` and `tracestate` pass as they are.",
    )


@attrs.frozen(kw_only=True)
class AgentTracingConfig:
    """Traces of requests, as far as an agent has them: it records those that the node before it does."""

    endpoint: str = _endpoint_setting()


@attrs.frozen(kw_only=True)
class TracingConfig:
    """Traces of requests."""

    endpoint: str = _endpoint_setting()
    ratio: float = setting(
        SHARE,
        "0.01",
        "The share of requests that are recorded, of those whose client does not say by its `traceparent` whether they "
        "are. The hops behind the first node record what that records.",
    )
