"""Autobahn's suite of WebSockets, without Pico and through it. Run by `make websockets WSTEST=…/wstest`.

    python -m tests.websockets.run --wstest …/wstest                 all cases: an hour
    python -m tests.websockets.run --wstest …/wstest --cases '1.*' '7.*'

`wstest` is of the package autobahntestsuite, which runs on Python 2.7 alone. Over HTTP/2 it is brought by nghttpx,
which makes an extended CONNECT (RFC 8441) of each handshake. The exit status is 1 when a verdict differs from the one
that the same server gets without Pico.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.stage.ports import HOST, free_port, is_free
from tools.stage.processes import Process, find_program
from tools.stage.report import Options, Report, exit_status
from tools.stage.stage import Stage, open_stage
from tools.stage.waiting import wait_until

ENDPOINT: Final = "echo"
_HOST: Final = "localhost"
"""What wstest asks for."""

_NAMES: Final = {"proxy": {"hosts": {_HOST: ENDPOINT}}}
_DIRECT: Final = "without Pico"
_MOST_S: Final = 4 * 3600


def suite(stage: Stage, options: argparse.Namespace, report: Report) -> None:
    """Each case is shown to the server itself, to it behind one node, behind two, and behind one over HTTP/2."""
    port = free_port()
    echo = str(Path(__file__).with_name("echo.py"))
    server = Process("echo", [sys.executable, echo, str(port)], stage.directory)
    stage.add(server).wait_output("listens")
    holder = stage.node("holder", _NAMES)
    other = stage.node("other", {**_NAMES, "cluster": {"join": [f"{HOST}:{holder.ports.gossip}"]}})
    stage.agent(holder, {ENDPOINT: f"{HOST}:{port}"})
    front = free_port()
    nghttpx = find_program("nghttpx", "nghttp2-proxy")
    backend = f"-b{HOST},{holder.ports.proxy};;proto=h2"
    stage.add(
        Process(
            "nghttpx",
            [nghttpx, "--conf=/dev/null", f"-f{HOST},{front};no-tls", backend, "--workers=1"],
            stage.directory,
        )
    )
    wait_until(lambda: not is_free(front), "nghttpx to listen")
    places = {
        _DIRECT: port,
        "one node": holder.ports.proxy,
        "two nodes": other.ports.proxy,
        "one node, HTTP/2": front,
    }
    verdicts = _verdicts(stage.directory, options, places)
    expected = verdicts[_DIRECT]
    for place, found in verdicts.items():
        differ = [case for case, verdict in found.items() if verdict != expected[case]]
        report.check(f"{place}: {len(found)} cases", not differ, ", ".join(differ))
        fine = [case for case, (behaviour, _) in found.items() if behaviour in ("OK", "NON-STRICT", "INFORMATIONAL")]
        report.check(f"{place}: as RFC 6455 has it", len(fine) == len(found), f"{len(found) - len(fine)} are not")


def _verdicts(
    directory: Path, options: argparse.Namespace, places: dict[str, int]
) -> dict[str, dict[str, tuple[str, str]]]:
    """By place and case: what wstest says of the conversation, and of its end."""
    out = directory / "reports"
    servers = [{"agent": name, "url": f"ws://{_HOST}:{port}"} for name, port in places.items()]
    wanted = {"outdir": str(out), "servers": servers, "cases": options.cases, "exclude-cases": []}
    specification = directory / "cases.json"
    specification.write_text(json.dumps({**wanted, "exclude-agent-cases": {}}))
    command = [options.wstest, "-m", "fuzzingclient", "-s", str(specification)]
    with (directory / "wstest.log").open("wb") as log:
        subprocess.run(command, cwd=directory, stdout=log, stderr=log, check=True, timeout=_MOST_S)
    told = json.loads((out / "index.json").read_text())
    return {
        place: {case: (one["behavior"], one["behaviorClose"]) for case, one in told[place].items()} for place in places
    }


PARTS: Final = {"suite": suite}


def main() -> int:
    """Run the suite; the exit status."""
    parser = Options(__doc__)
    parser.add_argument("--wstest", required=True, help="the program")
    parser.add_argument("--cases", nargs="*", default=["*"], help="patterns of cases [all]")
    options = parser.read()

    @contextlib.contextmanager
    def scene(directory: Path) -> Iterator[Stage]:
        with open_stage(directory) as stage:
            yield stage

    options.parts = list(PARTS)
    return Report().run("websockets", PARTS, options, scene)


if __name__ == "__main__":
    sys.exit(exit_status(main))
