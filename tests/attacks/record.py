"""Records what nginx and HAProxy make of the attacks, as their packages come.

    python -m tests.attacks.record

Run by `make attacks`. Needs both programs. Writes `requests.tsv` and `answers.tsv`, a line for each attack: its kind,
its name, and each proxy's verdict. The tests compare a node's with them.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from tests.attacks.answers import answers, judge_answer
from tests.attacks.judging import bytes_of, judge, saw
from tests.attacks.requests import attacks
from tests.odd_requests.record import COMMANDS, running, version
from tests.system.service import Service
from tests.system.wire import connect

REQUESTS = Path(__file__).with_name("requests.tsv")
ANSWERS = Path(__file__).with_name("answers.tsv")

Verdicts = dict[tuple[str, str], tuple[str, str]]


def read_table(path: Path) -> Verdicts:
    """What nginx and HAProxy made of each attack, by its kind and name."""
    rows = [line.split("\t") for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    return {(kind, name): (nginx, haproxy) for kind, name, nginx, haproxy in rows}


def _write(path: Path, verdicts: dict[tuple[str, str], list[str]]) -> None:
    lines = ["# " + "; ".join(version(name) for name in COMMANDS), "# kind\tname\tnginx\tHAProxy"]
    lines += ["\t".join((*key, *row)) for key, row in verdicts.items()]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def main() -> int:
    """The command."""
    service = Service()
    requests: dict[tuple[str, str], list[str]] = {(attack.kind, attack.name): [] for attack in attacks()}
    replies: dict[tuple[str, str], list[str]] = {(reply.kind, reply.name): [] for reply in answers()}
    try:
        for name in COMMANDS:
            with running(name, service.port) as port:
                service.handler = saw
                for attack in attacks():
                    verdict = judge(connect(("127.0.0.1", port)), bytes_of(attack), service)
                    requests[attack.kind, attack.name].append(verdict)
                service.reset()
                for reply in answers():
                    verdict = judge_answer(partial(connect, ("127.0.0.1", port)), b"", reply, service)
                    replies[reply.kind, reply.name].append(verdict)
                    service.reset()
            print(f"{name}: {sum(row[-1] == 'refused' for row in requests.values())} of {len(requests)} are refused")
    finally:
        service.close()
    _write(REQUESTS, requests)
    _write(ANSWERS, replies)
    return 0


if __name__ == "__main__":
    sys.exit(main())
