"""Follows docs/run.md and docs/cluster.md on three machines that boot systemd, from the first command to the last.

    python -m tests.booted.run

Run by `make systemd`. The commands are read from the pages: a block marked `sh` is run by root in the checkout, on
each machine, or on the first one alone when it is marked `sh one`, and what that made is copied to the others. A block
of YAML that begins with the name of a file becomes that file. Where a page says `n1`, each machine has its own name.
Prints what fails with its output; the exit status is 1 then.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from tests.booted.machines import CHECKOUT, Machine, machines
from tools.stage.processes import ROOT

PAGES: Final = ("docs/run.md", "docs/cluster.md")
NAMES: Final = ("n1", "n2", "n3")
MADE: Final = ("cluster-secret", "*.pem")
"""Files that are made on one machine and copied to the others."""
_BLOCK: Final = re.compile(r"^```(\S.*)\n((?:.*\n)*?)^```$", re.MULTILINE)
_FILE: Final = re.compile(r"# (/\S+)\n")


PROMISES: Final = {
    "a reload works with LoadCredential, and fails when anything is wrong": """
        cd /etc/systemd/system
        mkdir -p pico.service.d
        printf '[Service]\\nLoadCredential=secret:/etc/pico/cluster-secret\\n' > pico.service.d/secret.conf
        sed -i 's|/etc/pico/cluster-secret|/run/credentials/pico.service/secret|' /etc/pico/pico.yaml
        systemctl daemon-reload
        systemctl restart pico
        systemctl reload pico
        echo 'nonsense: 1' >> /etc/pico/pico.yaml
        if systemctl reload pico; then exit 1; fi
        journalctl --no-pager -u pico | grep 'not reloaded: nonsense'
        sed -i '/^nonsense/d' /etc/pico/pico.yaml
        systemctl reload pico
        """,
    "a restart with pico.socket refuses no connection": """
        sed 's/127.0.0.1://' etc/systemd/pico.socket > /etc/systemd/system/pico.socket
        systemctl daemon-reload
        systemctl stop pico
        systemctl start pico.socket
        systemctl start pico
        systemctl restart pico &
        while kill -0 $! 2> /dev/null; do curl -s -o /dev/null --max-time 60 http://localhost:8000/; done
        wait $!
        picoctl status
        """,
}
"""What the pages promise in prose, by its words: commands of which none fails, on one machine."""


class Block(NamedTuple):
    """A block of a page: where it stands, what it is, and its text."""

    place: str
    kind: str
    text: str


def blocks(page: str) -> Iterator[Block]:
    """The blocks of a page that are marked, in their order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        yield Block(f"{page}:{text.count(chr(10), 0, found.start()) + 1}", found[1].strip(), found[2])


def follow(machine: Machine, block: Block) -> str:
    """Do on a machine what a block says. Returns what went wrong; empty when all went well."""
    own = re.sub(r"\bn1\b", machine.name, block.text) if block.kind != "sh one" else block.text
    if block.kind == "yaml":
        if named := _FILE.match(own):
            machine.path(named[1]).write_text(own)
        return ""
    done: subprocess.CompletedProcess[str] = machine.run(f"set -x\n{own}")
    return (
        "" if done.returncode == 0 else f"{block.place} on {machine.name} ended with {done.returncode}:\n{done.stdout}"
    )


def hand_out(first: Machine, others: list[Machine]) -> None:
    """Copy what was made on one machine to the others."""
    for pattern in MADE:
        for made in first.path(CHECKOUT).glob(pattern):
            for other in others:
                shutil.copy2(made, other.path(CHECKOUT) / made.name)


def main() -> int:
    """Follow all pages. Returns the exit status."""
    with machines(NAMES) as all_of_them, ThreadPoolExecutor(len(NAMES)) as at_once:
        first, *others = all_of_them
        for block in [block for page in PAGES for block in blocks(page) if block.kind in ("sh", "sh one", "yaml")]:
            there = [first] if block.kind == "sh one" else all_of_them
            print(f"{block.place}  {block.kind:<6}  on {', '.join(one.name for one in there)}", flush=True)
            wrong = list(filter(None, at_once.map(lambda machine: follow(machine, block), there)))  # noqa: B023 - awaited
            if wrong:
                print("\n".join(wrong), file=sys.stderr)
                for machine in there:
                    logs = machine.run(
                        "systemctl --no-pager status pico pico-agent; journalctl --no-pager -n 40 -u pico"
                    )
                    print(f"-- {machine.name}\n{logs.stdout}", file=sys.stderr)
                return 1
            if block.kind == "sh one":
                hand_out(first, others)
        told = first.run("picoctl status nodes --json").stdout
        active = {row["id"] for row in json.loads(told) if row["status"] == "active"}
        print(f"active: {', '.join(sorted(active))}", flush=True)
        broken = active != set(NAMES)
        for promise, script in PROMISES.items():
            done = first.run(f"set -x\n{script}")
            print(f"{promise}: {'no' if done.returncode else 'yes'}", flush=True)
            if done.returncode:
                broken = True
                print(done.stdout, file=sys.stderr)
        return int(broken)


if __name__ == "__main__":
    sys.exit(main())
