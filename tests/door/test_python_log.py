"""What a program of asyncio is told, in the log that it knows."""

from __future__ import annotations

import asyncio
import logging

import pytest
from twisted.logger import Logger

from pico_twisted.aio import expose
from tests.conftest import LoggedFailures


def test_a_node_that_is_away_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """With the reason, as a warning, which Python shows also where no log was set up; and nothing once all is over."""

    async def start() -> None:
        async with expose("web", 1, url="http://127.0.0.1:1"):
            raise AssertionError("nobody is there")

    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(start(), 1))
    told = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert told and told[0].name.startswith("pico_twisted.") and "nothing listens there" in told[0].getMessage()
    assert "http://127.0.0.1:1" in told[0].getMessage()
    caplog.clear()
    Logger("pico_twisted.net.tunnel").warn("Nobody asked")
    assert not caplog.records


def test_what_is_told(caplog: pytest.LogCaptureFixture, logged_failures: LoggedFailures) -> None:
    """Fields that the message does not have, no credentials, tracebacks; nothing of other parts of Twisted."""
    caplog.set_level(logging.INFO)

    async def tell() -> None:
        starting = asyncio.ensure_future(expose("web", 1, url="http://127.0.0.1:1").start())
        await asyncio.sleep(0)
        log = Logger("pico_twisted.net.tunnel")
        log.info("It says {what}", what="this", where="there", token="s3cret")
        log.debug("Nobody wants this")
        Logger("twisted.web").info("nor this")
        try:
            raise ZeroDivisionError("of the program")
        except ZeroDivisionError:
            log.failure("It failed")
        starting.cancel()
        await asyncio.wait([starting])

    asyncio.run(tell())
    told = [(record.levelno, record.getMessage()) for record in caplog.records if record.name.endswith("net.tunnel")]
    assert told[0] == (logging.INFO, "It says this where=there token=(hidden)")
    assert told[1][0] == logging.CRITICAL and told[1][1].startswith("It failed\nTraceback")
    assert "ZeroDivisionError: of the program" in told[1][1] and len(told) == 2
    assert not any("nor this" in record.getMessage() for record in caplog.records)
    logged_failures.flush(ZeroDivisionError)
