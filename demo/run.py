"""The demo: a web service, a Pico node and an agent as real processes, and requests through all of them.

    make demo

On a terminal it then shows what the three log, until Ctrl-C. Without a terminal it ends by itself. The exit status is 0
only if the answers were right and every process ended in order.
"""

from __future__ import annotations

import http.client
import json
import queue
import shlex
import shutil
import socket
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])

from demo.children import Child, DemoFailed, Interrupted, Signals  # noqa: E402
from demo.service import GREETING, HOST  # noqa: E402

ENDPOINT = "my-endpoint"
DOMAIN = "example.com"
DEFAULT_PORTS = {"proxy": 8000, "admin": 8001, "upstream": 8002, "service": 3000}
PORT_STEP = 10
ATTEMPTS = 5
"""A port can be taken by somebody else between our look at it and its use."""
REQUEST_S = 10.0
_FOLLOW_POLL_S = 0.2
_WIDTH = 96


def say(text: str = "") -> None:
    """Print a line at once."""
    print(text, flush=True)


def is_free(port: int) -> bool:
    """Could somebody listen on this port of 127.0.0.1 now?"""
    with closing(socket.socket()) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((HOST, port))
            sock.listen()
        except OSError:
            return False
        return True


def pick_port(name: str) -> int:
    """The default port of this name, or the next free one in steps of ten."""
    default = DEFAULT_PORTS[name]
    for port in range(default, default + 100 * PORT_STEP, PORT_STEP):
        if is_free(port):
            return port
    raise DemoFailed(f"found no free port for {name}")


def get(port: int, path: str, headers: Mapping[str, str], timeout: float = REQUEST_S) -> tuple[int, str, str]:
    """Status, reason and body of a GET.

    Raises:
        OSError, http.client.HTTPException: there was no answer.
    """
    with closing(http.client.HTTPConnection(HOST, port, timeout=timeout)) as connection:
        connection.request("GET", path, headers={"User-Agent": "pico-demo", **headers})
        response = connection.getresponse()
        return response.status, response.reason, response.read().decode("utf-8", "replace")


def try_get(port: int, path: str) -> tuple[int, str]:
    """Status and body, status 0 when nobody answers."""
    try:
        status, _, body = get(port, path, {}, timeout=2)
    except (OSError, http.client.HTTPException):
        return 0, ""
    return status, body


def show_command(words: Sequence[str]) -> None:
    """Print a command line that can be pasted, a flag and its value never apart."""
    groups: list[str] = []
    for word in words:
        starts = word.startswith("-") or not groups or not groups[-1].startswith("--") or " " in groups[-1]
        quoted = shlex.quote(word)
        groups = [*groups, quoted] if starts else [*groups[:-1], f"{groups[-1]} {quoted}"]
    lines = [groups[0]]
    for group in groups[1:]:
        if len(lines[-1]) + len(group) < _WIDTH - 10:
            lines[-1] += f" {group}"
        else:
            lines.append(f"  {group}")
    say("     " + " \\\n     ".join(lines))


class Demo:
    """One run of the demo.

    Args:
        signals: that end it early.
    """

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._said: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._children: list[Child] = []
        self._ports: dict[str, int] = {}
        self._number = 0

    # What happens

    def serve_requests(self) -> None:
        """Start everything and send the requests."""
        say("A request to a web service that opened no port to where the request arrives.")
        say("Everything listens on 127.0.0.1 only and is gone when the demo ends.")
        self._start_service()
        self._start_node()
        self._start_agent()
        proxy = f"http://{HOST}:{self._ports['proxy']}"
        self._step("A request to the node. The header x-pico-endpoint says for whom it is:")
        self._request(f"{proxy}/by-header", "x-pico-endpoint", ENDPOINT)
        self._step("Another. The first label of the host name says for whom it is:")
        self._request(f"{proxy}/by-host", "Host", f"{ENDPOINT}.{DOMAIN}")

    def show_what_to_try(self) -> None:
        """Print commands and addresses."""
        proxy, admin = self._ports["proxy"], self._ports["admin"]
        named = f"{ENDPOINT}.{DOMAIN}"
        say()
        say("Now you:")
        say(f"  curl -H 'x-pico-endpoint: {ENDPOINT}' http://{HOST}:{proxy}/")
        say(f"  curl -H 'Host: {named}' http://{HOST}:{proxy}/")
        say(f"  curl --resolve {named}:{proxy}:{HOST} http://{named}:{proxy}/")
        say(f"  curl -N -H 'x-pico-endpoint: {ENDPOINT}' http://{HOST}:{proxy}/clock     an answer of ten seconds")
        say(f"  http://{ENDPOINT}.localhost:{proxy}/     in a browser")
        say("For operators:")
        say(f"  http://{HOST}:{admin}/     what there is")
        say(f"  http://{HOST}:{admin}/status/upstream/endpoints     who is registered")
        say(f"  http://{HOST}:{admin}/metrics     for Prometheus")

    def follow(self) -> None:
        """Show what the processes log until a signal comes.

        Raises:
            DemoFailed: one of them ended by itself.
        """
        say()
        say("Their logs from here on. Ctrl-C ends everything.")
        say()
        while not self._said.empty():
            self._said.get()
        while not self._signals.stop.is_set():
            try:
                show_log_line(*self._said.get(timeout=_FOLLOW_POLL_S))
            except queue.Empty:
                pass
            for child in self._children:
                if child.status is not None and not self._signals.stop.is_set():
                    raise DemoFailed(f"the {child.name} ended by itself with status {child.status}")

    def stop(self) -> bool:
        """End everything, the agent first. Returns whether all ended in order. Idempotent."""
        children, self._children = self._children, []
        if not children:
            return True
        ends = [(child.name, child.stop()) for child in reversed(children)]
        words = [f"{name} {'killed' if status is None else f'status {status}'}" for name, status in ends]
        say()
        say("Ended: " + ", ".join(words) + ".")
        return all(status == 0 for _, status in ends)

    def show_logs(self) -> None:
        """Print the last lines of every process, for a demo that failed."""
        for child in self._children:
            say()
            say(f"The {child.name} (process {child.pid}) wrote:")
            for line in list(child.lines)[-40:] or ["nothing"]:
                say(f"  {line}")

    # Steps

    def _step(self, text: str) -> None:
        self._signals.check()
        self._number += 1
        say()
        say(f"{self._number}  {text}")

    def _start_service(self) -> None:
        def begin() -> tuple[Child, float]:
            port = self._pick("service")
            child = self._child("web service", [str(Path(__file__).with_name("service.py")), str(port)])

            def ready() -> bool:
                return any(line.startswith("listening") for line in child.lines)

            return child, child.wait_until(ready, "the web service")

        self._step("A web service. It knows nothing of Pico.")
        child, _ = self._until_ports_are_ours(begin)
        self._tell_ports("service")
        say(f"   Listens on {HOST}:{self._ports['service']}, process {child.pid}.")

    def _start_node(self) -> None:
        command: list[str] = []

        def begin() -> tuple[Child, float]:
            command[:] = ["twistd", "-n", "--pidfile=", "pico", "--cluster.node-id", "demo-node"]
            for name in ("proxy", "admin", "upstream"):
                command.extend((f"--{name}.bind-addr", f"{HOST}:{self._pick(name)}"))
            command.extend(("--cluster.gossip.bind-addr", f"{HOST}:0"))  # a node alone: nobody needs to know it
            child = self._child("node", [*command, "--grace-period", "10s"])
            admin = self._ports["admin"]

            def ready() -> bool:
                # Its own word first: on a port that it did not get, somebody else's node may answer.
                return any("demo-node is up" in line for line in child.lines) and try_get(admin, "/ready")[0] == 200

            return child, child.wait_until(ready, "the node to be ready")

        self._step("A node, for clients, agents and operators, each on a port of their own:")
        child, took_s = self._until_ports_are_ours(begin)
        show_command(command)
        self._tell_ports("proxy", "admin", "upstream")
        say(f"   Ready after {took_s:.1f} s, process {child.pid}.")

    def _start_agent(self) -> None:
        self._step("An agent beside the web service. It connects to the node and registers an endpoint:")
        command = ["twistd", "-n", "--pidfile=", "pico-agent", "--agent-id", "demo-agent"]
        command += ["--connect.url", f"http://{HOST}:{self._ports['upstream']}"]
        command += ["--listen", f"{ENDPOINT}={HOST}:{self._ports['service']}"]
        show_command(command)
        child = self._child("agent", [*command, "--grace-period", "10s"])

        def registered() -> bool:
            status, body = try_get(self._ports["admin"], "/status/upstream/endpoints")
            return status == 200 and ENDPOINT in json.loads(body)

        took_s = child.wait_until(registered, "the agent to register")
        say(f"   Registered {ENDPOINT} after {took_s:.1f} s, process {child.pid}.")

    def _request(self, url: str, field: str, value: str) -> None:
        """Send one request and check that the service got this one and answered."""
        path = f"/{url.rpartition('/')[2]}"
        show_command(["curl", "-H", f"{field}: {value}", url])
        begin = time.monotonic()
        try:
            status, reason, body = get(self._ports["proxy"], path, {field: value})
        except (OSError, http.client.HTTPException) as error:
            raise DemoFailed(f"there was no answer: {error!r}") from None
        say(f"   {status} {reason} in {(time.monotonic() - begin) * 1000:.1f} ms:")
        for line in body.splitlines():
            say(f"     | {line}".rstrip())
        if status != 200 or not body.startswith(GREETING) or f"GET {path}\n" not in body:
            raise DemoFailed("this is not the web service's answer to that request")

    def _child(self, name: str, command: Sequence[str]) -> Child:
        self._signals.check()
        child = Child(name, command, self._signals, self._said)
        self._children.append(child)
        return child

    # Ports

    def _pick(self, name: str) -> int:
        self._ports[name] = pick_port(name)
        return self._ports[name]

    def _tell_ports(self, *names: str) -> None:
        for name in names:
            port, default = self._ports[name], DEFAULT_PORTS[name]
            if port != default:
                say(f"   Port {default} is taken, so this demo uses {port} as the {name} port.")

    def _until_ports_are_ours(self, begin: Callable[[], tuple[Child, float]]) -> tuple[Child, float]:
        for left in reversed(range(ATTEMPTS)):
            try:
                return begin()
            except DemoFailed:
                child = self._children[-1]
                if not left or child.status is None or not any("in use" in line for line in child.lines):
                    raise
                self._children.remove(child)
        raise AssertionError("the last attempt returns or raises")


def show_log_line(name: str, line: str) -> None:
    """Print a line of a log for a person: local time, who, what."""
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict) or "message" not in record:
        stamp, text = time.strftime("%H:%M:%S"), line
    else:
        stamp, text = _local_time(str(record.get("time", ""))), _words(record)
    width = min(shutil.get_terminal_size().columns, 120)
    intro = f"{stamp}  {name:<11}  "
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, width - len(intro)) or [""]]
    for part in lines:
        say(f"{intro}{part}".rstrip())
        intro = " " * len(intro)


def _local_time(stamp: str) -> str:
    try:
        return datetime.fromisoformat(stamp).astimezone().strftime("%H:%M:%S")
    except ValueError:
        return time.strftime("%H:%M:%S")


def _words(record: dict[str, Any]) -> str:
    if record.get("subsystem") == "access":
        took = f"{float(record['duration_s']) * 1000:.1f} ms"
        text = f"{record['method']} {record['target']} -> {record['status']} in {took}, {record['bytes_out']} bytes"
        text += f", for {record['endpoint']}" if record.get("endpoint") else ""
        text += f", by {record['upstream']}" if record.get("upstream") else ""
        return text + (f", error {record['error']}" if record.get("error") else "")
    level = record.get("level", "info")
    text = str(record["message"])
    if level != "info":
        text = f"{level}: {text}"
    if record.get("reason") and str(record["reason"]) not in text:
        text += f" ({record['reason']})"
    return f"{text}\n{record['traceback']}" if record.get("traceback") else text


def main() -> int:
    """Run the demo; the exit status."""
    signals = Signals()
    demo = Demo(signals)
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    try:
        demo.serve_requests()
        demo.show_what_to_try()
        if on_terminal:
            demo.follow()
        in_order = demo.stop()
    except Interrupted:
        say("\nInterrupted.")
        return 130
    except DemoFailed as error:
        say(f"\nThe demo failed: {error}.")
        demo.show_logs()
        return 1
    finally:
        demo.stop()
    return 0 if in_order else 1


if __name__ == "__main__":
    sys.exit(main())
