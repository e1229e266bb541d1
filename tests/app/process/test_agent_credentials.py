"""What an agent shows of who it is, read again when its files change, and what it warns of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.logger import capturedLogs

from pico_twisted.app.process.agent_credentials import AgentCredentials, warn_of_plain_tokens
from pico_twisted.config import ClientTlsConfig, ConnectConfig
from tools.stage.certificates import make


class Shown:
    """An agent that keeps what it is to show."""

    def __init__(self) -> None:
        self.all: list[tuple[str, bool]] = []

    def show(self, connect: ConnectConfig, *, other_certificate: bool = False) -> None:
        """Keep it."""
        self.all.append((connect.token, other_certificate))


def section(directory: Path, token: str = "first") -> ConnectConfig:
    """With a token and a certificate in files."""
    file = directory / "token"
    file.write_text(token + "\n")
    made = make(directory, "agent", client=True)
    return ConnectConfig(token=token, token_file=str(file), tls=ClientTlsConfig(cert=made.cert_file, key=made.key_file))


def look(credentials: AgentCredentials) -> tuple[list[str], list[str]]:
    """Read the files again. Returns what changed, and what is wrong."""
    take, faults = credentials.read_again()
    return list(take()), list(faults)


def test_files_that_change(tmp_path: Path) -> None:
    """Another token and another certificate are shown, each told without the token; what is the same is not told."""
    agent: Any = Shown()
    credentials = AgentCredentials(agent, section(tmp_path))
    assert {Path(name).name for name in credentials.files()} == {"token", "agent.pem", "agent.key"}
    assert look(credentials) == ([], []) and agent.all[-1] == ("first", False)
    (tmp_path / "token").write_text("second\n")
    assert look(credentials) == (["connect.token_file has another token"], [])
    assert agent.all[-1] == ("second", False)
    make(tmp_path, "agent", client=True, days=(-1, 20))
    ((words,), faults) = look(credentials)
    assert words.startswith("client certificate until ") and faults == []
    assert agent.all[-1] == ("second", True)
    assert look(credentials) == ([], [])


@pytest.mark.parametrize("content", ["", "two tokens\n", "\x00", None])
def test_files_that_cannot_be_used(tmp_path: Path, content: str | None) -> None:
    """What was shown before is shown on, one file has nothing to do with the other, and a fault has no secret."""
    agent: Any = Shown()
    credentials = AgentCredentials(agent, section(tmp_path))
    if content is None:
        (tmp_path / "token").unlink()
    else:
        (tmp_path / "token").write_text(content)
    make(tmp_path, "agent", client=True, days=(-1, 20))
    changes, (fault,) = look(credentials)
    assert fault == f"connect.token_file: {tmp_path / 'token'} holds no token"
    assert len(changes) == 1 and agent.all[-1] == ("first", True)
    (tmp_path / "token").write_text("second\n")
    (tmp_path / "agent.key").write_text("no key")
    changes, (fault,) = look(credentials)
    assert "agent.key" in fault and agent.all[-1] == ("second", False)


def test_a_reload_meanwhile_counts_more(tmp_path: Path) -> None:
    """What was read of the files of a configuration is not taken when there is another one."""
    agent: Any = Shown()
    credentials = AgentCredentials(agent, section(tmp_path))
    (tmp_path / "token").write_text("second\n")
    take, _ = credentials.read_again()
    credentials.take(ConnectConfig(token="third"))
    assert list(take()) == [] and agent.all == [("third", False)] and credentials.files() == []


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://pico.example.com:8002", True),
        ("ws://192.0.2.1", True),
        ("http://[2001:db8::1]:8002", True),
        ("https://pico.example.com", False),
        ("wss://192.0.2.1", False),
        ("http://localhost:8002", False),
        ("http://127.8.8.8:8002", False),
        ("ws://[::1]:8002", False),
        ("http://localhost.example.com", True),
    ],
)
def test_a_token_without_tls(url: str, warned: bool) -> None:
    """To another machine it is warned of, and not with the token; without one there is nothing to warn of."""
    with capturedLogs() as events:
        warn_of_plain_tokens(ConnectConfig(url=(url,), token="secret"))
        warn_of_plain_tokens(ConnectConfig(url=(url,)))
    assert [event["url"] for event in events] == [url] * warned and "secret" not in str(events)
