"""`pico:` in strings of endpoints, and the settings of a program: what is taken, and what is told of what is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock

from pico_twisted import Tunnel
from pico_twisted.config import AgentConfig
from pico_twisted.door.server_endpoint import PicoServerEndpoint
from pico_twisted.door.settings import EndpointSettings, agent_config
from tools.stage.processes import ROOT


def listening_at(text: str) -> AgentConfig:
    """What an endpoint string says, as the configuration of an agent."""
    endpoint: Any = serverFromString(Clock(), text)
    assert isinstance(endpoint, PicoServerEndpoint)
    return endpoint.config


def test_a_string_says_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes, token and authorities; colons in values are escaped as Twisted has it."""
    monkeypatch.setenv("PICO_URL", "http://unused:1")
    (tmp_path / "token").write_text("a-token\n")
    text = rf"pico:demo:url=https\://a.example\:8002,https\://b.example\:8003:token_file={tmp_path}/token"
    config = listening_at(text)
    assert config.connect.url == ("https://a.example:8002", "https://b.example:8003")
    assert config.connect.token == "a-token"
    assert [one.endpoint for one in config.listeners] == ["demo"]
    assert config.listeners[0].reuse == "never"
    assert listening_at("pico:demo:token=t").connect.token == "t"


def test_the_environment_says_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pico:demo` alone is enough where the environment names the nodes; without it they are on this machine. A token
    of the program's own is not mixed with a file of the environment."""
    monkeypatch.delenv("PICO_URL", raising=False)
    assert listening_at("pico:demo").connect.url == ("http://localhost:8002",)
    (tmp_path / "token").write_text("of-the-environment\n")
    monkeypatch.setenv("PICO_URL", "http://a:8002,http://b:8002")
    monkeypatch.setenv("PICO_TOKEN_FILE", str(tmp_path / "token"))
    config = listening_at("pico:demo")
    assert (config.connect.url, config.connect.token) == (("http://a:8002", "http://b:8002"), "of-the-environment")
    assert listening_at("pico:demo:token=mine").connect.token == "mine"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pico:", "expected one endpoint ID, such as pico:demo, found none"),
        ("pico", "expected one endpoint ID"),
        ("pico:demo:url=http://a", r"found 2 .*a colon in a value is written \\:"),
        ("pico:demo:port=80", "pico:demo: does not know port; it takes url, token, token_file, ca, protocol"),
        ("pico:a b", "endpoint: found .*a b.*expected"),
        (r"pico:demo:url=ftp\://a", r"^url\[0\]: found .*ftp.*expected the http, https, ws or wss URL of a node"),
        ("pico:demo:token_file=/no/such/file", "^token_file: found .*No such file"),
        ("pico:demo:token=a b", "^token: found a value that is not shown here"),
        ("pico:demo:ca=/no/such/file", "^ca: found"),
        ("pico:demo:protocol=udp", "^protocol: found .*udp"),
        ("pico:demo:protocol=", "^protocol: found"),
        ("pico:demo:protocol=grpc", "^protocol: found .*grpc.*expected http or tcp, which a factory can speak"),
    ],
)
def test_what_is_wrong_is_told_in_words(text: str, words: str) -> None:
    """By the names that the string has, and before anything is dialled."""
    with pytest.raises(ValueError, match=words):
        serverFromString(Clock(), text)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("localhost:1x", "^target: found .*1x.*expected where the service listens"),
        ("", "^target: found nothing"),
        (0, "^target: found"),
        (None, "^target: found None, expected a protocol factory, a port, or an address"),
        (b"bytes", "^target: found b'bytes'"),
    ],
)
def test_a_target_that_is_none(target: Any, words: str) -> None:
    """A tunnel says so when it is made."""
    with pytest.raises(ValueError, match=words):
        Tunnel("demo", target)


def test_grpc_is_of_services_at_an_address() -> None:
    """A factory gets connections of HTTP/1.1, or as they are: what it would make of gRPC's is not guessed at."""
    assert Tunnel("demo", 50051, protocol="grpc").endpoint == "demo"
    with pytest.raises(ValueError, match="which a factory can speak"):
        Tunnel("demo", Factory(), protocol="grpc")


def test_all_that_is_wrong_is_told_at_once() -> None:
    """As with a configuration."""
    settings = EndpointSettings(endpoint="demo", url="http://a:99999", token="a b")
    with pytest.raises(ValueError, match=r"url\[0\]: found .*; token: found"):
        agent_config(settings, "localhost:x", environ={})


def test_a_service_of_its_own_address_keeps_its_connections() -> None:
    """Only what is in memory has one for each call."""
    config = agent_config(
        EndpointSettings(endpoint="demo", url=("http://a:1", "http://b:2")), "unix:/run/app", environ={}
    )
    assert (str(config.listeners[0].addr), config.listeners[0].reuse) == ("unix:/run/app", "safe")
    assert config.connect.url == ("http://a:1", "http://b:2")


def test_nothing_heavy_is_imported_for_the_names() -> None:
    """Twisted loads all plugins for the endpoints of any program; the package itself is imported by all commands."""
    program = (
        "import sys\n"
        "import pico_twisted\n"
        "assert 'twisted' not in sys.modules\n"
        "from twisted.plugins import pico_endpoints\n"
        "heavy = {'twisted.internet.reactor', 'klein', 'autobahn', 'attrs', 'OpenSSL', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "from pico_twisted import Tunnel\n"
        "import pico_twisted.aio, pico_twisted.door.pytest_plugin\n"
        "assert 'twisted.internet.reactor' not in sys.modules and 'klein' not in sys.modules\n"
        "try:\n"
        "    pico_twisted.tunnels\n"
        "except AttributeError as error:\n"
        "    assert 'tunnels' in str(error)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, timeout=60)
