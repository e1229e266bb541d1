"""Defaults, files and flags into configurations, and the faults that stand in the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from pico_twisted.config import (
    Address,
    AgentConfig,
    ClusterConfig,
    ConfigFaults,
    ListenerConfig,
    NodeConfig,
    ProxyConfig,
    ServiceAddress,
    load_agent,
    load_node,
)
from pico_twisted.config.fields import all_keys, own_keys
from tools.stage.certificates import make

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Writes a configuration file and returns its name."""

    def write_file(text: str) -> str:
        path = tmp_path / "pico.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    yield write_file


def faults_of(load: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, str]:
    """The faults as texts without their place, by path."""
    with pytest.raises(ConfigFaults) as raised:
        load(*args, **kwargs)
    return {fault.path: f"found {fault.found}, expected {fault.expected}" for fault in raised.value.faults}


def test_a_node_needs_no_file() -> None:
    """The defaults are those of the design."""
    config = load_node()
    assert config == NodeConfig()
    assert config.proxy.bind_addr == Address("", 8000)
    assert config.admin.listen_addr == Address("127.0.0.1", 8001)
    assert config.upstream.listen_addr == Address("127.0.0.1", 8002)
    assert config.proxy.timeout == 30.0
    assert config.limits.buffered_bytes == 256 << 20
    assert config.grace_period == 60.0


def test_an_empty_file_and_empty_sections_are_the_defaults(write: Write) -> None:
    """A section whose keys are all commented out says nothing."""
    assert load_node(write("")) == NodeConfig()
    assert load_node(write("proxy:\n  # timeout: 5s\nlog:\n")) == NodeConfig()


def test_a_file_beats_defaults_and_flags_beat_the_file(write: Write) -> None:
    """Each key on its own, in nested sections too."""
    path = write("proxy: {timeout: 5s, idle_timeout: 7s, tls: }\nlog: {level: DEBUG}\ngrace_period: 0s\n")
    config = load_node(path, {"proxy.timeout": "6s", "cluster.name": "test"})
    assert (config.proxy.timeout, config.proxy.idle_timeout, config.proxy.head_timeout) == (6.0, 7.0, 10.0)
    assert (config.cluster.name, config.log.level, config.grace_period) == ("test", "debug", 0.0)


@pytest.mark.parametrize("given", [["10.0.0.0/8,::1"], ["10.0.0.0/8", "::1"], "10.0.0.0/8, ::1"])
def test_lists_by_repetition_or_commas(given: list[str] | str) -> None:
    """Both ways of giving a list with flags mean the same."""
    networks = load_node(None, {"proxy.trusted_proxies": given}).proxy.trusted_proxies
    assert [str(network) for network in networks] == ["10.0.0.0/8", "::1/128"]


def test_lists_in_files(write: Write) -> None:
    """A YAML list, one text with commas, or a variable with commas."""
    expected = load_node(write("log: {subsystems: [proxy, rpc]}")).log.subsystems
    assert expected == ("proxy", "rpc")
    assert load_node(write("log: {subsystems: 'proxy,rpc'}")).log.subsystems == expected
    path = write("log: {subsystems: '${SUBSYSTEMS}'}")
    assert load_node(path, {}, {"SUBSYSTEMS": "proxy, rpc"}, True).log.subsystems == expected
    assert load_node(path, {}, {"SUBSYSTEMS": ""}, True).log.subsystems == ()


@pytest.mark.parametrize("cls", [NodeConfig, AgentConfig])
def test_every_key_has_a_flag_that_sets_it(cls: type[Any]) -> None:
    """A flag with a key's default changes nothing, and a flag with nonsense is a fault of that key."""
    load = load_node if cls is NodeConfig else load_agent
    more: dict[str, Any] = {} if cls is NodeConfig else {"listen": ["my-endpoint=3000"]}
    keys = [key for key in all_keys(cls) if key.kind is not None]
    assert load(None, {**more, **{key.dotted: key.default_text for key in keys}}) == load(None, more)
    faults = faults_of(load, None, {**more, **{key.dotted: "\x7f \x7f" for key in keys}})
    assert {path.partition("[")[0] for path in faults} == {key.dotted for key in keys}


@pytest.mark.parametrize("cls", [NodeConfig, AgentConfig, ListenerConfig])
def test_every_key_has_help(cls: type[Any]) -> None:
    """The help is one or more whole sentences, and fits into a cell of a Markdown table."""
    for key in all_keys(cls):
        assert key.help.endswith(".")
        assert key.help[0].isupper()
        assert "|" not in key.help and "\n" not in key.help


def test_everything_that_is_wrong_is_told_at_once(write: Write) -> None:
    """Unknown keys, wrong types, impossible values, contradictions and faulty flags, in the order of the keys."""
    path = write(
        "proxy:\n"
        "  bind_addr: 80000\n"
        "  timeout: -5s\n"
        "  timout: 5s\n"
        "  trusted_proxies: [10.0.0.1/8, '::1', nonsense]\n"
        "  tls:\n"
        "    cert: missing.pem\n"
        "admin:\n"
        "  - 5\n"
        "limits:\n"
        "  calls: 0\n"
        "  head_bytes: 4KiB\n"
        "log:\n"
        "  level: loud\n"
        "  level: info\n"
        "grace_period: -1s\n"
        "extra: 1\n"
    )
    with pytest.raises(ConfigFaults) as raised:
        load_node(path, {"proxy.head_timeout": "xx", "upstream.bind_addr": ":8001"})
    lines = [str(fault).replace(path, "pico.yaml") for fault in raised.value.faults]
    beginnings = [
        "extra (pico.yaml:17): found an unknown key, expected a key that --help lists",
        "proxy.timout (pico.yaml:4): found an unknown key, expected a key such as timeout",
        'proxy.bind_addr (pico.yaml:2): found "80000", expected an address to listen on such as 8000,',
        'proxy.timeout (pico.yaml:3): found "-5s", expected a duration such as 500ms, ',
        'proxy.head_timeout (--proxy.head-timeout): found "xx", expected a duration',
        'proxy.trusted_proxies[0] (pico.yaml:5): found "10.0.0.1/8", expected an IP address or a range',
        'proxy.trusted_proxies[2] (pico.yaml:5): found "nonsense", expected an IP address or a range',
        'proxy.tls.cert (pico.yaml:7): found "',
        "proxy.tls.key (pico.yaml:6): found nothing, expected a file, because proxy.tls.cert is set",
        "admin (pico.yaml:8): found a list, expected a mapping with the keys bind_addr, socket_mode, advertise_addr, "
        "hosts, tls",
        'limits.calls (pico.yaml:11): found "0", expected a whole number from 1 to ',
        "limits.uri_bytes (pico.yaml:10): found more than limits.head_bytes, expected at most limits.head_bytes",
        "log.level (pico.yaml:15): found the key a second time (first in line 14), expected it once",
        'grace_period (pico.yaml:16): found "-1s", expected a duration',
    ]
    assert len(lines) == len(beginnings)
    for line, beginning in zip(lines, beginnings, strict=True):
        assert line.startswith(beginning)
        assert "\n" not in line


@pytest.mark.parametrize("value", ["[a]", "{a: b}", "~", ""])
def test_wrong_types_are_faults_of_every_single_key(value: str, write: Write) -> None:
    """A list, a mapping or nothing where a single value belongs."""
    for key in all_keys(NodeConfig):
        if key.kind is None or key.kind.name.startswith("list"):
            continue
        *sections, name = key.path
        text = "".join(f"{'  ' * depth}{section}:\n" for depth, section in enumerate(sections))
        path = write(f"{text}{'  ' * len(sections)}{name}: {value}\n")
        assert list(faults_of(load_node, path)) == [key.dotted]


@pytest.mark.parametrize("value", ["text", "[a]", "5"])
def test_wrong_types_are_faults_of_every_section(value: str, write: Write) -> None:
    """A section is a mapping, and nothing of what stands there instead is shown."""
    for key in all_keys(NodeConfig):
        if key.section is None:
            continue
        *sections, name = key.path
        text = "".join(f"{'  ' * depth}{section}:\n" for depth, section in enumerate(sections))
        faults = faults_of(load_node, write(f"{text}{'  ' * len(sections)}{name}: {value}\n"))
        assert list(faults) == [key.dotted]
        assert faults[key.dotted].startswith("found a list" if value == "[a]" else "found a single value")


def test_a_flag_into_a_faulty_section_is_still_looked_at(write: Write) -> None:
    """The file's fault and the flag's are both told."""
    faults = faults_of(load_node, write("proxy: 5\n"), {"proxy.timeout": "never"})
    assert list(faults) == ["proxy", "proxy.timeout"]


def test_files_that_cannot_be_read_are_faults(tmp_path: Path) -> None:
    """The fault names the file and the reason; what flags say is looked at all the same."""
    missing = str(tmp_path / "missing.yaml")
    faults = faults_of(load_node, missing, {"proxy.timeout": "never"})
    assert list(faults) == ["file", "proxy.timeout"]
    assert "No such file or directory" in faults["file"]
    assert "Is a directory" in faults_of(load_node, str(tmp_path))["file"]


def test_a_file_that_is_not_yaml_is_one_fault(write: Write) -> None:
    """What the defaults would contradict is not told: the file may have said otherwise."""
    faults = faults_of(load_agent, write("listeners: [\n"))
    assert list(faults) == ["file"]


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"proxy.timeout": "0s"}, "proxy.timeout"),
        ({"proxy.timeout": "25h"}, "proxy.timeout"),
        ({"limits.calls": "-1"}, "limits.calls"),
        ({"limits.head_bytes": "61KiB"}, "limits.head_bytes"),
        ({"limits.head_bytes": "0"}, "limits.head_bytes"),
        ({"limits.v1_body_bytes": "17MiB"}, "limits.v1_body_bytes"),
        ({"limits.buffered_bytes": "2MiB"}, "limits.v1_body_bytes"),
        ({"cluster.name": ""}, "cluster.name"),
        ({"cluster.name": "a" * 65}, "cluster.name"),
        ({"cluster.node_id": "a b"}, "cluster.node_id"),
        ({"cluster.node_id": "é"}, "cluster.node_id"),
        ({"cluster.node_id_prefix": "a" * 49}, "cluster.node_id_prefix"),
        ({"cluster.join": "node-1,:8003"}, "cluster.join[1]"),
        ({"cluster.join_timeout": "0s"}, "cluster.join_timeout"),
        ({"cluster.secrets": "fifteen-letters"}, "cluster.secrets[0]"),
        ({"cluster.secret_files": "/nowhere/secret"}, "cluster.secret_files[0]"),
        ({"cluster.gossip.bind_addr": "local"}, "cluster.gossip.bind_addr"),
        ({"cluster.gossip.bind_addr": ":8001"}, "cluster.gossip.bind_addr"),
        ({"proxy.bind_addr": ":8003"}, "cluster.gossip.bind_addr"),
        ({"cluster.gossip.advertise_addr": "node-1"}, "cluster.gossip.advertise_addr"),
        ({"cluster.gossip.interval": "99ms"}, "cluster.gossip.interval"),
        ({"cluster.gossip.interval": "61s"}, "cluster.gossip.interval"),
        ({"cluster.gossip.max_packet_size": "575"}, "cluster.gossip.max_packet_size"),
        ({"cluster.gossip.max_packet_size": "65001"}, "cluster.gossip.max_packet_size"),
        ({"limits.links": "0"}, "limits.links"),
        ({"log.format": "xml"}, "log.format"),
        ({"admin.bind_addr": ":8000"}, "admin.bind_addr"),
        ({"admin.bind_addr": "127.0.0.1:8000"}, "admin.bind_addr"),
        ({"proxy.advertise_addr": ":8000"}, "proxy.advertise_addr"),
        ({"proxy.access_log": "maybe"}, "proxy.access_log"),
        ({"proxy.access_log": ""}, "proxy.access_log"),
    ],
)
def test_impossible_values_of_a_node(given: dict[str, str], path: str) -> None:
    """Each is a fault of one key."""
    assert list(faults_of(load_node, None, given)) == [path]


@pytest.mark.parametrize(
    "given",
    [
        {"admin.bind_addr": ":0", "proxy.bind_addr": ":0"},
        {"admin.bind_addr": "127.0.0.1:8000", "proxy.bind_addr": "127.0.0.2:8000"},
        {"limits.buffered_bytes": "2MiB", "limits.v1_body_bytes": "1MiB"},
        {"limits.v1_body_bytes": "0"},
        {"cluster.node_id": "a" * 64},
        {"grace_period": "0s"},
        {"cluster.secrets": "sixteen-letters-"},
        {"cluster.gossip.interval": "100ms", "cluster.gossip.max_packet_size": "576"},
        {"cluster.gossip.interval": "1m", "cluster.gossip.max_packet_size": "65000"},
    ],
)
def test_values_at_the_edge_of_the_possible(given: dict[str, str]) -> None:
    """Ports that differ, or that the system picks, do not collide; limits may be equal."""
    load_node(None, given)


def test_a_certificate_needs_its_key_and_both_files(tmp_path: Path) -> None:
    """Half a certificate, and files that cannot be read, are faults; relative names start at the directory."""
    made = make(tmp_path, "own")
    made.pair.cert.rename(tmp_path / "cert.pem")
    made.pair.key.rename(tmp_path / "key.pem")
    given = {"proxy.tls.cert": "cert.pem", "proxy.tls.key": "key.pem"}
    tls = load_node(None, given, directory=str(tmp_path)).proxy.tls
    assert tls.enabled
    assert (tls.cert, tls.key) == (str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
    assert not NodeConfig().proxy.tls.enabled

    alone = faults_of(load_node, None, {"admin.tls.key": "key.pem"}, directory=str(tmp_path))
    assert alone == {"admin.tls.cert": "found nothing, expected a file, because admin.tls.key is set"}
    missing = faults_of(load_node, None, {**given, "proxy.tls.key": "nope.pem"}, directory=str(tmp_path))
    assert list(missing) == ["proxy.tls.key"]
    assert "nope.pem" in missing["proxy.tls.key"]
    assert list(faults_of(load_node, None, {**given, "proxy.tls.key": "a\0b"}, directory=str(tmp_path))) == [
        "proxy.tls.key"
    ]


def test_an_agent_from_a_file(write: Write) -> None:
    """Everything that an agent is told."""
    path = write(
        "connect: {url: [http://a:1, 'wss://b'], timeout: 3s}\n"
        "agent_id: agent-1\n"
        "listeners:\n"
        "- {endpoint: my-endpoint, addr: 3000}\n"
        "- endpoint: other\n"
        "  addr: https://web\n"
        "  timeout: 1m\n"
        "  rewrite_host: true\n"
        "- {endpoint: my-endpoint, addr: 'localhost:3001'}\n"
        "admin: {bind_addr: '127.0.0.1:9000'}\n"
    )
    config = load_agent(path)
    assert config.connect.url == ("http://a:1", "wss://b:443")
    assert config.agent_id == "agent-1"
    assert config.listeners == (
        ListenerConfig(endpoint="my-endpoint", addr=ServiceAddress("http", "localhost", 3000)),
        ListenerConfig(endpoint="other", addr=ServiceAddress("https", "web", 443), timeout=60.0, rewrite_host=True),
        ListenerConfig(endpoint="my-endpoint", addr=ServiceAddress("http", "localhost", 3001)),
    )
    assert config.admin.bind_addr == Address("127.0.0.1", 9000)


def test_the_flag_listen_takes_the_place_of_the_listeners(write: Write) -> None:
    """It is repeated or holds commas; a URL is an address too."""
    path = write("listeners: [{endpoint: old, addr: 1}]\n")
    config = load_agent(path, {"listen": ["a=3000,b=localhost:3001", "a=https://web"]})
    assert [(listener.endpoint, str(listener.addr)) for listener in config.listeners] == [
        ("a", "localhost:3000"),
        ("b", "localhost:3001"),
        ("a", "https://web:443"),
    ]


def test_the_flag_listen_takes_the_other_keys_of_a_listener() -> None:
    """They follow behind blanks, in any order; one that is true needs no value; commas still begin another listener."""
    texts = ["a=3000 rewrite_host timeout=5s,b=3001", " c=3002  timeout=1m  rewrite-host=no "]
    config = load_agent(None, {"listen": texts})
    assert [(one.endpoint, one.addr.port, one.rewrite_host, one.timeout) for one in config.listeners] == [
        ("a", 3000, True, 5.0),
        ("b", 3001, False, None),
        ("c", 3002, False, 60.0),
    ]


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("node_id: n1\n", "node_id", "expected cluster.node_id"),
        ("proxy: {node_id: n1}\n", "proxy.node_id", "expected cluster.node_id"),
        ("gossip: {}\n", "gossip", "expected cluster.gossip"),
        ("cluster: {cert: x.pem}\n", "cluster.cert", "expected proxy.tls.cert or upstream.tls.cert or"),
        ("limits: {head_bytes: 1GB}\n", "limits.head_bytes", "a size in KiB, MiB or GiB"),
        ("proxy: {timeout: '${NOPE}'}\n", "proxy.timeout", "--config.expand-env, which puts a variable"),
    ],
)
def test_faults_that_are_often_made(write: Write, text: str, path: str, expected: str) -> None:
    """A key in another place, a unit that means two things, and a variable that nobody expands are told as such."""
    assert expected in faults_of(load_node, write(text))[path]


def test_words_of_yaml(write: Write) -> None:
    """A file may say yes and no, and give a port as a number."""
    config = load_node(write("proxy: {access_log: no, bind_addr: 9000}\ncluster: {abort_if_join_fails: Yes}\n"))
    assert (config.proxy.access_log, config.cluster.abort_if_join_fails) == (False, True)
    assert config.proxy.bind_addr == Address("", 9000)


def test_an_agent_needs_a_listener() -> None:
    """An agent without one would do nothing, and say nothing about it."""
    faults = faults_of(load_agent)
    assert list(faults) == ["listeners"]
    assert "--listen my-endpoint=localhost:3000" in faults["listeners"]


def test_faults_of_listeners_have_the_path_of_the_item(write: Write) -> None:
    """The operator sees which of many listeners is meant."""
    path = write(
        "listeners:\n"
        "- addr: 3000\n"
        "- {endpoint: -x, addr: http://web/path, protocol: udp}\n"
        "- {endpoint: fine, addr: 3000, rewrite: true}\n"
        "- text\n"
    )
    faults = faults_of(load_agent, path)
    assert list(faults) == [
        "listeners[0].endpoint",
        "listeners[1].endpoint",
        "listeners[1].addr",
        "listeners[1].protocol",
        "listeners[2].rewrite",
        "listeners[3]",
    ]
    assert faults["listeners[0].endpoint"].startswith("found nothing, expected an endpoint ID")
    assert faults["listeners[2].rewrite"] == "found an unknown key, expected a key such as rewrite_host"
    assert list(faults_of(load_agent, write("listeners: {a: b}\n"))) == ["listeners"]
    flags = faults_of(load_agent, None, {"listen": ["a", "b=x y", "c=3000 timeout"]})
    assert list(flags) == ["listeners", "listeners[0].addr", "listeners[0].y", "listeners[1].timeout"]
    assert flags["listeners[1].timeout"].startswith('found "true", expected a duration')


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"connect.url": ""}, "connect.url"),
        ({"connect.url": "localhost:8002"}, "connect.url[0]"),
        ({"connect.url": "http://a:1,ftp://b"}, "connect.url[1]"),
        ({"connect.timeout": "0s"}, "connect.timeout"),
        ({"connect.tls.root_cas": "/nowhere/ca.pem"}, "connect.tls.root_cas"),
        ({"agent_id": "a/b"}, "agent_id"),
        ({"admin.bind_addr": "local"}, "admin.bind_addr"),
    ],
)
def test_impossible_values_of_an_agent(given: dict[str, str], path: str) -> None:
    """Each is a fault of one key."""
    assert list(faults_of(load_agent, None, {"listen": "a=1", **given})) == [path]


def test_a_token_from_its_file(tmp_path: Path) -> None:
    """The file's one line is the token; the line end does not count."""
    token_file = tmp_path / "token"
    token_file.write_text("hunter2-secret\n")
    config = load_agent(None, {"listen": "a=1", "connect.token_file": "token"}, directory=str(tmp_path))
    assert config.connect.token == "hunter2-secret"
    assert config.connect.token_file == str(token_file)


@pytest.mark.parametrize("content", ["", "\n", "two words\n", "two\nlines\n", "hunter2\x00", "hunter2é"])
def test_a_file_that_holds_no_token_is_a_fault(tmp_path: Path, content: str) -> None:
    """What is there is not shown."""
    (tmp_path / "token").write_text(content, encoding="utf-8")
    given = {"listen": "a=1", "connect.token_file": "token"}
    faults = faults_of(load_agent, None, given, directory=str(tmp_path))
    assert list(faults) == ["connect.token_file"]
    assert "hunter2" not in str(faults)


def test_secrets_are_never_shown(write: Write, tmp_path: Path) -> None:
    """Not in faults, whatever is wrong with them or around them, and not in a configuration's repr."""
    config = load_agent(None, {"listen": "a=1", "connect.token": "hunter2"})
    assert config.connect.token == "hunter2"
    assert "hunter2" not in repr(config)

    (tmp_path / "token").write_text("x")
    for text in (
        "connect: {token: 'hunter2 with blanks'}",
        "connect: {token: [hunter2]}",
        "connect: {token: {hunter2: x}}",
        "connect: {token: hunter2\n",
        "connect: hunter2",
        "connect: {url: 'http://user:hunter2@localhost:8002'}",
        "connect: {url: 'http://user:hunter2@x@localhost:8002/'}",
        "listeners: [{endpoint: a, addr: 'https://user:hunter2@web'}]",
        f"connect: {{token: hunter2, token_file: {tmp_path / 'token'}}}",
    ):
        with pytest.raises(ConfigFaults) as raised:
            load_agent(write(text + "\n"), {"connect.timeout": "0s"})
        assert "hunter2" not in f"{raised.value} {raised.value.faults} {raised.value!r}"
        assert raised.value.__cause__ is None and raised.value.__context__ is None


def test_configurations_made_by_code_are_checked_too() -> None:
    """Values are frozen and checked when they are built."""
    with pytest.raises(ValueError, match="not a duration"):
        ProxyConfig(timeout=0.0)
    with pytest.raises(ValueError, match="endpoint ID"):
        ListenerConfig(endpoint="", addr=ServiceAddress("http", "localhost", 1))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        NodeConfig().grace_period = 1.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        ProxyConfig(Address("", 1))  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("section", "names"),
    [
        (NodeConfig, "proxy upstream admin cluster limits endpoints log metrics tracing drain_streams grace_period"),
        (
            AgentConfig,
            "connect agent_id listeners admin inspect limits access_log access_log_file log tracing drain_streams "
            "grace_period",
        ),
        (
            ListenerConfig,
            "endpoint addr protocol proxy_protocol timeout keepalive_timeout reuse share affinity rewrite_host "
            "host_header lenient allow deny basic_auth_file basic_auth_realm authorization max_in_flight rate "
            "max_connections max_wait health request_headers response_headers tls",
        ),
        (
            ClusterConfig,
            "name node_id node_id_prefix join join_timeout abort_if_join_fails secrets secret_files revocations_file "
            "workers tls gossip",
        ),
    ],
)
def test_the_names_of_keys_are_those_of_the_design(section: type[Any], names: str) -> None:
    """Files that operators have written go on being read."""
    assert [key.path[-1] for key in own_keys(section)] == names.split()


def test_the_proxy_protocol_of_nobody() -> None:
    """Headers that nobody is trusted to send make no sense, and are a fault of the configuration."""
    with pytest.raises(ConfigFaults, match=r"proxy\.trusted_proxies.*found none, expected .*proxy\.proxy_protocol"):
        load_node(overrides={"proxy.proxy_protocol": "true"})
    overrides = {"proxy.proxy_protocol": "true", "proxy.trusted_proxies": "10.0.0.1"}
    assert load_node(overrides=overrides).proxy.proxy_protocol
