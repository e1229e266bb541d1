"""Malformed traffic of every kind for FUZZ_SECONDS (600), while honest traffic goes on and is checked.

In turn: cores of sessions and of HTTP/2 are fed broken conversations; agents of a real upstream port misbehave in
every way they can; clients of a real proxy port send broken HTTP, of both versions. Beside the last two an honest agent
serves an honest client.

The status is 0 only if no exception escaped and none was logged, everybody honest was answered in time with the right
bytes, every connection came to an end, and the memory of the node did not grow. FUZZ_SEED makes a run again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from tests.fuzz import attacks
from tests.fuzz.attacks import Finding
from tests.fuzz.http2 import attack_http2, attack_port
from tests.peers import frames
from tests.peers.pipe import Ended, dial
from tests.peers.v2 import Agent
from tools.stage.kernel import memory_mib
from tools.stage.processes import ROOT, environment
from tools.stage.waiting import WaitedInVain, wait_until

HONEST_DEADLINE_S = 60.0
"""An honest request that is not answered in this time is a hang."""
GROWTH_MIB = 24.0
"""The MiB of memory that may come and stay between the end of the warm-up and the end."""
ATTACKERS = {"upstream": 40, "proxy": 40}
"""At a time. Most of them wait most of the time: for the node to notice that they are no good."""
MAX_FINDINGS = 10
SETTLE_S = 8.0
"""When all attackers have left, the node's own deadlines pass within this time."""
_HELD = ("connections", "sessions", "pending", "watched", "held", "endpoints")
"""What a node tells of what it holds."""
ASK_PAUSE_S = 0.02
"""Between two requests of the honest client."""
STACKS_S = 5.0
"""A node that is not stopped has written its stacks by then, however it hangs."""


class Findings:
    """What must not have happened, and how much was done."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.said: list[str] = []
        self._lock = threading.Lock()

    def add(self, text: str) -> None:
        """Report one."""
        with self._lock:
            self.said.append(text)
        print(f"FOUND: {text}", flush=True)

    def did(self, what: str) -> None:
        """Count something that was done."""
        with self._lock:
            self.counts[what] += 1

    @property
    def enough(self) -> bool:
        """Whether there is no point in going on."""
        return len(self.said) >= MAX_FINDINGS


class FuzzedNode:
    """The node's process."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.node"],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self._telling = threading.Lock()
        ports = json.loads(self._line())
        self.proxy = ("127.0.0.1", int(ports["proxy"]))
        self.upstream = ("127.0.0.1", int(ports["upstream"]))
        self.log: list[str] = []
        self._stacks = threading.Event()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.log.append(line)
            if "(most recent call first)" in line:
                self._stacks.set()
            if line.startswith("FAILURE"):
                self._findings.add(f"the node logged a failure: {line.strip()}")

    def status(self) -> dict[str, Any]:
        """What the node says of itself."""
        if self._process.poll() is not None:
            raise Finding(f"the node ended with status {self._process.returncode}")
        self._tell("?")
        answer: dict[str, Any] = json.loads(self._line())
        return answer

    def drain(self, endpoint: str) -> None:
        """Tell the agents of an endpoint that the node drains."""
        self._tell(f"drain {endpoint}")

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with self._telling:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def show_stacks(self) -> None:
        """Let a node that hangs say where."""
        self._stacks.clear()
        self._process.send_signal(signal.SIGUSR1)
        self._stacks.wait(STACKS_S)

    def stop(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            self._findings.add("the node did not stop")
        self._reader.join(5)


class HonestAgent(Agent):
    """Echoes every body, and looks at every head: what a fuzzed client got through has to be a good request."""

    def __init__(self, address: tuple[str, int], found: Callable[[str], None]) -> None:
        self._found = found
        self._bodies: dict[int, bytearray] = {}
        super().__init__(address, "honest", agent_id="honest")

    def _take(self, frame: frames.Frame) -> None:
        super()._take(frame)
        with self._changed:
            self.seen.clear()  # this run is longer than the tests that this peer was made for
        if frame.kind != frames.HTTP or frame.response or frame.credit:
            return
        if frame.reset:
            self._bodies.pop(frame.call, None)
            return
        if not frame.payload and frame.call not in self._bodies:
            return  # the end of an upgrade that was declined
        data = self._bodies.setdefault(frame.call, bytearray())
        data += frame.payload
        head, end, body = bytes(data).partition(b"\r\n\r\n")
        upgrade = b"\r\nConnection: Upgrade\r\n" in head
        if not end or (frame.more and not upgrade):
            return
        del self._bodies[frame.call]
        self._look_at(head)
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        if not head.startswith(b"HEAD "):
            answer += body
        threading.Thread(target=self._answer, args=(frame.call, answer), daemon=True).start()

    def _look_at(self, head: bytes) -> None:
        names = [line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]]
        bare = head.replace(b"\r\n", b"")
        if b"\n" in bare or b"\r" in bare or b"\x00" in bare:
            self._found(f"control bytes reached the agent: {head[:300]!r}")
        if names.count(b"host") != 1 or b"transfer-encoding" in names or names.count(b"content-length") > 1:
            self._found(f"an odd head reached the agent: {head[:300]!r}")

    def _answer(self, call: int, answer: bytes) -> None:
        try:
            self.send_stream(call, answer, response=True, timeout=HONEST_DEADLINE_S)
        except (Ended, TimeoutError):
            pass  # a client that left, or an end that is told elsewhere
        finally:
            with self._changed:
                self._credit.pop((call, True), None)
                self._credit.pop((call, False), None)


class Honest:
    """An agent and a client that behave, and look closely at what they get."""

    def __init__(self, node: FuzzedNode, findings: Findings, seed: str) -> None:
        self._node = node
        self._findings = findings
        self._rng = Random(seed)
        self._stopped = threading.Event()
        self.agent = HonestAgent(node.upstream, findings.add)
        self._client = threading.Thread(target=self._ask, name="honest-client", daemon=True)
        self._client.start()

    def _ask(self) -> None:
        while not self._stopped.is_set():
            try:
                self.ask()
            except Finding as finding:
                self._findings.add(str(finding))
                if not self._stopped.is_set():
                    self._node.show_stacks()
                    return
            self._stopped.wait(ASK_PAUSE_S)

    def ask(self) -> None:
        """One request, and a close look at its answer."""
        body = self._rng.randbytes(self._rng.choice((0, 1, 1000, 70_000, 300_000)))
        request = b"POST /honest HTTP/1.1\r\nHost: honest.example\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        began = time.monotonic()
        answer = bytearray()
        try:
            pipe = dial(self._node.proxy, timeout=HONEST_DEADLINE_S)
            try:
                pipe.send(request % len(body) + body, timeout=HONEST_DEADLINE_S)
                while True:
                    answer += pipe.recv(max(0.1, began + HONEST_DEADLINE_S - time.monotonic()))
            except Ended:
                pass
            finally:
                pipe.close()
        except (TimeoutError, OSError) as error:
            if self._stopped.is_set():
                return
            took = time.monotonic() - began
            raise Finding(
                f"an honest request was not answered in {took:.1f} s: {error}; {bytes(answer[:100])!r}"
            ) from error
        head, _, got = bytes(answer).partition(b"\r\n\r\n")
        if self._stopped.is_set():
            return
        if not head.startswith(b"HTTP/1.1 200 ") or got != body:
            raise Finding(f"an honest request was answered wrongly: {head[:300]!r}, {len(got)} of {len(body)} bytes")
        self._findings.did("honest requests")

    def stop(self) -> None:
        """Leave."""
        self._stopped.set()
        self._client.join(HONEST_DEADLINE_S + 5)
        if self.agent.ended is not None:
            self._findings.add(f"the honest agent was closed: {self.agent.ended}")
        if self.agent.nonsense is not None:
            self._findings.add(f"the honest agent was told nonsense: {self.agent.nonsense!r}")
        self.agent.close()


class Run:
    """One run.

    Args:
        seconds: how long.
        seed: of everything random.
    """

    def __init__(self, seconds: float, seed: int) -> None:
        self.seconds = seconds
        self.seed = seed
        self.findings = Findings()
        self.node = FuzzedNode(self.findings)

    def rng(self, mode: str, number: int) -> Random:
        """The chance of one attack, the same in each run with this seed."""
        return Random(f"{self.seed}/{mode}/{number}")

    def cores(self, until: float, first: int) -> int:
        """Attack the cores for a while; the number of the next attack."""
        number = first
        while time.monotonic() < until and not self.findings.enough:
            try:
                attacks.attack_core(self.rng("core", number))
                for part in range(5):
                    attacks.attack_streams(self.rng("stream", number * 5 + part))
                    attack_http2(self.rng("http2", number * 5 + part))
            except Exception:
                self.findings.add(f"core attack {number}: {traceback.format_exc()}")
            number += 1
            self.findings.did("broken conversations")
        return number

    def sockets(self, mode: str, until: float, first: int) -> int:
        """Attack the upstream or the proxy port for a while, several at a time; the number of the next attack."""
        numbers = iter(range(first, 1 << 62))
        lock = threading.Lock()
        last = [first]

        def attacker() -> None:
            while time.monotonic() < until and not self.findings.enough:
                with lock:
                    number = last[0] = next(numbers)
                rng = self.rng(mode, number)
                try:
                    if mode == "proxy":
                        attack = rng.choice((attacks.attack_proxy, attacks.attack_proxy, attack_port))
                        attack(rng, self.node.proxy, rng.choice(("honest", "honest", "nobody")))
                    else:
                        self._evil_agent(rng, f"evil-{number % 50}")
                except Finding as finding:
                    self.findings.add(f"{mode} attack {number}: {finding}")
                    self.node.show_stacks()
                except OSError:
                    pass  # refused, reset or cut: its own fault
                except Exception:
                    self.findings.add(f"{mode} attack {number}: {traceback.format_exc()}")
                self.findings.did(f"{mode} attacks")

        threads = [threading.Thread(target=attacker, daemon=True) for _ in range(ATTACKERS[mode])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()) + 2 * attacks.PATIENCE_S + 5)
            if thread.is_alive():
                self.findings.add(f"an attacker of the {mode} port hangs")
        return last[0] + 1

    def _evil_agent(self, rng: Random, endpoint: str) -> None:
        clients: list[threading.Thread] = []
        seeds = [rng.random() for _ in range(rng.choice((0, 1, 1, 3)))]

        def client(seed: float) -> None:
            try:
                attacks.provoke(Random(seed), self.node.proxy, endpoint)
            except OSError:
                pass
            except Finding as finding:
                self.findings.add(f"evil agent at {endpoint}: {finding}")
                self.node.show_stacks()
            self.findings.did("requests to evil agents")

        def provoke() -> None:
            if rng.random() < 0.2:
                self.node.drain(endpoint)
            for seed in seeds:
                clients.append(threading.Thread(target=client, args=(seed,), daemon=True))
                clients[-1].start()

        attacks.EvilAgent(rng, self.node.upstream, endpoint).run(1.0, provoke)
        for thread in clients:
            thread.join(attacks.PATIENCE_S + 5)

    def go(self) -> int:
        """Do everything. Returns the exit status."""
        print(f"seed {self.seed}, {self.seconds:g} s", flush=True)
        ends = time.monotonic() + self.seconds
        warm = time.monotonic() + max(3.0, self.seconds * 0.25)
        turn_s = max(1.0, min(10.0, self.seconds / 9))
        honest = Honest(self.node, self.findings, f"{self.seed}/honest")
        begun: dict[str, Any] | None = None
        own_begun = 0.0
        next_number = {"core": 0, "upstream": 0, "proxy": 0}
        while (time.monotonic() < ends or 0 in next_number.values()) and not self.findings.enough:
            for mode, number in next_number.items():
                if number and time.monotonic() >= ends:
                    break
                until = time.monotonic() + turn_s if number == 0 else min(ends, time.monotonic() + turn_s)
                if mode == "core":
                    next_number[mode] = self.cores(until, number)
                else:
                    next_number[mode] = self.sockets(mode, until, number)
            if begun is None and time.monotonic() >= warm:
                begun, own_begun = self._status(), memory_mib()
        honest.stop()
        ended = self._settled()
        own_ended = memory_mib()
        self.node.stop()
        self._judge(begun, ended, own_begun, own_ended)
        print("".join(self.node.log)[-20_000:], end="")
        found = len(self.findings.said)
        print(f"seed {self.seed}: {f'{found} found, see above' if found else 'nothing found'}")
        return 1 if self.findings.said else 0

    def _status(self) -> dict[str, Any] | None:
        try:
            return self.node.status()
        except (Finding, OSError, ValueError) as error:
            self.findings.add(f"the node does not tell how it is: {error}")
            return None

    def _settled(self) -> dict[str, Any] | None:
        """The node's state once everybody has left; whatever it still holds then, it holds for ever."""
        status: dict[str, Any] | None = None
        held: dict[str, int] = {}

        def holds_nothing() -> bool:
            nonlocal status, held
            status = self._status()
            held = {name: status[name] for name in _HELD} if status is not None else {}
            return not any(held.values())

        try:
            wait_until(holds_nothing, "the node to hold nothing", SETTLE_S)
        except WaitedInVain:
            self.findings.add(f"the node still holds {held}")
        return status

    def _judge(
        self, begun: dict[str, Any] | None, ended: dict[str, Any] | None, own_begun: float, own_ended: float
    ) -> None:
        for what, count in sorted(self.findings.counts.items()):
            print(f"{count:8} {what}")
        if not self.findings.counts["honest requests"]:
            self.findings.add("no honest request was served")
        if ended is None:
            return
        print(f"{ended['requests']:8} requests that the node took")
        if begun is None:
            print("too short to look at memory")
            return
        print(f"node's memory {begun['memory_mib']:.1f} MiB, at the end {ended['memory_mib']:.1f} MiB")
        print(f"runner's memory {own_begun:.1f} MiB, at the end {own_ended:.1f} MiB")
        if ended["memory_mib"] - begun["memory_mib"] > GROWTH_MIB:
            self.findings.add("the node's memory grew")


def main() -> int:
    """Read the environment and run."""
    seconds = float(os.environ.get("FUZZ_SECONDS", "600"))
    seed = int(os.environ.get("FUZZ_SEED") or Random().getrandbits(32))
    return Run(seconds, seed).go()


if __name__ == "__main__":
    sys.exit(main())
