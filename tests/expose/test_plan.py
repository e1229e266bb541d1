"""What is wanted, from the words of the command line to the configuration of an agent."""

from __future__ import annotations

from pathlib import Path

import attrs
import click
import pytest

from pico_twisted.config import ConfigFaults
from pico_twisted.expose.plan import (
    REWRITE,
    USERS,
    ExposePlan,
    Guard,
    Target,
    agent_config,
    own_agent_id,
    read_folder,
    read_targets,
    read_users,
)
from pico_twisted.expose.upstream import DEFAULT_URL, KeptUpstream, Source, Upstream, choose

HTTP = ExposePlan(targets=read_targets(["3000"], "http"), upstream=Upstream(urls=(DEFAULT_URL,)))
URLS = ("http://localhost:8002",)


@pytest.mark.parametrize(
    ("word", "name", "addr"),
    [
        ("3000", "", "localhost:3000"),
        ("shop=3000", "shop", "localhost:3000"),
        ("10.0.0.7:80", "", "10.0.0.7:80"),
        ("api=https://10.0.0.7", "api", "https://10.0.0.7:443"),
        ("unix:/run/a=b.sock", "", "unix:/run/a=b.sock"),
        ("http://localhost:3000", "", "localhost:3000"),
    ],
)
def test_a_service(word: str, name: str, addr: str) -> None:
    """A name stands in front of an equals sign, which addresses may have, too."""
    (target,) = read_targets([word], "http")
    assert (target.name, target.addr) == (name, addr)


@pytest.mark.parametrize(
    "words",
    [(), ("",), ("shop=",), ("a b=3000",), ("70000",), ("3000", "3000"), ("a=1", "A=2"), ("http://host/path",)],
)
def test_words_that_make_no_sense(words: tuple[str, ...]) -> None:
    """They are a fault of the command line, and told as one."""
    with pytest.raises(click.UsageError):
        read_targets(words, "http")


def test_a_folder(tmp_path: Path) -> None:
    """A folder is known by where it really is, so its name stays when it is reached through a link."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").write_text("")
    assert read_folder(str(tmp_path / "link")) == Target(folder=str(tmp_path / "real"))
    assert read_folder(f"docs={tmp_path}/link") == Target(name="docs", folder=str(tmp_path / "real"))
    for word in ("nothing", "file"):
        with pytest.raises(click.BadParameter):
            read_folder(str(tmp_path / word))


def test_the_agent_of_a_run() -> None:
    """It keeps names for itself, leaves the Host alone, and ends within moments."""
    config = agent_config(HTTP, ["brave-otter"], URLS)
    (listener,) = config.listeners
    assert (listener.endpoint, str(listener.addr)) == ("brave-otter", "localhost:3000")
    assert not listener.share
    assert not listener.rewrite_host
    assert config.connect.url == URLS
    assert (config.drain_streams, config.grace_period) == (2.0, 10.0)


def test_options_of_listeners(tmp_path: Path) -> None:
    """What the command line says of services is said of their listeners."""
    guard = Guard(users=read_users(["alice:a:b"]), allow=())
    plan = attrs.evolve(HTTP, share=True, host_header=REWRITE, guard=guard)
    (listener,) = agent_config(plan, ["a"], URLS).listeners
    assert (listener.share, listener.rewrite_host, listener.basic_auth_file) == (True, True, USERS)
    assert guard.users == (("alice", "a:b"),)
    named = attrs.evolve(HTTP, host_header="shop.test:80")
    (listener,) = agent_config(named, ["a"], URLS).listeners
    assert (listener.rewrite_host, listener.host_header) == (False, "shop.test:80")
    https = attrs.evolve(HTTP, targets=read_targets(["https://localhost"], "http"), verify=False)
    assert not agent_config(https, ["a"], URLS).listeners[0].tls.verify
    token = tmp_path / "token"
    token.write_text("pico_x")
    shown = attrs.evolve(HTTP, upstream=Upstream(token="pico_x", token_file=str(token)))
    assert agent_config(shown, ["a"], URLS).connect.token == "pico_x"
    with pytest.raises(ConfigFaults, match="basic_auth_file"):
        agent_config(attrs.evolve(HTTP, guard=Guard(users_file=str(tmp_path / "none"))), ["a"], URLS)


def test_secrets_are_not_shown() -> None:
    """Whatever is printed of a plan has neither the token nor a password."""
    plan = attrs.evolve(HTTP, upstream=Upstream(token="pico_x"), guard=Guard(users=(("alice", "secret"),)))
    assert "pico_x" not in repr(plan)
    assert "secret" not in repr(plan)


def test_an_agent_is_somebodys() -> None:
    """Its ID says whose it is, and two commands of one person have two."""
    first, second = own_agent_id(), own_agent_id()
    assert first != second
    assert first.rpartition("-")[0] == second.rpartition("-")[0]


# Which node


def test_which_node_counts(tmp_path: Path) -> None:
    """What is said now, then the environment, then the last time, then one of this machine, then one of our own."""
    environ = {"PICO_URL": "http://env:8002"}
    kept = (("http://kept:8002",), {"ca": "/ca.pem", "token_file": ""})
    shown = Upstream()
    told = choose(["https://told,ws://other:1"], environ, kept, shown, lambda: True)
    assert told.urls == ("https://told:443", "ws://other:1")
    assert told.source is Source.TOLD
    assert choose([], environ, kept, shown, lambda: True).urls == ("http://env:8002",)
    last = choose([], {}, kept, shown, lambda: True)
    assert (last.urls, last.ca, last.source) == (("http://kept:8002",), "/ca.pem", Source.REMEMBERED)
    assert choose([], {}, ((), {}), shown, lambda: True).urls == (DEFAULT_URL,)
    assert choose([], {}, ((), {}), shown, lambda: False).urls == ()
    with pytest.raises(click.BadParameter) as refused:
        choose(["ftp://x"], {}, kept, shown, lambda: True)
    assert refused.value.param_hint == "--to"


def test_a_node_is_remembered_without_its_token(tmp_path: Path) -> None:
    """The file of the token is remembered and read again; the token itself is never written."""
    token_file = tmp_path / "token"
    token_file.write_text("pico_secret\n")
    folder = tmp_path / "config"
    upstream = Upstream(urls=("https://a:443",), token="pico_secret", token_file=str(token_file))
    KeptUpstream(str(folder), pytest.fail).keep(upstream)
    assert "pico_secret" not in (folder / "nodes.json").read_text()
    last = choose([], {}, KeptUpstream(str(folder), pytest.fail).read(), Upstream(), lambda: True)
    assert (last.urls, last.token, last.token_file) == (("https://a:443",), "pico_secret", str(token_file))
    other = Upstream(token="pico_other")
    last = choose([], {}, KeptUpstream(str(folder), pytest.fail).read(), other, lambda: True)
    assert (last.token, last.token_file) == ("pico_other", "")
    token_file.unlink()
    with pytest.raises(click.BadParameter, match="holds no token any more"):
        choose([], {}, KeptUpstream(str(folder), pytest.fail).read(), Upstream(), lambda: True)


@pytest.mark.parametrize("content", ['{"urls": "http://a"}', '{"urls": [1]}', '{"urls": [], "ca": 3}', "nonsense"])
def test_a_memory_that_is_not_understood(tmp_path: Path, content: str) -> None:
    """It is told of, and counts as none."""
    (tmp_path / "nodes.json").write_text(content)
    warnings: list[str] = []
    assert KeptUpstream(str(tmp_path), warnings.append).read()[0] == ()
    assert len(warnings) == 1
