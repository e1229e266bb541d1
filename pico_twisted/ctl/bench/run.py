"""One bench from its start to its end: agents come, proxy ports are asked, load runs, all leave. Starts the reactor."""

from __future__ import annotations

import enum
import gc
import math
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import attrs
import click
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import LoopingCall, deferLater
from twisted.python.failure import Failure

from pico_twisted.config.pem import UnusableCertificateError
from pico_twisted.ctl.bench.agents import Agents
from pico_twisted.ctl.bench.clients import NO_CONNECTION, TIMEOUT, Client
from pico_twisted.ctl.bench.messages import content_of
from pico_twisted.ctl.bench.places import Place, place_of
from pico_twisted.ctl.bench.plan import BenchPlan
from pico_twisted.ctl.bench.record import Outcome, Record
from pico_twisted.ctl.bench.traffic import Traffic
from pico_twisted.ctl.exits import INTERRUPTED, NoAnswer
from pico_twisted.ctl.reactor import get_reactor, raise_file_limit

PROGRESS_S: Final = 0.5
"""The seconds between two lines of progress."""
INTERRUPTED_WAIT_S: Final = 2.0
"""The seconds that requests under way get after Ctrl-C."""
ASK_AGAIN_S: Final = 0.1
"""The seconds after which a proxy port that does not know an endpoint yet is asked again: gossip takes about that."""
GC_OBJECTS: Final = 50_000
"""The new objects after which Python looks for those that are out of use: rarely, and of what stays never."""


class Stage(enum.Enum):
    """What Ctrl-C means."""

    RUNNING = enum.auto()  # end what is going on, in order
    ENDING = enum.auto()  # it ends anyway
    INTERRUPTED = enum.auto()  # enough of waiting


class Bench:
    """A run.

    Args:
        reactor: of this process; not running yet.
        plan: what is wanted.
        progress: shows what is going on.
    """

    def __init__(self, reactor: Any, plan: BenchPlan, progress: Callable[[str], None]) -> None:
        self._reactor = reactor
        self._plan = plan
        self._show = progress
        self._content = content_of(plan.request_bytes, plan.response_bytes)
        self._agents = Agents(reactor, plan, self._content)
        self._stage = Stage.RUNNING
        self._main: Deferred[Outcome] | None = None
        self._result: Outcome | Failure | None = None

    def run(self) -> Outcome:
        """Run it to its end.

        Raises:
            NoAnswer: there is nothing to measure.
            click.exceptions.Exit: it was interrupted before there was anything to tell.
        """
        self._reactor.callWhenRunning(self._start)
        self._reactor.run()
        result = self._result
        if isinstance(result, Outcome):
            return result
        if result is not None and not result.check(CancelledError):
            result.raiseException()
        raise click.exceptions.Exit(INTERRUPTED)

    def _start(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._reactor.callFromThread(self._interrupt))
        self._main = Deferred.fromCoroutine(self._run())
        self._main.addBoth(self._over)

    def _over(self, result: Outcome | Failure) -> None:
        self._result = result
        self._stop_reactor()

    def _stop_reactor(self) -> None:
        with suppress(ReactorNotRunning):
            self._reactor.stop()

    def _interrupt(self) -> None:
        """Ctrl-C: what is going on ends now, in order. A second one: everything ends."""
        stage, self._stage = self._stage, Stage.INTERRUPTED
        if stage is Stage.INTERRUPTED:
            self._stop_reactor()
        elif stage is Stage.RUNNING and self._main is not None:
            self._main.cancel()

    async def _run(self) -> Outcome:
        agents, plan = self._agents, self._plan
        traffic: Traffic | None = None
        try:
            places = [place_of(self._reactor, url, plan) for url in plan.proxies]
            self._show(f"registering {plan.endpoints * plan.agents} agents")
            await agents.start()
            for place in places:
                self._show(f"asking {place.url}")
                await self._reach(place)
            traffic = Traffic(self._reactor, plan, self._content, places, agents.endpoint_ids, agents.sweep)
            return await self._measure(traffic)
        except UnusableCertificateError as error:
            raise NoAnswer(f"{error}: --ca FILE names authorities in PEM form") from None
        finally:
            if self._stage is Stage.RUNNING:
                self._stage = Stage.ENDING
            self._show("ending")
            if traffic is not None:
                traffic.close()
            await agents.stop()
            self._show("")

    async def _reach(self, place: Place) -> None:
        """Wait until a proxy port answers for all endpoints.

        Raises:
            NoAnswer: it does not.
        """
        until = self._reactor.seconds() + self._plan.timeout_s
        for endpoint_id in self._agents.endpoint_ids:
            while trouble := await self._ask_once(place, endpoint_id):
                if self._reactor.seconds() > until or trouble.startswith(NO_CONNECTION):
                    raise NoAnswer(_why_not_reached(place, trouble))
                await deferLater(self._reactor, ASK_AGAIN_S)

    async def _ask_once(self, place: Place, endpoint_id: str) -> str:
        """Make one small request for an endpoint; what was wrong with its answer, or nothing."""
        plan = attrs.evolve(self._plan, method="HEAD", websocket=False)
        heads, content = iter([place.head("HEAD", endpoint_id)]), content_of(0, None)
        client = Client(place, heads, content, plan, sweep=self._agents.sweep, reactor=self._reactor)
        record = Record()
        try:
            await client.request(record, time.perf_counter())
        finally:
            client.close()
        return next(iter(record.errors), "")

    async def _measure(self, traffic: Traffic) -> Outcome:
        plan, agents = self._plan, self._agents
        gc.freeze()
        gc.set_threshold(GC_OBJECTS, 20, 50)
        if plan.warm_up_s:
            self._show("warming up")
            await self._load(traffic.begin(), plan.warm_up_s)
        begun_at, cpu_s = time.perf_counter(), time.process_time()
        if self._interrupted:
            traffic.begin(0)
        else:
            agents.start_churn()
            watching = self._watch(traffic, begun_at)
            await self._load(traffic.begin(plan.requests or math.inf), plan.duration_s)
            watching.stop()
        ended_at = time.perf_counter()
        cpu_s = time.process_time() - cpu_s
        unsent = traffic.unsent(ended_at) if plan.requests is None else 0
        left, away = agents.end_churn()
        self._show("waiting for the last answers")
        wait_s = INTERRUPTED_WAIT_S if self._interrupted else plan.timeout_s + 1.0
        await self._load(traffic.end(), wait_s)
        return Outcome(
            plan=plan,
            record=traffic.record,
            elapsed_s=max(traffic.record.last_at, ended_at) - begun_at,
            unsent=unsent,
            left=left,
            away=away,
            cpu=cpu_s / max(ended_at - begun_at, 1e-9),
            interrupted=self._interrupted,
        )

    @property
    def _interrupted(self) -> bool:
        return self._stage is Stage.INTERRUPTED

    async def _load(self, enough: Deferred[None], within_s: float | None) -> None:
        """Let the load go on until there is enough of it, until so much time has passed, or until Ctrl-C."""
        if within_s is not None:
            enough.addTimeout(within_s, self._reactor)
        with suppress(CancelledError, TimeoutError):
            await enough

    def _watch(self, traffic: Traffic, begun_at: float) -> LoopingCall:
        """Show how far it is, again and again, until this is stopped."""
        before, before_at = 0, begun_at

        def look() -> None:
            nonlocal before, before_at
            record, at = traffic.record, time.perf_counter()
            count = record.latencies.count
            (p99_s,) = record.latencies.percentiles([99])
            self._show(
                f"{at - begun_at:.1f} s: {count:,} {self._plan.things}, "
                f"{(count - before) / (at - before_at):,.0f} a second, p99 {p99_s * 1000:.1f} ms, "
                f"{record.errors.total():,} failed"
            )
            before, before_at = count, at

        watching = LoopingCall(look)
        watching.clock = self._reactor
        watching.start(PROGRESS_S, now=False)
        return watching


def _why_not_reached(place: Place, trouble: str) -> str:
    if trouble == TIMEOUT:
        return f"no answer from {place.url}: is it a proxy port, and http or https? A longer wait: --timeout"
    if trouble.startswith(NO_CONNECTION):
        return f"{place.url} cannot be reached ({trouble}): is it a proxy port? Another one: --proxy URL"
    return (
        f"{place.url} does not serve what the bench has registered; its answer: {trouble}. "
        "Is it a proxy port, of the same cluster as --upstream?"
    )


def run_bench(plan: BenchPlan, progress: Callable[[str], None]) -> Outcome:
    """Run a bench in this process, which has no reactor yet.

    Raises:
        NoAnswer: the cluster cannot be reached.
        click.UsageError: this process may not open as many connections.
        click.exceptions.Exit: it was interrupted before there was anything to tell.
    """
    if (most := raise_file_limit(plan.open_files)) < plan.open_files:
        raise click.UsageError(
            f"this process may open {most} files, and the bench needs {plan.open_files}: raise the limit "
            "(ulimit -n), or use fewer connections and agents"
        )
    # What agents warn of is shown as errors of requests.
    return Bench(get_reactor(errors=False), plan, progress).run()
