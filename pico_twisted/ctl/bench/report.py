"""What was measured, as text for people and as JSON."""

from __future__ import annotations

from typing import Any, Final

from pico_twisted.core.text import escaped
from pico_twisted.ctl.bench.latencies import Latencies
from pico_twisted.ctl.bench.plan import BenchPlan
from pico_twisted.ctl.bench.record import Outcome

PERCENTS: Final = (50.0, 75.0, 90.0, 99.0, 99.9, 99.99)
"""The percentages that are told of each distribution."""
BUSY: Final = 0.9
"""The part of a core from which on a bench measures itself."""
_KIB: Final = 1024


def as_text(outcome: Outcome) -> str:
    """The report."""
    plan, record = outcome.plan, outcome.record
    done = record.latencies.count
    lines = [
        _title(plan) + (", interrupted" if outcome.interrupted else ""),
        "",
        f"{plan.things:<10}{done:,} in {outcome.elapsed_s:.1f} s, {outcome.per_second(done):,.0f} a second",
        f"{'failed':<10}{record.errors.total():,}",
    ]
    lines += [f"{'':<10}{count:>8,}  {escaped(kind)}" for kind, count in record.errors.most_common()]
    if record.unfinished:
        lines.append(f"{'unfinished':<10}{record.unfinished:,}")
    if plan.rate is not None and plan.duration_s is not None:
        lines.append(f"{'not sent':<10}{outcome.unsent:,} that were due at {plan.rate:g} a second")
    for name, count in (("sent", record.sent_bytes), ("received", record.received_bytes)):
        lines.append(f"{name:<10}{_bytes(count)}, {_bytes(outcome.per_second(count))} a second")
    if done:
        lines += ["", *_latency_lines(outcome)]
    if plan.churn:
        lines += ["", _churn_line(outcome)]
    lines += ["", f"The bench itself used {outcome.cpu * 100:.0f} % of a core."]
    if outcome.cpu >= BUSY:
        lines.append("That is as much as it can: the cluster may be faster. Run several of it at once.")
    return "\n".join(lines)


def as_json(outcome: Outcome) -> dict[str, Any]:
    """The report for programs. Times are in seconds, sizes in bytes."""
    record, away = outcome.record, outcome.away
    done = record.latencies.count
    return {
        "setting": outcome.plan.setting(),
        "interrupted": outcome.interrupted,
        "elapsed_s": outcome.elapsed_s,
        "begun": record.begun,
        "succeeded": done,
        "failed": record.errors.total(),
        "unfinished": record.unfinished,
        "unsent": outcome.unsent,
        "per_second": outcome.per_second(done),
        "sent_bytes": record.sent_bytes,
        "received_bytes": record.received_bytes,
        "errors": dict(record.errors.most_common()),
        "latency_s": _latencies(record.latencies),
        "curve": [{"percent": percent, "latency_s": latency_s} for percent, latency_s in record.latencies.curve()],
        "churn": {"left": outcome.left, "came_back": away.count, "away_s": _latencies(away)},
        "bench_cpu": outcome.cpu,
    }


def _title(plan: BenchPlan) -> str:
    """What was measured, in one line."""
    what = "WebSocket" if plan.websocket else f"HTTP {plan.method}"
    sizes = f"{plan.request_bytes} bytes there, {plan.answer_bytes} back"
    ends = f"{_count(plan.endpoints, 'endpoint')}, {_count(plan.agents, 'agent')} each"
    pace = f" at {plan.rate:g} a second" if plan.rate is not None else ""
    return f"{what}, {sizes}; {_count(plan.connections, 'connection')}{pace}; {ends}"


def _latency_lines(outcome: Outcome) -> list[str]:
    latencies = outcome.record.latencies
    since = "from when it was due" if outcome.plan.rate is not None else "from its begin"
    shown = latencies.known(PERCENTS)
    percentiles = zip(shown, latencies.percentiles(shown), strict=True)
    rows = [
        ("mean", latencies.mean_s),
        *((f"{percent:g} %", value) for percent, value in percentiles),
        ("longest", latencies.max_s),
    ]
    return [f"latency, {since}:", *(f"  {name:<8}{value * 1000:>12,.2f} ms" for name, value in rows)]


def _churn_line(outcome: Outcome) -> str:
    away = outcome.away
    line = f"{'agents':<10}left {outcome.left:,} times, came back {away.count:,} times"
    if not away.count:
        return line
    (median_s,) = away.percentiles([50])
    return f"{line}, after {median_s * 1000:.0f} ms (median), {away.max_s * 1000:.0f} ms (longest)"


def _latencies(latencies: Latencies) -> dict[str, float]:
    named = {f"p{percent:g}": value for percent, value in zip(PERCENTS, latencies.percentiles(PERCENTS), strict=True)}
    return {"mean": latencies.mean_s, "min": latencies.min_s, **named, "max": latencies.max_s}


def _count(number: int, of: str) -> str:
    return f"{number} {of}" if number == 1 else f"{number} {of}s"


def _bytes(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 10 * _KIB:
            return f"{count:,.0f} {unit}"
        count /= _KIB
    return f"{count:,.1f} GiB"
