"""Shows the cases to the proxy port of a node with an agent behind it. Run by `make conformance`.

    python -m tests.conformance.run          without and with TLS
    python -m tests.conformance.run tls      one of them

The exit status is 1 when the node did something else than is asked for.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.conformance.asking import Port
from tests.conformance.cases import ALL
from tests.system.service import Service
from tools.stage.certificates import Tls
from tools.stage.report import Options, Report, exit_status
from tools.stage.stage import Stage, open_stage

ENDPOINT: Final = "conforms"


def faults(stage: Stage, options: argparse.Namespace, report: Report) -> None:
    """Each case on a connection of its own, and at the end the node serves as before."""
    service = Service()
    try:
        node = stage.node()
        stage.agent(node, {ENDPOINT: service.address})
        port = Port(node.proxy, ENDPOINT, str(stage.tls.authority.ca) if stage.tls else None)
        for case in ALL.values():
            fault = port.fault(case)
            report.check(f"{case.number:<18} {case.says}", fault is None, fault or "")
        fault = port.fault(ALL["generic/4/1"])
        report.check("the node serves as before", fault is None, fault or "")
    finally:
        service.close()


PARTS: Final = {"plain": faults, "tls": faults}


def main() -> int:
    """Run the parts that were asked for; the exit status."""
    options = Options(__doc__, PARTS).read()
    report = Report()
    status = 0
    for part in options.parts:

        @contextlib.contextmanager
        def scene(directory: Path, part: str = part) -> Iterator[Stage]:
            with open_stage(directory, Tls.make(directory) if part == "tls" else None) as stage:
                yield stage

        status |= report.run("conformance", PARTS, argparse.Namespace(parts=[part]), scene)
    return status


if __name__ == "__main__":
    sys.exit(exit_status(main))
