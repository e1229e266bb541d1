"""The reckoning of `make faults`: what it prints of requests is true of them."""

from __future__ import annotations

import asyncio
import itertools
import math
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults import load
from tests.faults.reckoning import Outcome, Seen, back_s, near, percentile
from tests.faults.run import PARTS
from tests.faults.table import FaultsReport
from tests.system.service import Service, answer


def outcomes(
    seconds: int, *, slow: dict[int, float] | None = None, lost: dict[int, int] | None = None
) -> list[Outcome]:
    """A hundred requests a second that take 10 ms each, but for all those of some seconds; some of them lost."""
    found = []
    for number in range(seconds * 100):
        second = number // 100
        due = number / 100 + 0.001
        bad = (lost or {}).get(second, 0) > number % 100
        took = (slow or {}).get(second, 0.010)
        found.append(Outcome(due, due + took, "GET", 502 if bad else 200, "a1"))
    return found


@given(st.lists(st.floats(0, 100), min_size=1), st.integers(1, 100))
def test_a_percentile_is_the_least_value_that_so_many_are_not_above(values: list[float], percent: int) -> None:
    """It is one of the values, so many percent are not above it, and of the next smaller one that is not true."""
    found = percentile(values, percent)
    enough = len(values) * percent / 100
    assert found in values
    assert sum(value <= found for value in values) >= enough
    assert sum(value < found for value in values) < enough


def test_percentiles_of_known_rows() -> None:
    """The 99th of a hundred values is the last but one, and of none it is 0."""
    assert percentile(range(1, 101), 99) == 99
    assert percentile([7.0], 99) == 7.0
    assert percentile([], 99) == 0.0


def test_all_is_as_before_at_once() -> None:
    """A fault that nobody sees is over in its first second."""
    assert back_s(outcomes(10), 4.0, 10.0, 0.010) == 0.0


def test_the_time_to_recovery_counts_from_the_last_bad_second() -> None:
    """Seconds that are good between bad ones do not count as recovered."""
    seen = outcomes(12, slow={4: 3.0, 7: 3.0})
    assert back_s(seen, 4.0, 12.0, 0.010) == 4.0


def test_a_lost_request_makes_its_second_bad() -> None:
    """One in a hundred does not move the p99, and yet the cluster is not as before."""
    assert back_s(outcomes(10, lost={5: 1}), 4.0, 10.0, 0.010) == 2.0


def test_no_recovery_is_told_as_such() -> None:
    """When the last second is bad, there is no time to tell."""
    assert back_s(outcomes(10, slow={9: 1.0}), 4.0, 10.0, 0.010) is None


def test_a_second_that_is_cut_counts_too() -> None:
    """What was due in the last, shorter second is looked at."""
    assert back_s(outcomes(10, lost={9: 100}), 4.0, 9.5, 0.010) is None


def test_near_is_twice_or_a_tenth_of_a_second_more() -> None:
    """A p99 of a few milliseconds may grow by what a busy machine does to it; a long one only to its double."""
    assert near(0.010) == pytest.approx(0.110)
    assert near(1.0) == 2.0


def test_what_is_counted_begins_with_the_fault() -> None:
    """Requests of before are the baseline alone; lost and replayable are told apart."""
    some = outcomes(10, slow={0: 9.0}, lost={2: 5, 6: 3})
    some.append(Outcome(6.5, 7.5, "POST", 0, problem="no answer"))
    seen = Seen(outcomes=some, begun=1.0, since=4.0, healed=8.0, ended=10.0)
    assert len(seen.asked) == 601
    assert (len(seen.lost), len(seen.lost_replayable)) == (4, 3)
    assert seen.baseline_p99_s == pytest.approx(0.010)
    assert seen.worst_s() == pytest.approx(1.0)
    assert seen.worst_s(replayable=True) == pytest.approx(0.010)
    assert (seen.back_s, seen.healed_s) == (3.0, 0.0)


def test_the_share_of_a_server_counts_those_that_it_left_waiting() -> None:
    """A server that answers nobody had the requests that were lost or late, and one that answers those it answered."""
    some = [Outcome(n / 10, n / 10 + 0.01, "GET", 200, "a1" if n % 2 else "a2") for n in range(100)]
    seen = Seen(outcomes=some, begun=0.0, since=0.0, healed=None, ended=10.0)
    assert seen.share("a1", 5.0) == pytest.approx(0.5)
    hung = [Outcome(one.due, one.due + 20.0, "GET", 0) if one.server == "a1" else one for one in some]
    assert Seen(outcomes=hung, begun=0.0, since=0.0, healed=None, ended=10.0).share("a1", 5.0) == pytest.approx(0.5)


@given(st.floats(0, 1e6), st.text(st.characters(codec="latin-1"), max_size=20), st.text(st.characters(codec="latin-1")))
def test_an_outcome_is_one_line(due: float, server: str, problem: str) -> None:
    """Whatever stands in an answer, an outcome is written as one line and read again."""
    line = Outcome(due, due + 1, "GET", 200, server, problem).line()
    assert len(f"{line}\n".split("\n")) == 2
    again = Outcome.read(line)
    assert (again.method, again.status) == ("GET", 200)
    assert math.isclose(again.latency_s, 1.0, abs_tol=1e-5)


def test_a_broken_promise_is_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    """A row says how many of its promises did not hold, and the run remembers them."""
    seen = Seen(outcomes=outcomes(10, lost={5: 7}), begun=0.0, since=4.0, healed=None, ended=10.0)
    report = FaultsReport()
    report.fault("a fault", seen, lost=0, worst_s=4.0, back_s=1.0)
    report.fault("another", seen, lost=10, lost_replayable=None)
    report.print_table()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("a fault ", "another "))]
    assert rows[0].split()[2:5] == ["600", "7", "7"]
    assert rows[0].endswith("3 BROKEN")
    assert rows[1].endswith("ok")
    assert len(report.broken) == 3


def test_the_load_does_not_wait_for_earlier_answers(tmp_path: Path) -> None:
    """While a service holds its answers back requests go on being due, and the wait of each counts from then."""
    service = Service()
    output = tmp_path / "load"

    options = load.options_of([str(output), "--to", service.address, "--rate", "50", "--timeout", "0.3"])

    async def run() -> None:
        asyncio.get_running_loop().call_later(1.0, signal.raise_signal, signal.SIGTERM)
        await load.run(options)

    service.handler = lambda request: b"" if request.method == b"GET" else answer(b"me")
    try:
        asyncio.run(run())
    finally:
        service.close()
    found = [Outcome.read(line) for line in output.read_text().splitlines()]
    dues = sorted(one.due for one in found)
    assert len(found) > 10
    assert all(math.isclose(later - earlier, 0.02, abs_tol=1e-5) for earlier, later in itertools.pairwise(dues))
    assert {one.server for one in found if one.method == "POST"} == {"me"}
    assert all(one.lost and one.latency_s >= 0.3 for one in found if one.method == "GET")


def test_each_part_says_what_it_does() -> None:
    """The run prints the first line of each part's docstring."""
    assert all(part.__doc__ and part.__doc__.splitlines()[0].endswith(".") for part in PARTS.values())
