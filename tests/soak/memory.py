"""Long transfers through a node and an agent: their memory stays where it is."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import threading
import time
from collections.abc import Callable

from tests.peers import websocket
from tests.peers.pipe import Ended
from tests.soak.rig import BLOCK, PAUSE, head, rig_of
from tests.soak.sockets import Sockets
from tests.system import wire
from tests.system.service import Connection, answer
from tools.stage.processes import Process
from tools.stage.report import Report
from tools.stage.stage import Stage

MAX_GROWTH_MIB = 60.0
MAX_SMALL_MS = 5000.0


class Memory:
    """Samples the memory of a process."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.before = process.memory_mib()
        process.reset_peak()

    def tell(self, report: Report, what: str) -> None:
        """Print the growth."""
        peak = self.process.memory_mib("VmHWM")
        report.line(f"{what}: before", self.before, unit="MiB")
        report.line(f"{what}: now", self.process.memory_mib(), unit="MiB")
        report.line(f"{what}: growth to the peak", peak - self.before, MAX_GROWTH_MIB, "MiB")


def paced(size: int, rate: float, move: Callable[[int], int]) -> float:
    """Move `size` bytes by `move(at most so many)`, no faster than `rate` bytes a second; the seconds it took."""
    begin = time.monotonic()
    done = 0
    while done < size:
        moved = move(size - done)
        if not moved:
            break
        done += moved
        early = done / rate - (time.monotonic() - begin)
        if early > 0.005:
            PAUSE.wait(early)
    if done != size:
        raise wire.Broken(f"{done} of {size} bytes")
    return time.monotonic() - begin


def memory(stage: Stage, options: argparse.Namespace, report: Report) -> None:
    """A long download with a slow reader, a long upload to a slow service and idle WebSockets, all at once."""
    size, rate = options.size * 1_000_000, options.rate * 1_000_000
    wanted = hashlib.blake2b()
    for start in range(0, size, len(BLOCK)):
        wanted.update(BLOCK[: size - start])
    uploaded: list[str] = []

    def script(connection: Connection) -> None:
        while True:
            # Nothing of what comes is kept: this process has no memory for it either.
            connection.received.clear()
            request = connection.request_head(3600)
            if request.target == b"/down":
                connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                for start in range(0, size, len(BLOCK)):
                    connection.send(BLOCK[: size - start], 600)
            elif request.target == b"/up":
                uploaded.append(slowly_read(connection, size, rate))
                connection.send(answer(b"thank you"))
            else:
                connection.send(answer(b"small"))

    with rig_of(stage) as rig, contextlib.closing(Sockets()) as sockets:
        rig.service.script = script
        more = stage.agent(rig.node, {"sockets": f"127.0.0.1:{sockets.port}"}, name="agent-2")
        context = stage.tls.context if stage.tls else None
        for _ in range(50):
            client = rig.connect()
            client.send(head("GET /small HTTP/1.1"))
            client.read_response()
            client.close()
        watched = {"node": Memory(rig.node), "agent": Memory(rig.agent), "agent of the WebSockets": Memory(more)}

        idle = []
        for _ in range(options.websockets):
            socket, _ = websocket.connect(
                rig.node.proxy, "/", headers=[("x-pico-endpoint", "sockets")], tls=context, name="localhost"
            )
            idle.append(socket)
        report.check(f"{len(idle)} WebSockets are open", sockets.count == len(idle), str(sockets.count))
        for name, one in watched.items():
            one.tell(report, f"with them, {name}")

        stop = threading.Event()
        small: list[float] = []
        problems: list[str] = []

        def ask() -> None:
            while not stop.wait(0.05):
                begin = time.monotonic()
                try:
                    client = rig.connect()
                    client.send(head("GET /small HTTP/1.1"))
                    response = client.read_response()
                    client.close()
                    if (response.status, response.body) != (200, b"small"):
                        problems.append(f"{response.status} {response.body[:80]!r}")
                except (OSError, Ended, wire.Broken, wire.Malformed, TimeoutError) as error:
                    problems.append(repr(error))
                small.append(time.monotonic() - begin)

        transfers: dict[str, str] = {}

        def down() -> None:
            try:
                client = rig.connect(receive_buffer=256 * 1024)
                client.send(head("GET /down HTTP/1.1"))
                client.response_head()
                transfers["down"] = slowly_read(client, size, rate)
                client.close()
            except Exception as error:
                transfers["down"] = repr(error)

        def up() -> None:
            try:
                client = rig.connect()
                client.send(head("POST /up HTTP/1.1", f"Content-Length: {size}"))
                for start in range(0, size, len(BLOCK)):
                    client.send(BLOCK[: size - start], 600)
                transfers["up"] = f"status {client.read_response(timeout=600).status}"
                client.close()
            except Exception as error:
                transfers["up"] = repr(error)

        asking = threading.Thread(target=ask)
        moving = [threading.Thread(target=down), threading.Thread(target=up)]
        begin = time.monotonic()
        for thread in (asking, *moving):
            thread.start()
        for thread in moving:
            thread.join()
        took = time.monotonic() - begin
        stop.set()
        asking.join()
        report.line(f"{options.size} MB each way beside each other", took, unit="s")
        report.check("the download came whole", transfers.get("down") == wanted.hexdigest(), str(transfers.get("down")))
        report.check("the upload came whole", uploaded == [wanted.hexdigest()], f"{transfers.get('up')} {uploaded}")
        report.check(f"{len(small)} small requests beside them", not problems, str(problems[:3]))
        report.times("a small request beside them", small, MAX_SMALL_MS)
        for name, one in watched.items():
            one.tell(report, f"after the transfers, {name}")
        alive = 0
        for socket in idle:
            socket.send(b"!")
        for socket in idle:
            alive += socket.receive() == (websocket.BINARY, b"!")
        report.check("every WebSocket still echoes", alive == len(idle), f"{alive} of {len(idle)}")
        for socket in idle:
            socket.drop()


def slowly_read(stream: wire.Stream, size: int, rate: float) -> str:
    """Read a body of `size` bytes at `rate`, and forget it; its hash."""
    digest = hashlib.blake2b()

    def move(_: int) -> int:
        piece = stream.body_piece(600)
        stream.received.clear()
        digest.update(piece)
        return len(piece)

    paced(size, rate, move)
    return digest.hexdigest()


# -- load
