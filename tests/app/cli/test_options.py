"""The command lines of both daemons."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from pico_twisted.app.cli.options import AgentOptions, DaemonOptions, NodeOptions
from pico_twisted.config import Address, AgentConfig, NodeConfig
from pico_twisted.config.fields import all_keys

ROOT = Path(__file__).resolve().parents[2]
Faults = Callable[..., list[str]]

OPTIONS: list[tuple[type[DaemonOptions[Any]], type[Any]]] = [(NodeOptions, NodeConfig), (AgentOptions, AgentConfig)]


def parsed(options: DaemonOptions[Any], *arguments: str) -> Any:
    options.parseOptions(list(arguments))
    return options.config


@pytest.fixture
def faults(capsys: pytest.CaptureFixture[str]) -> Faults:
    """Parses a command line that must be refused, and returns what was said on stderr."""

    def parse(*arguments: str, options: type[DaemonOptions[Any]] = NodeOptions) -> list[str]:
        with pytest.raises(SystemExit) as raised:
            options().parseOptions(list(arguments))
        assert raised.value.code == 1
        out, err = capsys.readouterr()
        assert out == ""
        return str(err).splitlines()

    return parse


def test_a_node_needs_no_flags() -> None:
    """`twistd pico` alone is a node with the defaults."""
    assert parsed(NodeOptions()) == NodeConfig()


def test_flags_reach_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the value behind a blank or an equals sign; a file's relative name starts at the current directory."""
    (tmp_path / "pico.yaml").write_text("proxy: {timeout: 5s, bind_addr: ':1'}\n")
    monkeypatch.chdir(tmp_path)
    options = NodeOptions()
    config = parsed(options, "--config", "pico.yaml", "--proxy.bind-addr=:2", "--log.level", "warn")
    assert (config.proxy.timeout, config.proxy.bind_addr, config.log.level) == (5.0, Address("", 2), "warn")
    assert options.config_file == str(tmp_path / "pico.yaml")


def test_lists_and_booleans_as_flags() -> None:
    """Lists by repetition and commas together; booleans take a value."""
    config = parsed(
        NodeOptions(), "--log.subsystems", "a,b", "--log.subsystems=c", "--proxy.access-log=false", "--grace-period=0s"
    )
    assert config.log.subsystems == ("a", "b", "c")
    assert not config.proxy.access_log


def test_the_last_of_a_repeated_flag_for_one_value_is_not_guessed(faults: Faults) -> None:
    """Two values for a key that holds one are a fault, not a choice."""
    lines = faults("--proxy.timeout=1s", "--proxy.timeout=2s")
    assert lines == [
        'pico: proxy.timeout (--proxy.timeout): found "1s,2s", expected a duration such as 500ms, 15s, 1m30s, '
        "from 1ms to 24h"
    ]


def test_an_agent_with_listen() -> None:
    """The shortest way to run an agent."""
    config = parsed(AgentOptions(), "--listen", "my-endpoint=localhost:3000", "--listen", "other=3001")
    assert [(one.endpoint, str(one.addr)) for one in config.listeners] == [
        ("my-endpoint", "localhost:3000"),
        ("other", "localhost:3001"),
    ]


def test_every_fault_is_one_line_on_stderr(faults: Faults, tmp_path: Path) -> None:
    """Of the flags, of their values and of the file together, and never the usage page."""
    path = tmp_path / "pico.yaml"
    path.write_text("proxi: {}\nlog: {level: loud}\n")
    lines = faults(
        "-v",
        "--config",
        str(path),
        "--proxy.timout=5s",
        "--no-such-thing",
        "value",
        "--check=yes",
        "--proxy.timeout=xx",
        "word",
    )
    assert [line.replace(str(path), "pico.yaml") for line in lines] == [
        "pico: -v: found an unknown flag, expected a flag that --help lists",
        "pico: --proxy.timout: found an unknown flag, expected --proxy.timeout",
        "pico: --no-such-thing: found an unknown flag, expected a flag that --help lists",
        "pico: --check: found a value, expected none",
        'pico: flags: found "word", expected nothing but flags',
        "pico: proxi (pico.yaml:1): found an unknown key, expected a key such as proxy",
        'pico: proxy.timeout (--proxy.timeout): found "xx", expected a duration such as 500ms, 15s, 1m30s, '
        "from 1ms to 24h",
        'pico: log.level (pico.yaml:2): found "loud", expected one of debug, info, warn, error, critical',
    ]


def test_flags_that_are_not_whole(faults: Faults) -> None:
    """A flag without its value, and one that could be several."""
    assert faults("--proxy.timeout") == ["pico: --proxy.timeout: found no value, expected a value"]
    (line,) = faults("--proxy.t=5s")
    assert line.startswith("pico: --proxy.t: found the beginning of several flags, expected one of --proxy.timeout, ")
    assert parsed(NodeOptions(), "--proxy.time=5s").proxy.timeout == 5.0


def test_faults_of_an_agent_name_the_agent(faults: Faults) -> None:
    """Both daemons may run on one machine."""
    (line,) = faults(options=AgentOptions)
    assert line.startswith("pico-agent: listeners: found none, expected at least one")


@pytest.mark.parametrize("name", ["logfile", "pidfile"])
def test_a_file_of_twistd_that_cannot_be_written(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, before the process leaves the terminal: what twistd raises behind that nobody sees."""
    options = NodeOptions()
    paths = {"logfile": str(tmp_path / "log"), "pidfile": str(tmp_path / "pid"), name: f"{tmp_path}/nowhere/file"}
    options.parent = cast(Any, {"nodaemon": False, **paths})
    with pytest.raises(SystemExit) as raised:
        options.parseOptions([])
    assert raised.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"pico: cannot write {paths[name]}: ")


@pytest.mark.parametrize(("options", "arguments"), [(NodeOptions, []), (AgentOptions, ["--listen=a=1"])])
def test_a_check_does_nothing_else(
    options: type[DaemonOptions[Any]], arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, and status 0."""
    with pytest.raises(SystemExit) as raised:
        options().parseOptions([*arguments, "--check"])
    assert raised.value.code == 0
    assert capsys.readouterr() == ("configuration is valid\n", "")


def test_a_check_tells_that_http2_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is configured and its library is not installed; nothing is said where it is switched off."""
    monkeypatch.setattr("pico_twisted.app.cli.options.AVAILABLE", False)
    for flags, said in (([], True), (["--proxy.http2.enabled=false"], False)):
        with pytest.raises(SystemExit) as exit:
            NodeOptions().parseOptions([*flags, "--check"])
        assert exit.value.code == 0
        assert ("pip install 'pico_twisted[http2]'" in capsys.readouterr().err) is said


def test_reload_reads_the_file_again_with_the_same_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGHUP finds the file although the process has changed its directory, and flags still beat it."""
    path = tmp_path / "pico.yaml"
    path.write_text("log:\n  level: ${LEVEL:warn}\n")
    monkeypatch.chdir(tmp_path)
    options = NodeOptions()
    config = parsed(options, "--config=pico.yaml", "--config.expand-env", "--proxy.timeout=5s")
    assert config.log.level == "warn"
    monkeypatch.chdir("/")
    path.write_text("log: {level: error}\nproxy: {timeout: 6s}\n")
    assert (options.reload().log.level, options.reload().proxy.timeout) == ("error", 5.0)


@pytest.mark.parametrize(("options", "config_class"), OPTIONS)
@pytest.mark.parametrize("width", [80, 100])
def test_help_is_worth_reading(options: type[DaemonOptions[Any]], config_class: type[Any], width: int) -> None:
    """Every key has its flag, its default and its whole help, under the heading of its section, within the width."""
    text = options().getUsage(width)
    words = " ".join(text.split())
    for key in all_keys(config_class):
        if key.kind is None:
            continue
        assert f"--{key.flag} " in text
        default = f" [default: {key.default_text}]" if key.default_text else ""
        assert key.help.replace("`", "") + default in words
        if len(key.path) > 1:
            assert text.index(f"\n{key.path[0]}: ") < text.index(f"--{key.flag} ")
    for flag in ("--config FILE", "--config.expand-env", "--check", "--version", "--help", "Examples:"):
        assert flag in text
    assert max(map(len, text.splitlines())) <= max(width, 96 if options is AgentOptions else 0)


@pytest.mark.parametrize(("options", "config_class"), OPTIONS)
def test_the_examples_of_the_help_are_right(
    options: type[DaemonOptions[Any]], config_class: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is pasted works, but for files that the reader has to make."""
    for _, command in options.examples:
        words = command.replace("\\\n", "").split()
        assert words[0] == "twistd"
        flags = words[words.index(options.command) + 1 :]
        if "/etc/pico/" not in command:
            assert isinstance(parsed(options(), *flags), config_class)


def test_version_and_help_exit_with_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    """On stdout, where pagers look."""
    for flag, beginning in (("--version", "pico_twisted "), ("--help", "[--config FILE]")):
        with pytest.raises(SystemExit) as raised:
            NodeOptions().parseOptions([flag])
        assert raised.value.code == 0
        out, err = capsys.readouterr()
        assert out.startswith(beginning)
        assert err == ""


@pytest.mark.parametrize("command", ["pico", "pico-agent"])
@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_a_reader_that_has_seen_enough(command: str, flag: str) -> None:
    """`--help | head` ends without a complaint."""
    reads, writes = os.pipe()
    os.close(reads)
    try:
        run = "from twisted.scripts.twistd import run; import sys; sys.argv[0] = 'twistd'; run()"
        arguments = [sys.executable, "-c", run, command, flag]
        done = subprocess.run(arguments, stdout=writes, stderr=subprocess.PIPE, cwd=ROOT, timeout=60, check=False)
    finally:
        os.close(writes)
    assert (done.returncode, done.stderr) == (0, b"")


def test_nothing_heavy_is_imported_before_the_service_is_made() -> None:
    """twistd picks the reactor after it has read the options; whoever imports it before decides for twistd."""
    program = (
        "import sys\n"
        "from twisted.plugins import pico_dropin\n"
        "assert not any(name.startswith('pico_twisted') for name in sys.modules)\n"
        "for maker in (pico_dropin.pico, pico_dropin.pico_agent):\n"
        "    assert callable(maker.makeService)\n"
        "    assert 'Examples:' in maker.options().getUsage()\n"
        "maker.options().parseOptions(['--listen=a=1'])\n"
        "heavy = {'twisted.internet.reactor', 'klein', 'autobahn', 'prometheus_client', 'treq'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, timeout=60)
