"""What changes between two configurations, and what is in force afterwards."""

from __future__ import annotations

import attrs

from pico_twisted.config import AuthConfig, JwtConfig, NodeConfig, ServerTlsConfig, load_node
from pico_twisted.config.changes import changes, in_force

OLD, NEW = "the-first-secret", "the-second-secret"


def node(**given: str) -> NodeConfig:
    return load_node(None, {name.replace("__", "."): value for name, value in given.items()})


def test_each_key_is_told_with_both_values() -> None:
    """As a file would say them; a secret is only told to have changed, and a long list is cut."""
    many = ",".join(f"10.0.0.{number}" for number in range(1, 40))
    before = node(log__level="info", cluster__secrets=OLD, proxy__timeout="30s")
    after = node(
        log__level="debug", cluster__secrets=NEW, proxy__timeout="1m", cluster__node_id="n1", cluster__join=many
    )
    found = {change.path: change for change in changes(before, after)}
    assert found["log.level"].words == "log.level info -> debug"
    assert found["cluster.secrets"].words == "cluster.secrets changed"
    assert found["proxy.timeout"].words == "proxy.timeout 30s -> 1m"
    assert found["cluster.node_id"].words == "cluster.node_id nothing -> n1"
    assert len(found["cluster.join"].words) < 100
    assert {path for path, change in found.items() if change.live} == {"log.level", "cluster.secrets"}
    assert len(found) == 5


def test_nothing_changes() -> None:
    """Equal configurations differ in nothing, whatever their defaults are."""
    assert list(changes(node(), node())) == []


def test_what_is_in_force() -> None:
    """Live keys have their new values; the others keep theirs, so the next reload tells them again."""
    before = node(log__level="info", cluster__node_id="n1", proxy__access_log="true")
    after = node(log__level="debug", cluster__node_id="n2", proxy__access_log="false")
    taken = in_force(before, after)
    assert (taken.log.level, taken.cluster.node_id, taken.proxy.access_log) == ("debug", "n1", after.proxy.access_log)
    assert [change.path for change in changes(taken, after)] == ["cluster.node_id"]


def test_switching_tls_takes_a_restart() -> None:
    """Other files for a port that speaks TLS are taken; a port that speaks plain text goes on doing so."""

    def speaking(cert: str, key: str) -> NodeConfig:
        base = NodeConfig()
        return attrs.evolve(base, proxy=attrs.evolve(base.proxy, tls=ServerTlsConfig(cert=cert, key=key)))

    plain, one, two = speaking("", ""), speaking("a", "b"), speaking("c", "d")
    for before, after, live in ((one, two, True), (plain, one, False), (one, plain, False)):
        assert {change.live for change in changes(before, after)} == {live}
        assert in_force(before, after) == (after if live else before)


def test_switching_authentication_takes_a_restart() -> None:
    """A port that authenticates takes every other key of it, also its first one for JWTs, and stays closed."""

    def asking(tokens: str = "", keys: tuple[str, ...] = ()) -> NodeConfig:
        base = NodeConfig()
        auth = AuthConfig(tokens_file=tokens, jwt=JwtConfig(keys=keys))
        return attrs.evolve(base, upstream=attrs.evolve(base.upstream, auth=auth))

    nothing, tokens, both, jwts = asking(), asking("a"), asking("a", ("b",)), asking(keys=("c",))
    for before, after in ((tokens, both), (both, jwts), (jwts, tokens)):
        assert {change.live for change in changes(before, after)} == {True} and in_force(before, after) == after
    for before, after in ((nothing, tokens), (nothing, jwts), (both, nothing)):
        assert {change.live for change in changes(before, after)} == {False} and in_force(before, after) == before
