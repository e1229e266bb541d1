"""The log of a daemon that twistd runs: every line, wherever twistd would write its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.net.observe.test_log_writer import DEADLINE_S, ROOT

PLUGIN = """
from twisted.application.service import ServiceMaker
throwaway = ServiceMaker("throwaway", "throwaway", "for a test", "throwaway")
"""

MODULE = """
import sys, warnings
import attrs
from twisted.application.service import MultiService
from twisted.internet.protocol import Factory
from twisted.logger import ILogObserver, Logger
from twisted.python import log as legacy, usage
from twisted.python.components import Componentized
from pico_twisted.net.observe.logs import log_under_twistd

log = Logger("pico_twisted.app.throwaway")

@attrs.frozen
class Settings:
    level: str
    format: str
    subsystems: tuple = ()
    access_format: str = "auto"

class Options(usage.Options):
    optParameters = [["level", None, "info"], ["format", None, "json"]]

    def postOptions(self):
        log.info("while reading options")
        self.logging = log_under_twistd(Settings(self["level"], self["format"]), self.parent)

class Service(MultiService):
    def __init__(self, logging):
        super().__init__()
        self.logging = logging

    def setServiceParent(self, parent):
        super().setServiceParent(parent)
        if isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self.logging.observer)

    def startService(self):
        super().startService()
        self.logging.start()
        from twisted.internet import reactor
        reactor.callWhenRunning(self.run, reactor)

    def run(self, reactor):
        self.access = self.logging.access_log()
        log.info("running", answer=42)
        legacy.msg("old chatter")
        print("printed")
        print("to stderr", file=sys.stderr)
        warnings.warn("beware", RuntimeWarning)
        try:
            1 / 0
        except ZeroDivisionError:
            log.failure("a failure")
        port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
        port.stopListening()
        self.access.request(dict(client="c", proxies=b"", method=b"GET", target=b"/", endpoint="e", upstream="u",
            status=200, bytes_in=0, bytes_out=0, first_byte_s=None, duration_s=0.0, request_id="r", error="",
            protocol="HTTP/1.1", fields={}, subject=""))
        reactor.callLater(0, reactor.stop)

    def stopService(self):
        log.info("stopping")
        self.logging.flush()
        return super().stopService()

def makeService(options):
    return Service(options.logging)
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A directory with a plugin for twistd in it."""
    (tmp_path / "twisted" / "plugins").mkdir(parents=True)
    (tmp_path / "twisted" / "plugins" / "throwaway_dropin.py").write_text(PLUGIN)
    (tmp_path / "throwaway.py").write_text(MODULE)
    return tmp_path


def twistd(directory: Path, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run twistd to its end in that directory."""
    return subprocess.run(
        [sys.executable, "-c", RUN_TWISTD, *arguments],
        check=False,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": f"{directory}{os.pathsep}{ROOT}"},
        timeout=DEADLINE_S,
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more},
    )


RUN_TWISTD = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"


class TestTwistd:
    def test_json_on_stderr(self, plugin: Path) -> None:
        """Under `twistd -n` every line on stderr is JSON, from the first on, and stdout stays empty."""
        done = twistd(plugin, "-n", "--pidfile=", "throwaway")
        assert done.returncode == 0
        assert done.stdout == ""
        lines = [json.loads(line) for line in done.stderr.splitlines()]
        found = [(line["level"], line["subsystem"], line["message"]) for line in lines]
        warning = found.pop(4)
        assert warning[0] == "warn"
        assert "RuntimeWarning: beware" in warning[2]
        assert found == [
            ("info", "app.throwaway", "while reading options"),
            ("info", "app.throwaway", "running"),
            ("info", "stdout", "printed"),
            ("error", "stderr", "to stderr"),
            ("critical", "app.throwaway", "a failure"),
            ("info", "app.throwaway", "stopping"),
            ("info", "access", "request"),
        ]

    def test_debug(self, plugin: Path) -> None:
        """At level debug the chatter of twistd and Twisted is there, as JSON."""
        done = twistd(plugin, "-n", "--pidfile=", "throwaway", "--level=debug")
        assert done.stdout == ""
        messages = [json.loads(line)["message"] for line in done.stderr.splitlines()]
        assert any(message.endswith("starting up.") for message in messages)
        assert "Server Shut Down." in messages
        assert "old chatter" in messages

    def test_text(self, plugin: Path) -> None:
        """The text format, one line each."""
        done = twistd(plugin, "-n", "--pidfile=", "throwaway", "--format=text")
        assert done.stdout == ""
        lines = done.stderr.splitlines()
        assert len(lines) == 8
        assert lines[1].endswith("info     app.throwaway: running answer=42")

    def test_logfile(self, plugin: Path) -> None:
        """`--logfile` and the background get the same lines, in a file."""
        for arguments in (("-n", "--pidfile=", "--logfile=own.log"), ("-n", "--pidfile=", "--logfile=-")):
            done = twistd(plugin, *arguments, "throwaway")
            assert done.stderr == ""
            text = done.stdout if arguments[-1].endswith("-") else (plugin / "own.log").read_text()
            assert len([json.loads(line) for line in text.splitlines()]) == 8

    def test_a_start_that_comes_to_nothing(self, plugin: Path) -> None:
        """What twistd says of a start that fails before the daemon's is written too."""
        done = twistd(plugin, "-n", f"--pidfile={plugin}/no/pid", "throwaway")
        assert done.returncode == 1
        assert f"No such file or directory: '{plugin}/no/pid'" in done.stderr

    def test_stderr_closed(self, plugin: Path) -> None:
        """A daemon whose stderr nobody reads runs to its end all the same."""
        reading, writing = os.pipe()
        os.close(reading)
        try:
            assert twistd(plugin, "-n", "--pidfile=", "throwaway", stderr=writing).returncode == 0
        finally:
            os.close(writing)
        with open("/dev/full", "w") as full:
            assert twistd(plugin, "-n", "--pidfile=", "throwaway", stderr=full).returncode == 0

    def test_tac_file(self, plugin: Path) -> None:
        """A .tac file can have the same log."""
        (plugin / "service.tac").write_text(
            "from twisted.application.service import Application\n"
            "from throwaway import Service, Settings, log_under_twistd\n"
            "application = Application('throwaway')\n"
            "Service(log_under_twistd(Settings('info', 'json'), {})).setServiceParent(application)\n"
        )
        done = twistd(plugin, "-n", "--pidfile=", "-y", "service.tac")
        assert done.stdout == ""
        assert json.loads(done.stderr.splitlines()[0])["message"] == "running"
