"""One bench from its start to its end: agents come, proxy ports are asked, load runs, all leave. Starts the reactor."""

from __future__ import annotations

import gc
import resource
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

import attrs
import click
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogBeginner
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.ctl.bench.agents import Agents
from pico_twisted.ctl.bench.clients import TIMEOUT, Client, HttpWire
from pico_twisted.ctl.bench.places import Place, place_of, request_of
from pico_twisted.ctl.bench.plan import BenchPlan
from pico_twisted.ctl.bench.record import Outcome, Record
from pico_twisted.ctl.bench.traffic import Traffic
from pico_twisted.ctl.exits import INTERRUPTED, NoAnswer
from pico_twisted.net.tls.certificates import UnusableCertificateError

PROGRESS_S: Final = 0.5
INTERRUPTED_WAIT_S: Final = 2.0
"""What requests under way get after Ctrl-C."""
ASK_AGAIN_S: Final = 0.1
"""How soon a proxy port that does not know an endpoint yet is asked again: gossip takes about as long."""
GC_OBJECTS: Final = 50_000

Progress = Callable[[str], None]
"""Shows what is going on."""


class Bench:
    """A run.

    Args:
        reactor: of this process; not running yet.
        plan: what is wanted.
        progress: shows what is going on.
    """

    def __init__(self, reactor: Any, plan: BenchPlan, progress: Progress) -> None:
        self._reactor = reactor
        self._plan = plan
        self._show = progress
        self._agents = Agents(reactor, plan)
        self._traffic: Traffic | None = None
        self._measured: Deferred[None] = Deferred()
        self._measuring = False
        self._interrupted = False
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
        if result is not None and not isinstance(result.value, CancelledError):
            result.raiseException()
        raise click.exceptions.Exit(INTERRUPTED)

    def _start(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._signalled)
        self._main = Deferred.fromCoroutine(self._run())
        self._main.addBoth(self._over)

    def _over(self, result: Outcome | Failure) -> None:
        self._result = result
        self._stop_reactor()

    def _stop_reactor(self) -> None:
        try:
            self._reactor.stop()
        except ReactorNotRunning:
            pass

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._interrupt)

    def _interrupt(self) -> None:
        """Ctrl-C: the measurement ends now, in order. A second one: everything ends."""
        if self._interrupted:
            self._stop_reactor()
            return
        self._interrupted = True
        if not self._measuring:
            if self._main is not None:
                self._main.cancel()
        else:
            self._time_is_up()

    async def _run(self) -> Outcome:
        agents, plan = self._agents, self._plan
        try:
            places = [self._place(url) for url in plan.proxies]
            self._show(f"registering {plan.endpoints * plan.agents} agents")
            await agents.start()
            for place in places:
                self._show(f"asking {place.url}")
                await self._reach(place)
            self._traffic = Traffic(self._reactor, plan, places, agents.endpoints, agents.sweep)
            return await self._measure(self._traffic)
        finally:
            self._show("ending")
            if self._traffic is not None:
                self._traffic.close()
            await agents.stop()
            self._show("")

    def _place(self, url: str) -> Place:
        try:
            return place_of(self._reactor, url, self._plan.ca, self._plan.timeout_s)
        except UnusableCertificateError as error:
            raise NoAnswer(f"{error}: --ca FILE names authorities in PEM form") from None

    # Before the load

    async def _reach(self, place: Place) -> None:
        """Wait until a proxy port answers for all endpoints.

        Raises:
            NoAnswer: it does not.
        """
        plan = self._plan
        until = self._reactor.seconds() + plan.timeout_s
        for endpoint in self._agents.endpoints:
            while trouble := await self._ask_once(place, endpoint):
                if self._reactor.seconds() > until or trouble.startswith("no connection"):
                    raise NoAnswer(_why_not_reached(place, trouble))
                await deferLater(self._reactor, ASK_AGAIN_S)

    async def _ask_once(self, place: Place, endpoint: str) -> str:
        """Make one small request for an endpoint; what was wrong with its answer, or nothing."""
        plan = attrs.evolve(self._plan, method="HEAD", websocket=False)
        done: Deferred[None] = Deferred()
        heads = [request_of(plan.method, place, endpoint)]
        client = Client(
            place,
            lambda client: HttpWire(client, heads, b"", plan, 0),
            sweep=self._agents.sweep,
            reactor=self._reactor,
            timeout_s=plan.timeout_s,
            free=lambda _: done.callback(None),
        )
        record = Record()
        client.go(record, time.perf_counter())
        try:
            await done
        finally:
            client.abort()
        return next(iter(record.errors), "")

    # The load

    async def _measure(self, traffic: Traffic) -> Outcome:
        plan, agents = self._plan, self._agents
        gc.freeze()
        gc.set_threshold(GC_OBJECTS, 20, 50)
        self._measuring = True
        if plan.warm_up_s:
            self._show("warming up")
            traffic.begin()
            await self._until_measured(plan.warm_up_s)
        begun_at, cpu_s = time.perf_counter(), time.process_time()
        if not self._interrupted:
            agents.start_churn()
            all_begun = traffic.begin(plan.requests)
            if plan.requests is not None:
                all_begun.addCallback(lambda _: self._time_is_up())
            watching = self._watch(traffic, begun_at)
            await self._until_measured(plan.duration_s)
            watching.stop()
        else:
            traffic.record = Record()
        ended_at = time.perf_counter()
        cpu_s = time.process_time() - cpu_s
        churn = agents.end_churn()
        unsent = traffic.unsent(ended_at) if plan.requests is None else 0
        self._show("waiting for the last answers")
        wait_s = INTERRUPTED_WAIT_S if self._interrupted else plan.timeout_s + 1.0
        try:
            await traffic.end().addTimeout(wait_s, self._reactor)
        except DeferredTimeout:
            traffic.close()
        return Outcome(
            plan=plan,
            record=traffic.record,
            elapsed_s=max(traffic.record.last_at, ended_at) - begun_at,
            unsent=unsent,
            churn=churn,
            cpu=cpu_s / max(ended_at - begun_at, 1e-9),
            interrupted=self._interrupted,
        )

    async def _until_measured(self, within_s: float | None) -> None:
        """Wait for so long, until enough requests were begun, or until somebody wants no more."""
        timer = self._reactor.callLater(within_s, self._time_is_up) if within_s is not None else None
        await self._measured
        if timer is not None and timer.active():
            timer.cancel()
        if not self._interrupted:
            self._measured = Deferred()

    def _time_is_up(self) -> None:
        if not self._measured.called:
            self._measured.callback(None)

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
    if trouble.startswith("no connection"):
        return f"{place.url} cannot be reached ({trouble}): is it a proxy port? Another one: --proxy URL"
    return (
        f"{place.url} does not serve what the bench has registered; its answer: {trouble}. "
        "Is it a proxy port, of the same cluster as --upstream?"
    )


@implementer(ILogObserver)
class _Faults:
    """Faults of ours go to stderr; what agents say of the weather is shown as errors of requests."""

    def __call__(self, event: LogEvent) -> None:
        if "log_failure" in event:
            click.echo(f"picoctl: {formatEvent(event)}\n{event['log_failure'].getTraceback()}", err=True)


def raise_file_limit(wanted: int) -> int:
    """Raise the number of files that may be open, as far as it goes; returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
        except (OSError, ValueError):
            pass
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return soft


def run_bench(plan: BenchPlan, progress: Progress) -> Outcome:
    """Run a bench in this process, which has no reactor yet.

    Raises:
        NoAnswer: the cluster cannot be reached, or this process may not open as many connections.
        click.exceptions.Exit: it was interrupted before there was anything to tell.
    """
    if (most := raise_file_limit(plan.open_files)) < plan.open_files:
        raise click.UsageError(
            f"this process may open {most} files, and the bench needs {plan.open_files}: raise the limit "
            "(ulimit -n), or use fewer connections and agents"
        )
    from twisted.internet import reactor

    globalLogBeginner.beginLoggingTo([_Faults()], discardBuffer=True, redirectStandardIO=False)
    return Bench(reactor, plan, progress).run()


__all__ = ["Bench", "run_bench"]
