"""Makes services reachable until it is told to end. Starts the reactor.

An agent runs here as in the daemon, with other habits: it belongs to a terminal. Whoever closes that, or presses
Ctrl-C, wants no more requests from the network, so all signals end it, and what does not end by itself gets two
seconds. A second signal cuts. What a node refuses at the start ends it with words; once it was registered it goes on
trying, and says once that the node is away and once that it is back.
"""

from __future__ import annotations

import enum
import os
import signal
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

import bcrypt
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger

from pico_twisted.app.agent import build_agent
from pico_twisted.app.process.agent_credentials import AgentCredentials, warn_of_plain_tokens
from pico_twisted.app.process.ports import CannotStart
from pico_twisted.app.process.watching import FileWatch
from pico_twisted.core.forward_proxy import ForwardProxies
from pico_twisted.ctl.exits import OK, ExitWithMessage, NoAnswer, SaidNo
from pico_twisted.ctl.reactor import get_reactor, raise_file_limit
from pico_twisted.expose.folder import folder_site
from pico_twisted.expose.inspecting import Inspecting
from pico_twisted.expose.kept import config_folder
from pico_twisted.expose.names import KeptNames
from pico_twisted.expose.notices import Notices
from pico_twisted.expose.own_node import OwnNode
from pico_twisted.expose.places import Places
from pico_twisted.expose.plan import REWRITE, USERS, ExposePlan, Target, agent_config
from pico_twisted.expose.refusals import explained
from pico_twisted.expose.report import JsonReport, Report, TerminalReport
from pico_twisted.expose.traffic import Traffic
from pico_twisted.expose.upstream import DEFAULT_URL, KeptUpstream, Source
from pico_twisted.net.agent.dial_failures import FailedAttempt
from pico_twisted.net.agent.serving.in_process import InProcessProgram
from pico_twisted.net.agent.serving.local_service import HeldCall
from pico_twisted.net.socket.end_of_turn import EndOfTurn
from pico_twisted.net.sweep import ReactorSweep

log = Logger()

FILES: Final = 4096
"""Open files that are asked for: two for each request in progress, and three with a node in this process."""
AWAY_S: Final = 1.0
"""Seconds without a session after which it is told: a session that moves leaves a gap of milliseconds."""


class _Life(enum.Enum):
    """How far a run is. Each state leads to later ones only."""

    STARTING = enum.auto()
    UP = enum.auto()  # it was registered once
    ENDING = enum.auto()
    CUT = enum.auto()


class Exposing:
    """A run of the command.

    Args:
        reactor: of this process; not running yet.
        plan: what is wanted.
        names: endpoint IDs of the plan's targets.
        report: told what goes on.
        notices: observes the log.
        kept: the names and the node of this user.

    Raises:
        ConfigFaults: the plan cannot be carried out.
        CannotStart: nor can a node in this process be started.
    """

    def __init__(
        self,
        reactor: Any,  # a whole reactor, which has no one type
        plan: ExposePlan,
        names: Sequence[str],
        report: Report,
        notices: Notices,
        kept: tuple[KeptNames, KeptUpstream],
    ) -> None:
        self._reactor = reactor
        self._plan = plan
        self._names = names
        self._report = report
        self._kept_names, self._kept_upstream = kept
        self._life = _Life.STARTING
        self._fault: ExitWithMessage | None = None
        self._failures: dict[str, FailedAttempt] = {}  # the last one of each URL
        self._away_since: float | None = None
        self._told_away = False
        ports = [target.port for target in plan.targets]
        self._own = None if plan.upstream.urls else OwnNode(reactor, ports, names)
        urls = plan.upstream.urls if self._own is None else (self._own.url,)
        self._config = config = agent_config(plan, names, urls)
        self._sweep = ReactorSweep(reactor)
        self._inspecting = None if plan.inspect is None else Inspecting(reactor, plan.inspect)
        self._traffic = Traffic(report, notices, self._calls, self._host_hint())
        self._agent = build_agent(
            config,
            reactor,
            sweep=self._sweep,
            end_of_turn=EndOfTurn(reactor),
            access_log=self._traffic,
            proxies=ForwardProxies("", os.environ),
            program=self._program(plan.targets[0], names[0]),
            failed=self._failed,
            inspector=None if self._inspecting is None else self._inspecting.inspector,
        )
        self._places = Places(plan, self._agent.service, self._own)
        if plan.guard.users:
            hashed = {user.encode(): _hashed(password) for user, password in plan.guard.users}
            self._agent.policies.basic_auth.users = {USERS: hashed}
        self._credentials = AgentCredentials(self._agent.service, config.connect)
        self._watch = FileWatch(reactor, self._credentials.files, self._credentials.read_again)

    def _program(self, target: Target, endpoint: str) -> InProcessProgram | None:
        """What serves a folder in this process."""
        if not target.folder:
            return None
        site = folder_site(target.folder, self._plan.hidden, self._reactor)
        return InProcessProgram(clock=self._reactor, factory=site, endpoint=endpoint)

    def _calls(self) -> Iterable[HeldCall]:
        return self._agent.service.calls()

    def _host_hint(self) -> str:
        target = self._plan.targets[0]
        if self._plan.protocol != "http" or target.folder or self._plan.host_header:
            return ""
        return (
            f"does your server refuse names that it does not know? --host-header {REWRITE} sends {target.addr} instead"
        )

    # Its life

    def run(self) -> int:
        """Serve until the end; the exit status.

        Raises:
            SaidNo: a node refuses.
            NoAnswer: no node is there.
        """
        self._reactor.callWhenRunning(self._start)
        self._reactor.run()
        if self._fault is None:
            self._report.ended()
        self._report.close()
        if self._fault is not None:
            raise self._fault
        return OK

    def _start(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: self._reactor.callFromThread(self._end))
        warn_of_plain_tokens(self._config.connect)
        if self._credentials.files():
            self._watch.start()
        self._sweep.each(self._look)
        self._agent.service.all_registered.addCallback(self._registered)
        self._agent.service.startService()
        if self._plan.patience_s:
            self._reactor.callLater(self._plan.patience_s, self._give_up)

    def _registered(self, _: None) -> None:
        if self._life is not _Life.STARTING:
            return
        self._life = _Life.UP
        if self._own is not None:
            self._report.note(
                f"no node answers at {DEFAULT_URL}: this one runs here, and only this machine reaches it; "
                "--to URL for your cluster"
            )
        for target, name in zip(self._plan.targets, self._names, strict=True):
            if not target.name:
                self._kept_names.keep(self._plan.key_of(target), name)
        if self._plan.upstream.source is Source.TOLD:
            self._kept_upstream.keep(self._plan.upstream)
        inspector = "" if self._inspecting is None else self._inspecting.url
        places = self._places
        if self._plan.guard.users:
            self._report.note(f"others of this machine see {USERS} in the list of processes, and not --basic-auth-file")
        if self._own is not None and self._plan.shown.qr:
            self._report.note("a phone does not reach names below localhost: --to URL of a node that it reaches")
        self._report.up(places.all(), places.nodes(), places.round_trip_s(), inspector)

    def _failed(self, failed: FailedAttempt) -> None:
        """An attempt to register came to nothing."""
        total = len(self._config.connect.url)
        all_failed_before = len(self._failures) == total
        self._failures[failed.url] = failed
        if self._life is not _Life.STARTING:
            return
        if failed.refused:
            self._end_with(SaidNo(explained(failed, self._plan)))
        elif len(self._failures) == total:
            if not self._plan.patience_s:
                self._give_up()
            elif not all_failed_before:
                self._report.note(f"{explained(failed, self._plan)}: trying for {self._plan.patience_s:g} s")

    def _give_up(self) -> None:
        """Wait no longer for a node."""
        if self._life is _Life.STARTING:
            words = [explained(failed, self._plan) for failed in self._failures.values()]
            self._end_with(NoAnswer("\n".join(words) or "no node answers in time"))

    def _end_with(self, fault: ExitWithMessage) -> None:
        self._fault = fault
        self._end()

    def _end(self) -> None:
        """A signal, or a fault: the first ends in order, the second at once."""
        if self._life in (_Life.ENDING, _Life.CUT):
            self._life = _Life.CUT
            self._cut()
            return
        self._life = _Life.ENDING
        if self._fault is None:
            self._report.ending(self._traffic.in_progress())
        Deferred.fromCoroutine(self._stop()).addErrback(lambda failure: log.failure("The end failed", failure))

    async def _stop(self) -> None:
        self._watch.stop()
        await self._agent.service.stopService()
        if self._inspecting is not None:
            await self._inspecting.stop()
        if self._own is not None:
            await self._own.stop()
        self._cut()

    def _cut(self) -> None:
        """Nothing is waited for any more."""
        self._agent.service.abort()
        self._agent.access.stop()
        if self._own is not None:
            self._own.cut()
        with suppress(ReactorNotRunning):
            self._reactor.stop()

    # What it looks like

    def _look(self, now: float) -> None:
        """Some times a second: what has begun, and whether we are registered."""
        self._traffic.look(now)
        if self._life is not _Life.UP:
            return
        if self._places.registered:
            if self._told_away and self._away_since is not None:
                self._report.back(self._places.nodes(), now - self._away_since)
            self._away_since, self._told_away = None, False
            self._failures.clear()
        elif self._away_since is None:
            self._away_since = now
        elif not self._told_away and now - self._away_since >= AWAY_S:
            self._told_away = True
            self._report.lost(next((failed.words for failed in self._failures.values()), ""))


def _hashed(password: str) -> bytes:
    return bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(10))


def run_expose(plan: ExposePlan) -> int:
    """Make the plan's targets reachable, in this process, which has no reactor yet; the exit status.

    Raises:
        ExitWithMessage: they cannot be made reachable.
        ConfigFaults: the plan cannot be carried out.
    """
    raise_file_limit(FILES)
    folder, notes = config_folder(), list[str]()
    kept = KeptNames(folder, notes.append)
    names = [target.name or kept.name_for(plan.key_of(target)) for target in plan.targets]
    report: Report = JsonReport() if plan.shown.json else TerminalReport(plan.shown, tuple(names))
    for note in notes:
        report.note(note)
    notices = Notices(report.note)
    keeping = (KeptNames(folder, report.note), KeptUpstream(folder, report.note))
    reactor = get_reactor(errors=True, observer=notices)
    try:
        exposing = Exposing(reactor, plan, names, report, notices, keeping)
    except CannotStart as error:
        raise SaidNo(str(error)) from None
    return exposing.run()
