"""The log: what a line holds, what never stands in one, and that a broken stderr breaks nothing."""

from __future__ import annotations

import fcntl
import io
import json
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import LogBeginner, Logger, LogLevel, LogPublisher, globalLogPublisher
from twisted.python import log as legacy_log
from twisted.python.failure import Failure

from pico_twisted.net.log_lines import (
    HIDDEN,
    MAX_FIELD_CHARS,
    MAX_PENDING_BYTES,
    LineWriter,
    hide_secrets,
    subsystem_of,
)
from pico_twisted.net.logs import ACCESS_BUFFER_CHARS, AccessLog, Logging, real_stderr, start_logging

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60


@attrs.frozen(kw_only=True)
class Settings:
    """The `log` section."""

    level: str = "info"
    format: str = "json"
    subsystems: tuple[str, ...] = ()


class Log:
    """A log into memory, and loggers that write to it."""

    def __init__(self, **settings: Any) -> None:
        self.stream = io.StringIO()
        self.logging = Logging(Settings(**settings), self.stream, lambda: 1_700_000_000.25)

    def logger(self, namespace: str = "pico_twisted.net.tunnel") -> Logger:
        return Logger(namespace, observer=self.logging.observer)

    def event(self, severity: Any, said: str, /, **fields: Any) -> None:
        """Log an event whose fields may have any name."""
        event = {"log_level": severity, "log_namespace": "pico_twisted.net.tunnel", "log_format": said, **fields}
        self.logging.observer(event)

    @property
    def raw(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.raw]

    @property
    def messages(self) -> list[str]:
        return [line["message"] for line in self.lines]


class TestLines:
    def test_fields(self) -> None:
        """A line has time, level, subsystem, message and the event's plain fields, and nothing else."""
        log = Log()
        fields = {"log_time": 1_700_000_000.1239, "peer": "10.0.0.1:5", "tries": 3, "late": True, "why": None, "s": 0.5}
        log.event(LogLevel.info, "connected to {peer}", **fields, body=b"raw", many=[1], thing=object())
        assert log.lines == [
            {
                "time": "2023-11-14T22:13:20.123Z",
                "level": "info",
                "subsystem": "tunnel",
                "message": "connected to 10.0.0.1:5",
                "peer": "10.0.0.1:5",
                "tries": 3,
                "late": True,
                "why": None,
                "s": 0.5,
            }
        ]

    def test_field_names_of_a_line(self) -> None:
        """A field that has the name of a line's own part does not replace it."""
        log = Log()
        log.event(LogLevel.info, "hello", time=1, level="x", message="y", traceback="z")
        (line,) = log.lines
        assert (line["level"], line["message"], line["level_"]) == ("info", "hello", "x")
        assert (line["time_"], line["message_"], line["traceback_"]) == (1, "y", "z")

    def test_failure(self) -> None:
        """A failure is a field of one line, not a page."""
        log = Log()
        try:
            raise ValueError("broken")
        except ValueError:
            log.logger().failure("it went wrong")
        (line,) = log.lines
        assert (line["level"], line["message"]) == ("critical", "it went wrong")
        assert line["traceback"].startswith("Traceback")
        assert "ValueError: broken" in line["traceback"]

    def test_failure_without_words(self) -> None:
        """An event that is only a failure says which."""
        log = Log()
        log.logging.observer(
            {"log_level": LogLevel.critical, "log_namespace": "x", "log_failure": Failure(ValueError("broken"))}
        )
        assert log.messages == ["ValueError: broken"]

    def test_control_characters(self) -> None:
        """Nothing in an event can begin a second line or move the cursor, in either format."""
        nasty = "a\nb\r\x00\x1b[2J\x7f\x85\u2028\u202eb\udc80\U0001f600"
        for format in ("json", "text"):
            log = Log(format=format)
            log.logger("pico_twisted.x\ny").info("m {f}", f=nasty)
            text = log.stream.getvalue()
            assert text.count("\n") == 1
            assert text[:-1].replace("\U0001f600", "").isprintable()
        (line,) = (Log(), log)[:1]
        line.logger().info("m {f}", f=nasty)
        assert line.lines[0]["f"] == nasty

    def test_numbers_that_json_lacks(self) -> None:
        """Infinity is text; the line stays JSON."""
        log = Log()
        log.logger().info("x", a=float("inf"), b=float("nan"))
        assert "Infinity" not in log.raw[0]
        assert log.lines[0]["a"] == "inf"

    def test_long_words(self) -> None:
        """A peer's endless words are cut, in the message too."""
        log = Log()
        log.logger().info("{words}", words="x" * 1_000_000)
        assert len(log.raw[0]) < 3 * MAX_FIELD_CHARS

    def test_unshowable(self) -> None:
        """An object that raises when it is shown costs its words, not the program."""

        class Evil:
            def __str__(self) -> str:
                raise RuntimeError("no")

            __repr__ = __str__

        class EvilText(str):
            __slots__ = ()

            def __str__(self) -> str:
                raise RuntimeError("no")

        log = Log()
        log.logger().info("shown {evil}", evil=Evil())
        log.logger().info("shown", evil=EvilText("x"))
        log.logger().info("and on")
        assert len(log.lines) == 3
        assert log.messages[1] == "an event could not be logged: RuntimeError"
        assert log.messages[2] == "and on"

    def test_text(self) -> None:
        """The text format reads well and quotes what is not one word."""
        log = Log(format="text")
        fields = {"peer": "1.2.3.4:5", "reason": 'say "no"', "none": None, "empty": "", "ok": True}
        log.event(LogLevel.warn, "slow", log_time=1.5, **fields)
        assert log.raw == [
            "1970-01-01T00:00:01.500Z warn     tunnel: slow peer=1.2.3.4:5 "
            'reason="say \\"no\\"" none=null empty="" ok=true'
        ]

    @settings(deadline=None)
    @given(
        st.dictionaries(
            st.text(min_size=1), st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
        ),
        st.text(),
        st.sampled_from(["json", "text"]),
    )
    def test_any_event(self, fields: dict[str, Any], words: str, format: str) -> None:
        """Whatever is in an event, it is one line."""
        log = Log(format=format, level="debug")
        namespace = f"pico_twisted.{words}"
        log.logging.observer({"log_level": LogLevel.info, "log_namespace": namespace, "log_format": words, **fields})
        text = log.stream.getvalue()
        assert text.endswith("\n")
        assert len(text.splitlines()) == 1
        if format == "json":
            assert set(json.loads(text)) >= {"time", "level", "subsystem", "message"}


class TestLevels:
    def test_level(self) -> None:
        """What is less severe than the level is not written, and the level can change while running."""
        log = Log(level="warn")
        logger = log.logger()
        logger.info("one")
        logger.warn("two")
        log.logging.set_level("debug")
        logger.debug("three")
        log.logging.set_level("critical")
        logger.error("four")
        assert log.messages == ["two", "three"]

    def test_subsystems(self) -> None:
        """Named subsystems, and what lies below them, are written at every level; the others as before."""
        log = Log(level="warn", subsystems=("tunnel", "agent", "autobahn"))
        for namespace in (
            "pico_twisted.net.tunnel",
            "pico_twisted.net.agent.forwarder",
            "pico_twisted.net.proxy.channel",
            "pico_twisted.net.tunnels",
            "pico_twisted.app.agent",
            "autobahn.websocket.protocol",
            "txaio",
        ):
            log.logger(namespace).debug("from {namespace}", namespace=namespace)
        assert [line["subsystem"] for line in log.lines] == [
            "tunnel",
            "agent.forwarder",
            "autobahn.websocket.protocol",
        ]
        log.logging.set_level("info", ())
        log.logger().debug("no more")
        assert len(log.lines) == 3

    def test_names(self) -> None:
        """A subsystem is named as operators write it in the configuration."""
        assert subsystem_of("pico_twisted.net.proxy.channel") == "proxy.channel"
        assert subsystem_of("pico_twisted.app.node") == "app.node"
        assert subsystem_of("twisted.web.http") == "twisted.web.http"
        assert subsystem_of("log_legacy") == "twisted"


class TestLibraries:
    @pytest.fixture
    def log(self) -> Iterator[Log]:
        log = Log()
        globalLogPublisher.addObserver(log.logging.observer)
        yield log
        globalLogPublisher.removeObserver(log.logging.observer)

    def test_chatter(self, log: Log) -> None:
        """What libraries tell at level info is debug, also when Twisted says it of a factory of ours."""
        log.logger("twisted.web.http").info("Timing out client")
        log.logger("pico_twisted.net.proxy.channel").info("Starting factory {factory!r}", factory=1)
        legacy_log.msg("(TCP Port 8000 Closed)")
        legacy_log.msg("said by", "something old", system="old")
        assert log.lines == []
        log.logging.set_level("debug")
        log.logger("twisted.web.http").info("Timing out client")
        legacy_log.msg("(TCP Port 8000 Closed)")
        assert [(line["level"], line["subsystem"], line["message"]) for line in log.lines] == [
            ("debug", "twisted.web.http", "Timing out client"),
            ("debug", "twisted", "(TCP Port 8000 Closed)"),
        ]

    def test_complaints(self, log: Log, logged_failures: Any) -> None:
        """Warnings and errors of libraries are kept, those of the old interface too."""
        log.logger("autobahn.websocket").warn("beware")
        legacy_log.err(Failure(ValueError("broken")), "in something old")
        legacy_log.msg("an old error", isError=True)
        legacy_log.msg("an old warning", logLevel=30)
        found = [(line["level"], line["subsystem"], line["message"]) for line in log.lines]
        assert found == [
            ("warn", "autobahn.websocket", "beware"),
            ("error", "twisted", "in something old"),
            ("error", "twisted", "an old error"),
            ("warn", "twisted", "an old warning"),
        ]
        assert "ValueError: broken" in log.lines[1]["traceback"]
        logged_failures.flush(ValueError)

    def test_old_observers_beside_us(self, log: Log) -> None:
        """The keys that an observer of the old interface adds to an event do not reach the line."""
        publisher = legacy_log.theLogPublisher
        seen: list[Any] = []
        publisher.addObserver(seen.append)
        try:
            Logger("pico_twisted.net.tunnel").warn("hello", peer="x")
        finally:
            publisher.removeObserver(seen.append)
        globalLogPublisher(dict(seen[0]))
        assert len(log.lines) == 2
        for line in log.lines:
            assert set(line) == {"time", "level", "subsystem", "message", "peer"}


class TestSecrets:
    def test_fields(self) -> None:
        """Values of fields that are credentials are hidden, in the message too; their files and counts are not."""
        log = Log()
        log.logger().info(
            "token {token}, cookie {set_cookie}", token="T0P", set_cookie="a=b", token_file="/x", tokens=3, api_key="K"
        )
        (line,) = log.lines
        assert "T0P" not in log.raw[0]
        assert line["message"] == f"token {HIDDEN}, cookie {HIDDEN}"
        assert (line["token"], line["api_key"]) == (HIDDEN, HIDDEN)
        assert (line["token_file"], line["tokens"]) == ("/x", 3)

    @pytest.mark.parametrize(
        "text",
        [
            "Authorization: Bearer s3cr3ts3cr3t",
            "GET / HTTP/1.1\r\nProxy-Authorization: Basic s3cr3t==\r\nHost: x",
            "{'authorization': 'Bearer s3cr3ts3cr3t', 'host': 'x'}",
            "[(b'Cookie', b'a=s3cr3t; b=s3cr3t')]",
            "Headers({b'set-cookie': [b's3cr3t']})",
            'x-pico-authorization="s3cr3t"',
            "b'GET / HTTP/1.1\\r\\nCookie: s3cr3t\\r\\n'",
            "sent bearer s3cr3ts3cr3t to the node",
        ],
    )
    def test_headers(self, text: str) -> None:
        """Credentials in headers that a library prints are hidden, whatever way it prints them."""
        assert "s3cr3t" not in hide_secrets(text)
        assert HIDDEN in hide_secrets(text)
        log = Log()
        log.logger("autobahn.websocket").warn("{text}", text=text)
        assert "s3cr3t" not in log.raw[0]

    def test_endless_text(self) -> None:
        """Hostile text costs linear time, in a message and in a query."""
        log = Log()
        for text in ("a-" * 500_000, "cookie " * 100_000, "basic " * 100_000, "cookie='" * 100_000, " " * 1_000_000):
            log.logger().info("{text}", text=text)
        for query in ("token" * 100_000, "&token" * 100_000, "?" * 500_000):
            log.logging.access_log().request(**{**REQUEST, "target": b"/?" + query.encode()})
        log.logging.flush()
        assert len(log.lines) == 8
        assert sum(map(len, log.raw)) < 8 * 3 * MAX_FIELD_CHARS

    def test_plain_words(self) -> None:
        """Ordinary sentences about tokens and cookies stay as they are."""
        for text in ("no authorization, closing", "the token is too old", "a basic error", "cookies are not kept"):
            assert hide_secrets(text) == text

    def test_traceback(self) -> None:
        """Tracebacks are looked through too."""
        log = Log()
        try:
            raise ValueError("Authorization: Bearer s3cr3ts3cr3t")
        except ValueError:
            log.logger().failure("oops")
        assert "s3cr3t" not in log.raw[0]


REQUEST: dict[str, Any] = {
    "client": "10.0.0.9:51234",
    "method": b"GET",
    "target": b"/a?b=1",
    "endpoint": "my-endpoint",
    "upstream": "agent-1",
    "status": 200,
    "bytes_in": 0,
    "bytes_out": 12,
    "first_byte_s": 0.0012345,
    "duration_s": 0.002,
    "request_id": "r-1",
}


class TestAccessLog:
    def written(self, format: str = "json", **changed: Any) -> str:
        written: list[str] = []
        access = AccessLog(written.append, format, True, lambda: 1_700_000_000.25)
        access.request(**{**REQUEST, **changed})
        assert written == []
        access.flush()
        (text,) = written
        access.flush()
        assert len(written) == 1
        return text

    def test_json(self) -> None:
        """The line of a request, with everything that an operator looks for."""
        assert json.loads(self.written()) == {
            "time": "2023-11-14T22:13:20.250Z",
            "level": "info",
            "subsystem": "access",
            "message": "request",
            "client": "10.0.0.9:51234",
            "method": "GET",
            "target": "/a?b=1",
            "endpoint": "my-endpoint",
            "upstream": "agent-1",
            "status": 200,
            "bytes_in": 0,
            "bytes_out": 12,
            "first_byte_s": 0.001234,
            "duration_s": 0.002,
            "request_id": "r-1",
            "error": "",
        }

    def test_text(self) -> None:
        """The same as text."""
        assert self.written("text", error="not-here") == (
            '2023-11-14T22:13:20.250Z info     access: GET "/a?b=1" status=200 client=10.0.0.9:51234 '
            "endpoint=my-endpoint upstream=agent-1 bytes_in=0 bytes_out=12 first_byte_s=0.001234 duration_s=0.002000 "
            "request_id=r-1 error=not-here\n"
        )

    @pytest.mark.parametrize(("format", "end"), [("json", ',"worker":3}\n'), ("text", " worker=3\n")])
    def test_of_a_worker(self, format: str, end: str) -> None:
        """On a host with several workers a line ends with the number of the one that took the request."""
        written: list[str] = []
        access = AccessLog(written.append, format, True, lambda: 1_700_000_000.25, 3)
        access.request(**REQUEST)
        access.flush()
        assert written == [self.written(format).rstrip("}\n") + end]

    def test_failed_early(self) -> None:
        """A request without a head, an answer or an endpoint is a line as well."""
        found = json.loads(
            self.written(method=b"", target=b"", endpoint="", upstream="", first_byte_s=None, error="bad-request")
        )
        assert (found["method"], found["first_byte_s"], found["error"]) == ("", None, "bad-request")

    @settings(deadline=None)
    @given(st.binary(), st.binary(), st.text(), st.sampled_from(["json", "text"]))
    def test_any_bytes(self, method: bytes, target: bytes, words: str, format: str) -> None:
        """Whatever bytes a client sends, its line is one line."""
        text = self.written(format, method=method, target=target, endpoint=words, request_id=words)
        assert len(text.splitlines()) == 1
        assert text[:-1].isprintable()
        if format == "json":
            found = json.loads(text)
            assert found["endpoint"] == words

    def test_credentials_in_the_query(self) -> None:
        """Values of query parameters that look like credentials are hidden; the others are kept."""
        found = json.loads(self.written(target=b"/x?page=2&access_token=s3cr3t&API-KEY=s3cr3t&sort=token"))
        assert found["target"] == f"/x?page=2&access_token={HIDDEN}&API-KEY={HIDDEN}&sort=token"

    def test_buffer(self) -> None:
        """Lines are gathered, but never more than a bounded amount."""
        written: list[str] = []
        access = AccessLog(written.append)
        for _ in range(1000):
            access.request(**REQUEST)
        assert 1 < len(written) < 20
        assert all(len(text) < ACCESS_BUFFER_CHARS + 1000 for text in written)

    def test_disabled(self) -> None:
        """Switched off it writes nothing, and it can be switched on while running."""
        log = Log(level="error")
        access = log.logging.access_log(False)
        access.request(**REQUEST)
        access.enabled = True
        access.request(**REQUEST)
        log.logging.flush()
        assert len(log.lines) == 1
        access.request(**REQUEST)
        log.logging.stop()
        assert len(log.lines) == 2


class TestBrokenStreams:
    def writer(self, stream: Any) -> LineWriter:
        return LineWriter(stream, lambda count: f"lost {count}\n")

    def test_reader_gone(self) -> None:
        """Nothing is raised when nobody reads stderr any more."""
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "w", buffering=1) as stream:
            writer = self.writer(stream)
            for _ in range(3):
                writer.write("line\n")
            assert writer.lost == 3

    def test_full_disk(self) -> None:
        """Nothing is raised when the disk is full."""
        with open("/dev/full", "w") as stream:
            writer = self.writer(stream)
            writer.write("one\ntwo\n")
            writer.write("three\n")
            assert writer.lost == 3
            writer.flush(1.0)

    def test_closed(self) -> None:
        """Nor when the stream is closed, with a descriptor or without."""
        for stream in (io.StringIO(), open(os.devnull, "w")):  # noqa: SIM115
            writer = self.writer(stream)
            stream.close()
            writer.write("line\n")
            assert writer.lost == 1

    def test_told_afterwards(self) -> None:
        """When lines can be written again, one says how many were lost."""

        class Sometimes(io.StringIO):
            broken = False

            def write(self, text: str) -> int:
                if self.broken:
                    raise OSError("no space")
                return super().write(text)

        stream = Sometimes()
        writer = self.writer(stream)
        writer.write("one\n")
        stream.broken = True
        writer.write("two\nthree\n")
        writer.write("four\n")
        stream.broken = False
        writer.write("five\n")
        writer.write("six\n")
        assert stream.getvalue() == "one\nlost 3\nfive\nsix\n"
        assert writer.lost == 0

    def test_slow_reader(self) -> None:
        """A full non-blocking stream keeps lines waiting, a bounded amount, and each arrives whole and in order."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        os.set_blocking(reading, False)
        fcntl.fcntl(writing, 1031, 4096)  # F_SETPIPE_SZ
        with os.fdopen(writing, "w") as stream, os.fdopen(reading, "rb", buffering=0) as reader:
            writer = self.writer(stream)
            count = 0
            while not writer.lost:
                writer.write(f"{count} {'x' * 1000}\n")
                count += 1
            assert 0.9 * MAX_PENDING_BYTES < count * 1000 < 1.1 * MAX_PENDING_BYTES
            found = b""
            while piece := reader.read(1 << 20):
                found += piece
                writer.flush()
            writer.write("last\n")
            found += reader.read(1 << 20) or b""
            lines = found.decode().split("\n")
            assert [line.split()[0] for line in lines[:-4]] == [str(n) for n in range(count - 1)][: len(lines) - 4]
            assert lines[-3:] == ["lost 1", "last", ""]
            assert {len(line) for line in lines[:-3]} <= {1002, 1003, 1004, 1005}

    def test_lines_of_two_processes(self) -> None:
        """In a pipe that is full again and again lines of several writers stay whole, long ones apart."""
        reading, writing = os.pipe()
        fcntl.fcntl(writing, 1031, 8192)  # F_SETPIPE_SZ
        text = "".join(f"{number} {'x' * 300}\n" for number in range(2000))
        streams = [os.fdopen(os.dup(writing), "w") for _ in range(2)]
        threads = [threading.Thread(target=self.writer(stream).write, args=(text,)) for stream in streams]
        for thread in threads:
            thread.start()
        found = b""
        while found.count(b"\n") < 4000:
            found += os.read(reading, 1000)
        for thread in threads:
            thread.join()
        for stream in streams:
            stream.close()
        os.close(reading)
        os.close(writing)
        assert sorted(found.decode().splitlines()) == sorted(2 * text.splitlines())

    def test_torn_line(self, tmp_path: Path) -> None:
        """A line of which only a part could be written is ended before the next one."""
        path = tmp_path / "log"
        program = """
            import os, resource, signal, sys
            from pico_twisted.net.log_lines import LineWriter
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            stream = open(sys.argv[1], "w")
            writer = LineWriter(stream, lambda count: f"lost {count}\\n")
            resource.setrlimit(resource.RLIMIT_FSIZE, (50, resource.RLIM_INFINITY))
            writer.write("a" * 39 + "\\n")
            writer.write("b" * 39 + "\\n")
            writer.write("c" * 39 + "\\n")
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            writer.write("d\\n")
        """
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), str(path)], check=True, cwd=ROOT, timeout=DEADLINE_S
        )
        assert path.read_text().split("\n") == ["a" * 39, "b" * 10, "lost 2", "d", ""]


class TestInstalling:
    def test_before_the_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was logged before the log was started comes out with it, and `stop` ends it."""
        publisher = LogPublisher()
        monkeypatch.setattr("pico_twisted.net.logs.globalLogPublisher", publisher)
        beginner = LogBeginner(publisher, io.StringIO(), sys, type("NoWarnings", (), {"showwarning": None}))
        monkeypatch.setattr("pico_twisted.net.logs.globalLogBeginner", beginner)
        early = Logger("pico_twisted.app.node", observer=publisher)
        early.info("early")
        stream = io.StringIO()
        logging = start_logging(Settings(), stream)
        early.info("later")
        logging.stop()
        logging.stop()
        early.info("too late")
        assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["early", "later"]

    def test_real_stderr(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A process without stderr logs nowhere, and raises nothing."""
        monkeypatch.setattr(sys, "stderr", None)
        monkeypatch.setattr(sys, "__stderr__", None)
        real_stderr().write("x")
        real_stderr().flush()


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
from pico_twisted.net.logs import log_under_twistd

log = Logger("pico_twisted.app.throwaway")

@attrs.frozen
class Settings:
    level: str
    format: str
    subsystems: tuple = ()

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
        self.access.request(client="c", method=b"GET", target=b"/", endpoint="e", upstream="u", status=200, bytes_in=0,
            bytes_out=0, first_byte_s=None, duration_s=0.0, request_id="r")
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
