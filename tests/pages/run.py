"""Runs the commands of the documentation that need one machine. Run by `make docs-commands`.

    python -m tests.pages.run                      every page
    python -m tests.pages.run docs/authentication.md  some of them

Each page is followed in a copy of the checkout of its own, in a network of its own where only loopback is, so that the
ports are those that the page names. What it installs is installed before that, into a fresh virtual environment, which
takes the network and a minute. A block that does not succeed is tried again for a while when something has been started
before it: a reader, too, waits until a daemon is up. Needs root, or user namespaces, and iproute2. Who runs the other
blocks is said at the end. The exit status is 1 when a command of a page failed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.booted.machines import checkout
from tests.pages.blocks import HERE, PAGES, Block, blocks
from tools.stage.processes import ROOT, find_program
from tools.stage.report import Options, exit_status
from tools.stage.waiting import WaitedInVain, wait_until

PATIENCE_S: Final = 30.0
"""How long a block is tried again behind something that was started."""
BLOCK_S: Final = 60.0
"""Most seconds of a block that ends by itself."""
INSTALL_S: Final = 900.0
CONFIGURED: Final = "/etc/pico"
"""A directory of the reader's; that of the run stands in for it."""
OTHERS: Final = {
    "every": "make systemd",
    "one": "make systemd",
    "examples": "make examples",
    "node": "make test (their keys)",
    "agent": "make test (their keys)",
    "shown": "nobody; the page says why",
}


class Failed(Exception):
    """A command of a page did not do what the page says."""


class Follower:
    """Follows one page, inside of its network.

    Args:
        directory: a copy of the checkout, in which the page's commands run.
        venv: where its programs are installed.
    """

    def __init__(self, directory: Path, venv: Path) -> None:
        self.directory = directory
        self.etc = directory / "run-etc"
        self.etc.mkdir()
        (directory / ".curlrc").write_text("fail\nsilent\nshow-error\nmax-time = 20\n")  # an error page is no success
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        path = f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}"
        self._environment = {**kept, "PATH": path, "HOME": str(directory), "PYTHONUNBUFFERED": "1"}
        for name in ("PYTHONPATH", "VIRTUAL_ENV"):
            self._environment.pop(name, None)
        self._stay: list[tuple[Block, subprocess.Popen[bytes], Path]] = []

    def follow(self, page: str) -> int:
        """Do what its blocks say, one after the other; how many were run.

        Raises:
            Failed: one of them did not do.
        """
        done = 0
        try:
            for block in blocks(page):
                if block.file and block.how != "shown":
                    self._write(block)
                elif block.language == "sh" and block.how in HERE and block.how != "install":
                    print(f"{block.place}  {block.how}", flush=True)
                    self._do(block)
                    done += 1
        finally:
            self._end()
        return done

    def _write(self, block: Block) -> None:
        name = block.file.replace(CONFIGURED, str(self.etc))
        if not os.path.isabs(name) or name.startswith(str(self.etc)):
            (self.directory / name).write_text(block.text.replace(CONFIGURED, str(self.etc)), encoding="utf-8")

    def _do(self, block: Block) -> None:
        if block.how == "anew":
            self._end()
        if block.how != "here":
            self._start(block)
            return
        fault = ""

        def works() -> bool:
            nonlocal fault
            fault = self._run(block)
            return not fault

        with contextlib.suppress(WaitedInVain):  # what is in its way is told below
            wait_until(works, block.place, PATIENCE_S if self._stay else 0)
        self._look()
        if fault:
            raise Failed(f"{block.place}: {fault}")

    def _script(self, block: Block) -> list[str]:
        return ["bash", "-euo", "pipefail", "-c", block.text.replace(CONFIGURED, str(self.etc))]

    def _run(self, block: Block) -> str:
        try:
            done = subprocess.run(
                self._script(block),
                cwd=self.directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=BLOCK_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"it goes on for more than {BLOCK_S:.0f} s; mark it `stays`?"
        return "" if done.returncode == 0 else f"it ended with {done.returncode}:\n{done.stdout}"

    def _start(self, block: Block) -> None:
        log = self.directory / f"line-{block.line}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self._script(block),
                cwd=self.directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
            )
        self._stay.append((block, process, log))

    def _look(self) -> None:
        """What stays has to be there still. Raises Failed."""
        for block, process, log in self._stay:
            if process.poll() is not None:
                raise Failed(f"{block.place} ended with {process.returncode}:\n{log.read_text(errors='replace')}")

    def _end(self) -> None:
        """End what stays, the younger first, as Ctrl-C does."""
        for _, process, _ in reversed(self._stay):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
        for _, process, _ in self._stay:
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._stay.clear()


def install(page: str, directory: Path) -> None:
    """Do what a page says is installed. Raises Failed."""
    for block in blocks(page):
        if block.how == "install":
            print(f"{block.place}  install", flush=True)
            command = ["bash", "-euo", "pipefail", "-c", block.text]
            done = subprocess.run(
                command, cwd=directory, capture_output=True, text=True, timeout=INSTALL_S, check=False
            )
            if done.returncode:
                raise Failed(f"{block.place} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def in_a_network(page: str, directory: Path, venv: Path) -> bool:
    """Follow a page in a process that has nothing but loopback. Returns whether all went well."""
    find_program("ip", "iproute2")
    apart = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
    follow = [sys.executable, "-m", "tests.pages.run", "--inside", page, str(directory), str(venv)]
    script = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh", *follow]
    return subprocess.run([*apart, *script], cwd=ROOT, check=False).returncode == 0


def inside(page: str, directory: Path, venv: Path) -> int:
    """The part of `in_a_network` that is inside; the exit status."""
    try:
        print(f"{page}: {Follower(directory, venv).follow(page)} blocks as they should be", flush=True)
    except Failed as failed:
        print(f"{page}: FAILED\n{failed}", file=sys.stderr, flush=True)
        return 1
    return 0


def run(pages: Sequence[str]) -> int:
    """Follow these pages; 1 when a command of one of them failed."""
    wrong = []
    with tempfile.TemporaryDirectory(prefix="pico-pages-") as scratch:
        source = checkout(Path(scratch))
        first = Path(scratch, "install")
        shutil.copytree(source, first)
        for page in PAGES:
            install(page, first)
        for page in pages:
            directory = Path(scratch, page.replace("/", "-").removesuffix(".md"))
            shutil.copytree(source, directory)
            (directory / "venv").symlink_to(first / "venv")
            if not in_a_network(page, directory, first / "venv"):
                wrong.append(page)
    tell_others()
    print(f"{len(pages) - len(wrong)} of {len(pages)} pages are as they should be")
    return 1 if wrong else 0


def tell_others() -> None:
    """Say who runs what is not run here."""
    counted = Counter(OTHERS[block.how] for page in PAGES for block in blocks(page) if block.how in OTHERS)
    for who, count in sorted(counted.items()):
        print(f"{count} blocks are run by {who}")


def followed() -> list[str]:
    """The pages that have commands for one machine."""
    return [
        page
        for page in PAGES
        if any(block.language == "sh" and block.how in HERE and block.how != "install" for block in blocks(page))
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        sys.exit(inside(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])))
    found = Options(__doc__, followed()).read()
    sys.exit(exit_status(lambda: run(found.parts)))
