"""The log: what a line holds, what never stands in one, and that a broken stderr breaks nothing."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.protocol import Factory
from twisted.internet.tcp import Port
from twisted.logger import LogBeginner, Logger, LogLevel, LogPublisher, globalLogPublisher
from twisted.python import log as legacy_log
from twisted.python.failure import Failure

from pico_twisted.config.common import LogConfig
from pico_twisted.core.secret_names import HIDDEN
from pico_twisted.net.observe.formats import Place, chosen_format, line_maker, place_of
from pico_twisted.net.observe.lines import (
    MAX_FIELD_CHARS,
    NO_DESCRIPTORS,
    hide_secrets,
    subsystem_of,
)
from pico_twisted.net.observe.logs import Logging, real_stderr
from tests.net.observe.test_access_log import REQUEST


class Log:
    """A log into memory, and loggers that write to it."""

    def __init__(self, **settings: Any) -> None:
        self.stream = io.StringIO()
        self.logging = Logging(LogConfig(**settings), self.stream, lambda: 1_700_000_000.25)

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


@pytest.fixture
def log() -> Log:
    """A log of the level info."""
    return Log()


class TestLines:
    def test_fields(self, log: Log) -> None:
        """A line has time, level, subsystem, message and the event's plain fields, and nothing else."""
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

    def test_field_names_of_a_line(self, log: Log) -> None:
        """A field that has the name of a line's own part does not replace it."""
        log.event(LogLevel.info, "hello", time=1, level="x", message="y", traceback="z")
        (line,) = log.lines
        assert (line["level"], line["message"], line["level_"]) == ("info", "hello", "x")
        assert (line["time_"], line["message_"], line["traceback_"]) == (1, "y", "z")

    def test_failure(self, log: Log) -> None:
        """A failure is a field of one line, not a page."""
        try:
            raise ValueError("broken")
        except ValueError:
            log.logger().failure("it went wrong")
        (line,) = log.lines
        assert (line["level"], line["message"]) == ("critical", "it went wrong")
        assert line["traceback"].startswith("Traceback")
        assert "ValueError: broken" in line["traceback"]

    def test_failure_without_words(self, log: Log) -> None:
        """An event that is only a failure says which."""
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

    def test_what_the_message_tells(self) -> None:
        """Text says nothing twice: not a field that stands in the message, nor the words of one that was put there."""
        log = Log(format="text")
        reason = "the node refused (404)"
        log.event(LogLevel.warn, "Could not register: {why}", log_time=1.5, why=reason, reason=reason, endpoint="web")
        assert log.raw == [f"1970-01-01T00:00:01.500Z warn     tunnel: Could not register: {reason} endpoint=web"]

    @pytest.mark.parametrize(
        ("place", "format", "lines"),
        [
            (Place.TERMINAL, "text", ["00:00:01  up n=1", "00:00:01  warn: up n=1", "00:00:01  debug x.y: up n=1"]),
            (Place.JOURNAL, "text", ["<6>x.y: up n=1", "<4>x.y: up n=1", "<7>x.y: up n=1"]),
        ],
    )
    def test_places(self, place: Place, format: str, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """On a terminal a line has the time of day; for the journal, which adds the time, it has a priority."""
        monkeypatch.setattr("time.localtime", time.gmtime)
        render = line_maker(format, place)
        fields = {"subsystem": "x.y", "message": "up", "n": 1}
        levels = ("info", "warn", "debug")
        assert [render(1.5, {"level": level, **fields}, "up") for level in levels] == [f"{line}\n" for line in lines]

    def test_numbers_that_json_lacks(self, log: Log) -> None:
        """Infinity is text; the line stays JSON."""
        log.logger().info("x", a=float("inf"), b=float("nan"))
        assert "Infinity" not in log.raw[0]
        assert log.lines[0]["a"] == "inf"

    def test_long_words(self, log: Log) -> None:
        """A peer's endless words are cut, in the message too."""
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
            "pico_twisted.net.agent.serving.forwarder",
            "pico_twisted.net.proxy.http1.channel",
            "pico_twisted.net.tunnels",
            "pico_twisted.app.agent",
            "autobahn.websocket.protocol",
            "txaio",
        ):
            log.logger(namespace).debug("from {namespace}", namespace=namespace)
        assert [line["subsystem"] for line in log.lines] == [
            "tunnel",
            "agent.serving.forwarder",
            "autobahn.websocket.protocol",
        ]
        log.logging.set_level("info", ())
        log.logger().debug("no more")
        assert len(log.lines) == 3

    def test_names(self) -> None:
        """A subsystem is named as operators write it in the configuration."""
        assert subsystem_of("pico_twisted.net.proxy.http1.channel") == "proxy.http1.channel"
        assert subsystem_of("pico_twisted.app.node") == "app.node"
        assert subsystem_of("twisted.web.http") == "twisted.web.http"
        assert subsystem_of("log_legacy") == "twisted"


class Exhausted:
    """A listening socket of a process that may open no more files."""

    def accept(self) -> None:
        """Fail as the kernel does."""
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


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
        log.logger("pico_twisted.net.proxy.http1.channel").info("Starting factory {factory!r}", factory=1)
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

    def test_no_descriptors(self, log: Log) -> None:
        """That connections are closed since no descriptor is left is a warning, though Twisted calls it an info: no
        port could tell anybody, since none takes a connection. It comes now and then, however many are closed."""
        port = Port(0, Factory())
        port.socket, port.numberAccepts = Exhausted(), 9
        for _ in range(3):
            port.doRead()
        assert [(line["level"], line["message"]) for line in log.lines] == [("warn", NO_DESCRIPTORS)]

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
    def test_fields(self, log: Log) -> None:
        """Values of fields that are credentials are hidden, in the message too; their files and counts are not."""
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

    def test_own_tokens(self) -> None:
        """A token of ours is hidden wherever it stands."""
        assert hide_secrets(f"GET /?a=pico_{'5e' * 32}&b=1") == f"GET /?a={HIDDEN}&b=1"

    def test_endless_text(self, log: Log) -> None:
        """Hostile text costs linear time, in a message and in a query."""
        for text in ("a-" * 500_000, "cookie " * 100_000, "basic " * 100_000, "cookie='" * 100_000, " " * 1_000_000):
            log.logger().info("{text}", text=text)
        for query in ("token" * 100_000, "&token" * 100_000, "?" * 500_000):
            log.logging.access_log().request({**REQUEST, "target": b"/?" + query.encode()})
        log.logging.flush()
        assert len(log.lines) == 8
        assert sum(map(len, log.raw)) < 8 * 3 * MAX_FIELD_CHARS

    def test_plain_words(self) -> None:
        """Ordinary sentences about tokens and cookies stay as they are."""
        for text in ("no authorization, closing", "the token is too old", "a basic error", "cookies are not kept"):
            assert hide_secrets(text) == text

    def test_traceback(self, log: Log) -> None:
        """Tracebacks are looked through too."""
        try:
            raise ValueError("Authorization: Bearer s3cr3ts3cr3t")
        except ValueError:
            log.logger().failure("oops")
        assert "s3cr3t" not in log.raw[0]


class TestPlaces:
    def test_what_auto_means(self, tmp_path: Path) -> None:
        """Lines for people on a terminal and in the journal, and JSON elsewhere, unless something else is asked for."""
        primary, secondary = os.openpty()
        with open(tmp_path / "log", "w") as file:
            status = os.fstat(file.fileno())
            journal = f"{status.st_dev}:{status.st_ino}"
            assert place_of(secondary, "") is Place.TERMINAL
            assert place_of(file.fileno(), journal) is Place.JOURNAL
            assert place_of(file.fileno(), "1:2") is place_of(None, journal) is place_of(-1, "") is Place.ELSEWHERE
        os.close(primary)
        os.close(secondary)
        assert [chosen_format("auto", place) for place in Place] == ["text", "text", "json"]
        assert {chosen_format("json", place) for place in Place} == {"json"}

    def test_nothing_stands_above_the_banner(self) -> None:
        """On a terminal lines of level info come below the banner, or are told by it; trouble is told at once."""
        primary, secondary = os.openpty()
        with open(secondary, "w") as terminal, open(primary, "rb", buffering=0) as screen:
            logging = Logging(LogConfig(), terminal, console=terminal)
            logging.start()
            logging.await_banner()
            logger = Logger("pico_twisted.x", observer=logging.observer)
            logger.info("registered")
            logger.warn("trouble")
            logging.banner("Pico is up\n")
            logger.info("more")
            seen = b""
            while b"more" not in seen:
                seen += screen.read(1000)
        lines = [line.split("  ")[-1] for line in seen.decode().split("\r\n")]
        assert lines[:3] == ["warn: trouble", "Pico is up", "more"]


class TestInstalling:
    def test_before_the_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was logged before the log was started comes out with it, and `stop` ends it."""
        publisher = LogPublisher()
        monkeypatch.setattr("pico_twisted.net.observe.logs.globalLogPublisher", publisher)
        beginner = LogBeginner(publisher, io.StringIO(), sys, type("NoWarnings", (), {"showwarning": None}))
        early = Logger("pico_twisted.app.node", observer=publisher)
        early.info("early")
        stream = io.StringIO()
        logging = Logging(LogConfig(), stream)
        beginner.beginLoggingTo([logging.observer], redirectStandardIO=False)
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
