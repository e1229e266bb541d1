"""What the daemons make of their process: its user and ports, the reactor's turns, and the garbage collector."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.system.requesting import ask
from tests.system.service import Service
from tools.stage.asking import Admin
from tools.stage.ports import Ports, is_free
from tools.stage.processes import ROOT, environment
from tools.stage.stage import Stage
from tools.stage.waiting import PATIENCE_S

# What all programs about turns begin with: the reactor, and what reads a socket in it.
READER = """
import json, socket, time
from pico_twisted.app.process.reactor import install_reactor

install_reactor()
from pico_twisted.app.process.turns import EVENTS_OF_A_TURN, LONG_TURN_S
from twisted.internet import reactor
from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer


@implementer(IReadDescriptor)
class SocketReader:
    def __init__(self, name, sent=b""):
        self.name = name
        self.reactor = reactor
        self.ours, self.theirs = socket.socketpair()
        self.theirs.send(sent)

    def startReading(self):
        self.reactor.addReader(self)

    def stopReading(self):
        self.reactor.removeReader(self)

    def fileno(self):
        return self.ours.fileno()

    def logPrefix(self):
        return "reader"

    def connectionLost(self, reason):
        pass
"""

# Three readers for each event of a turn are ready at once, and have three times one byte to read.
TURNS = (
    READER
    + """
order, turns = [], []
count = 3 * EVENTS_OF_A_TURN


class Reader(SocketReader):
    def doRead(self):
        self.ours.recv(1)
        if not turns or turns[-1][1]:
            turns.append([0, False])
            reactor.at_end_of_turn(end)
        turns[-1][0] += 1
        order.append(self.name)
        if len(order) == 3 * count:
            reactor.callLater(0, reactor.stop)


def end():
    turns[-1][1] = True


def begin():
    for number in range(count):
        Reader(number, b"123").startReading()


reactor.callWhenRunning(begin)
reactor.callLater(30, reactor.stop)
reactor.run()
print(json.dumps({"limit": EVENTS_OF_A_TURN, "order": order, "turns": [size for size, _ in turns]}))
"""
)

# Readers that are always ready, many more than a turn takes. Then two more become ready, one of which goes first.
FIRST = (
    READER
    + """
count = 40 * EVENTS_OF_A_TURN
seen, waits = [], []


class Reader(SocketReader):
    def doRead(self):
        seen.append(self.name)
        if self.name:
            self.ours.recv(1)
        if len(seen) == count:
            reactor.wait_s()
            for one in (first, other):
                one.theirs.send(b"x")
        elif len(seen) == 3 * count:
            waits.append(reactor.wait_s())
            waits.append(reactor.is_late)
            for one in always:
                one.stopReading()
            reactor.callLater(0.1, end)


def end():
    waits.append(reactor.wait_s())
    reactor.stop()


always, first, other = [Reader("") for _ in range(count)], Reader("first"), Reader("other")


def begin():
    for one in always:
        one.theirs.send(b"x")
    for one in (*always, first, other):
        one.startReading()
    reactor.serve_first(first)


reactor.callWhenRunning(begin)
reactor.callLater(60, reactor.stop)
reactor.run()
print(json.dumps({"limit": EVENTS_OF_A_TURN, "count": count, "waits": waits,
                  "after": {name: seen.index(name) - count for name in ("first", "other")}}))
"""
)

# Each of some readers takes longer than a turn may take; a timer is due all the time. How many they are comes before.
LONG = (
    READER
    + """
order, took_s = [], []


class Reader(SocketReader):
    def doRead(self):
        self.ours.recv(1)
        order.append(self.name)
        began = time.monotonic()
        while not reactor.turn_is_long():
            pass
        took_s.append(time.monotonic() - began)
        if self.name == 3:
            reactor.removeReader(readers[5])
        if sum(type(one) is int for one in order) == count - 1:
            reactor.stop()


def tick():
    order.append("timer")
    reactor.callLater(0, tick)


readers = [Reader(number, b"x") for number in range(count)]


def begin():
    for one in readers:
        reactor.addReader(one)
    reactor.callLater(0, tick)


reactor.callWhenRunning(begin)
reactor.callLater(60, reactor.stop)
reactor.run()
print(json.dumps({"order": order, "took_s": took_s, "may_s": LONG_TURN_S}))
"""
)

GARBAGE = """
import gc, json, weakref
from pico_twisted.app.process.reactor import OLDER, YOUNG_OBJECTS, spare_what_stays

found = len(gc.get_objects())
spare_what_stays()
left = len(gc.get_objects())


class Round:
    def __init__(self):
        self.me = self


lost = weakref.ref(Round())
gc.collect()
now = gc.get_threshold()
print(json.dumps({"found": found, "left": left, "lost": lost() is None, "now": now,
                  "wanted": [YOUNG_OBJECTS, *OLDER]}))
"""


def run(program: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def turns() -> Any:
    """What `TURNS` saw."""
    return run(TURNS)


def test_turns_are_short(turns: Any) -> None:
    """However many are ready, what a few events brought leaves before the next few are looked at."""
    assert sum(turns["turns"]) == 9 * turns["limit"]
    assert max(turns["turns"]) == turns["limit"]


def test_turns_are_fair(turns: Any) -> None:
    """Nobody is served again while others wait that are ready."""
    everybody = list(range(3 * turns["limit"]))
    for number in range(3):
        served = turns["order"][number * len(everybody) :][: len(everybody)]
        assert sorted(served) == everybody


def test_who_goes_first() -> None:
    """However long the line of what is ready is, who goes first waits for a turn or two, and others for theirs. Of the
    line itself the reactor tells how long one waits in it, and nothing when there is none."""
    seen = run(FIRST)
    assert seen["after"]["first"] <= 2 * seen["limit"]
    assert seen["after"]["other"] >= seen["count"] - 2 * seen["limit"]
    waited, _, waits_now = seen["waits"]
    assert waited > 0 and waits_now == 0


@pytest.mark.parametrize("count", [16, 6])
def test_long_turns(count: int) -> None:
    """When each event takes long, timers are due between them, be the turn full or not; each event has its turn, and
    none for whoever is not read any more. An event that asks is told when its turn has taken its time."""
    seen = run(f"count = {count}\n{LONG}")
    numbers = [one for one in seen["order"] if one != "timer"]
    assert sorted(numbers) == [number for number in range(count) if number != 5]
    assert "timer" in seen["order"][seen["order"].index(numbers[1]) : seen["order"].index(numbers[2])]
    assert min(seen["took_s"]) >= 0.9 * seen["may_s"]


def test_garbage() -> None:
    """What is there at the start is looked at no more; cycles that are made later are still found."""
    seen = run(GARBAGE)
    assert seen["found"] > 5000 and seen["left"] < seen["found"] / 20
    assert seen["lost"]
    assert seen["now"] == seen["wanted"]


def low_port(but: set[int]) -> int:
    """A free port that only root may take."""
    return next(port for port in range(700, 1024) if port not in but and is_free(port))


@pytest.mark.parametrize("stage", ["plain"], indirect=True)
def test_ports_below_1024_for_another_user(stage: Stage, service: Service) -> None:
    """`twistd --uid` lays root down: node and agent bind their ports before that, and serve as the other user."""
    numbers: set[int] = set()
    while len(numbers) < 5:
        numbers.add(low_port(numbers))
    *own, admin = numbers
    ports = Ports(*own)
    options = ["--uid", "65534", "--gid", "65534"]
    node = stage.node(ports=ports, options=options)
    settings = {"admin": {"bind_addr": f"127.0.0.1:{admin}"}}
    agent = stage.agent(node, {"web": service.address}, settings, options=options)
    assert ask(stage, node).status == 200
    assert Admin(admin).status("/health") == 200
    for daemon in (node, agent):
        assert "Uid:\t65534\t65534" in Path(f"/proc/{daemon.pid}/status").read_text()


@pytest.mark.parametrize("stage", ["plain"], indirect=True)
def test_all_ports_that_are_taken_are_told(stage: Stage) -> None:
    """A line for each, so that one start finds them all."""
    node = stage.node()
    other = stage.command("other", "pico", *node.ports.flags())
    assert other.wait_exit() == 1
    lines = [line for line in other.output.splitlines() if line.startswith("pico: cannot listen on ")]
    assert [line.split("(")[1].split(".bind_addr")[0] for line in lines] == [
        "proxy",
        "upstream",
        "admin",
        "cluster.gossip",
    ]
