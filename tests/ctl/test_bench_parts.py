"""The parts of a bench that need no cluster: the distribution of times, frames, what is told at the end."""

from __future__ import annotations

import itertools
import json

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.websocket.accept import accept_of
from pico_twisted.ctl.bench import report
from pico_twisted.ctl.bench.command import bench
from pico_twisted.ctl.bench.latencies import Latencies
from pico_twisted.ctl.bench.messages import FrameCount, OtherMessage, content_of
from pico_twisted.ctl.bench.plan import BenchPlan, read_plan
from pico_twisted.ctl.bench.record import MAX_KINDS, OTHER, Outcome, Record


def plan(**changes: object) -> BenchPlan:
    """What a command line without options asks for, with a few things changed."""
    given = bench.make_context("bench", []).params
    del given["as_json_too"]
    return read_plan({**given, "token": "a-secret", **changes})


@given(
    st.lists(st.floats(0.0, 1e4), min_size=1, max_size=200),
    st.lists(st.floats(0.0, 100.0), max_size=10).map(sorted),
)
def test_percentiles(times: list[float], percents: list[float]) -> None:
    """A percentile is never too small, and at most a thousandth and a nanosecond too large."""
    latencies = Latencies()
    for seconds in times:
        latencies.add(seconds)
    in_order = sorted(times)
    for percent, found in zip(percents, latencies.percentiles(percents), strict=True):
        rank = max(1, -int(-(len(times) * percent / 100 - 1e-9) // 1))
        true = in_order[rank - 1]
        assert true * (1 - 1e-12) - 1e-15 <= found <= true * 1.001 + 2e-9
    assert latencies.count == len(times)
    assert (latencies.min_s, latencies.max_s) == (in_order[0], in_order[-1])
    assert latencies.mean_s == pytest.approx(sum(times) / len(times))
    curve = latencies.curve()
    assert curve == sorted(curve)
    assert curve[-1] == (100, in_order[-1])


def test_no_latencies() -> None:
    """Of nothing every figure is 0, and there is no curve."""
    none = Latencies()
    assert none.percentiles([50, 99]) == [0.0, 0.0]
    assert (none.count, none.mean_s, none.min_s, none.max_s, none.curve()) == (0, 0.0, 0.0, 0.0, [])


@given(
    st.sampled_from([0, 1, 125, 126, 300, 65_535, 65_536, 70_000]),
    st.integers(0, 4),
    st.lists(st.integers(1, 40) | st.integers(1000, 100_000), min_size=1, max_size=10),
)
def test_frames(length: int, count: int, cuts: list[int]) -> None:
    """Frames are counted as they were written, however their bytes are cut."""
    content = content_of(length, None)
    for frame in (content.sent, content.returned):
        frames = FrameCount(frame)
        stream = frame * count
        found = at = 0
        sizes = itertools.cycle([*cuts, 5000])
        while at < len(stream):
            size = next(sizes)
            found += frames.feed(stream[at : at + size])
            assert found == min(at + size, len(stream)) // len(frame)
            at += size
        assert found == count


@pytest.mark.parametrize(
    "stream",
    [
        b"\x81\x01",  # a text
        b"\x02\x01",  # not the last of its message
        b"\x82\x81\x00\x00\x00\x00",  # masked
        b"\xff\x01",
        b"\x82\x02xx",  # another length
        b"\x82\x01y",  # another payload
        b"\x82\x01\x00\x88\x00",  # a close behind a message
    ],
)
def test_other_frames(stream: bytes) -> None:
    """What no bench sends is told at once."""
    with pytest.raises(OtherMessage):
        FrameCount(content_of(1, None).returned).feed(stream)


def test_masks() -> None:
    """A client's mask is one that leaves the payload as it is; another one is another client's."""
    content = content_of(1, None)
    assert content.sent == b"\x82\x81\0\0\0\0\0"
    with pytest.raises(OtherMessage):
        FrameCount(content.sent).feed(b"\x82\x81\0\0\0\x01\0")


def test_accept() -> None:
    """The example of RFC 6455."""
    assert accept_of(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def outcome(bench_plan: BenchPlan, successes: int, failures: int, **changes: object) -> Outcome:
    """What may have come of a plan."""
    record = Record()
    for number in range(successes):
        record.begun += 1
        record.succeeded(0.001 * (number + 1), 1.0)
    for number in range(failures):
        record.begun += 1
        record.failed(f"kind {number}\x1b", 2.0)
    values: dict[str, object] = {
        "plan": bench_plan,
        "record": record,
        "elapsed_s": 2.0,
        "unsent": 0,
        "left": 0,
        "away": Latencies(),
        "cpu": 0.5,
        "interrupted": False,
    }
    return Outcome(**{**values, **changes})  # type: ignore[arg-type]


def test_kinds_are_bounded() -> None:
    """However many kinds of errors there are, a few are told apart, and all are counted."""
    record = outcome(plan(), 0, 100).record
    assert len(record.errors) == MAX_KINDS + 1
    assert (record.errors.total(), record.errors[OTHER]) == (100, 100 - MAX_KINDS)


def test_text() -> None:
    """The report says what was measured, and nothing that a terminal would act upon."""
    text = report.as_text(outcome(plan(), 1000, 2))
    assert text.startswith("HTTP GET, 0 bytes there, 128 back; 32 connections; 1 endpoint, 2 agents each\n")
    assert "1,000 in 2.0 s, 500 a second" in text
    assert r"kind 0\x1b" in text and "\x1b" not in text
    assert "99.9 %" in text and "99.99 %" not in text  # of a thousand none tells about one in ten thousand
    assert "50 % of a core" in text and "not sent" not in text
    busy = report.as_text(outcome(plan(rate=100.0, churn=2.0), 0, 0, cpu=0.97, unsent=7, interrupted=True))
    assert "7 that were due at 100 a second" in busy
    assert "interrupted" in busy and "left 0 times" in busy
    assert "the cluster may be faster" in busy and "latency" not in busy


def test_json() -> None:
    """The figures are whole numbers and seconds; the token is not among them."""
    figures = report.as_json(outcome(plan(), 10, 1))
    text = json.dumps(figures, allow_nan=False)
    assert "a-secret" not in text
    assert (figures["begun"], figures["succeeded"], figures["failed"], figures["unfinished"]) == (11, 10, 1, 0)
    assert figures["latency_s"]["p50"] == pytest.approx(0.005, rel=0.001)
    assert json.dumps(report.as_json(outcome(plan(), 0, 0)), allow_nan=False)


def test_plans_are_bounded() -> None:
    """What would not fit this process is not begun."""
    with pytest.raises(click.UsageError, match="--agents"):
        plan(endpoints=20_000, agents=2)
    with pytest.raises(click.UsageError, match="GiB"):
        plan(connections=1000, response_bytes=64 << 20)
