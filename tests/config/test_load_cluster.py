"""The keys of a cluster: whom to join, what its nodes know, and where they talk to each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pico_twisted.config import Address, ClusterConfig, ConfigFaults, NodeConfig, load_node
from tools.stage.certificates import make

ONE, OTHER, THIRD = "the-first-secret", "the-second-secret", "the-third-secret!"


def faults_of(given: dict[str, Any], directory: Path) -> dict[str, str]:
    """The faults of flags as texts without their place, by path."""
    with pytest.raises(ConfigFaults) as raised:
        load_node(None, given, directory=str(directory))
    return {fault.path: f"found {fault.found}, expected {fault.expected}" for fault in raised.value.faults}


def test_a_node_alone_has_the_defaults_of_the_design() -> None:
    """It joins nobody, and gossips with this machine alone."""
    cluster = load_node().cluster
    assert (cluster.join, cluster.join_timeout, cluster.abort_if_join_fails) == ((), 60.0, True)
    assert (cluster.secrets, cluster.secret_files, cluster.tls.enabled) == ((), (), False)
    assert (cluster.gossip.interval, cluster.gossip.max_packet_size) == (0.5, 1400)
    assert cluster.gossip_bind_addr == Address("127.0.0.1", 8003)


@pytest.mark.parametrize(
    "given",
    [
        {"cluster.join": "node-1"},
        {"cluster.secrets": ONE},
        {"cluster.secret_files": "secret"},
        {"cluster.gossip.advertise_addr": "10.0.0.1:8003"},
    ],
)
def test_a_node_that_is_not_alone_gossips_on_every_interface(given: dict[str, str], tmp_path: Path) -> None:
    """Whatever tells of other nodes opens the port, and an address of its own beats that."""
    (tmp_path / "secret").write_text(ONE)
    assert load_node(None, given, directory=str(tmp_path)).cluster.gossip_bind_addr == Address("", 8003)
    given = {**given, "cluster.gossip.bind_addr": "[::1]:0"}
    assert load_node(None, given, directory=str(tmp_path)).cluster.gossip_bind_addr == Address("::1", 0)


def test_whom_to_join(tmp_path: Path) -> None:
    """A list in a file; flags by repetition or with commas."""
    path = tmp_path / "pico.yaml"
    path.write_text("cluster: {join: [node-1, '10.0.0.2:9003', '[2001:db8::3]']}\n")
    nodes = (Address("node-1", 8003), Address("10.0.0.2", 9003), Address("2001:db8::3", 8003))
    assert load_node(str(path)).cluster.join == nodes
    assert load_node(None, {"cluster.join": ["node-1,10.0.0.2:9003", "[2001:db8::3]"]}).cluster.join == nodes


def test_secrets_of_files_come_behind_the_others(tmp_path: Path) -> None:
    """Each once, blanks around it do not count; relative names start at the directory."""
    (tmp_path / "a").write_text(f"  {OTHER}\n\n")
    (tmp_path / "b").write_text(f"{ONE}\r\n")
    (tmp_path / "c").write_text(THIRD)
    for files in (["a", "b", "c"], "a,b, c", ["a,b", "c"]):
        given: dict[str, Any] = {"cluster.secrets": ONE, "cluster.secret_files": files}
        cluster = load_node(None, given, directory=str(tmp_path)).cluster
        assert cluster.secrets == (ONE, OTHER, THIRD)
        assert cluster.secret_files == tuple(str(tmp_path / name) for name in "abc")


def test_a_list_of_secret_files_in_a_file(tmp_path: Path) -> None:
    """A name that holds a comma or a blank is one name there."""
    (tmp_path / "my, secret").write_text(ONE)
    path = tmp_path / "pico.yaml"
    path.write_text("cluster:\n  secret_files:\n  - my, secret\n")
    assert load_node(str(path), directory=str(tmp_path)).cluster.secrets == (ONE,)


def test_every_file_that_gives_no_secret_is_told(tmp_path: Path) -> None:
    """Beside all else that is wrong, and nothing of what is in the files is shown."""
    (tmp_path / "good").write_text(ONE)
    (tmp_path / "short").write_text("hunter2")
    (tmp_path / "blank").write_text("hunter2-hunter2 hunter2")
    (tmp_path / "comma").write_text("hunter2-hunter2,hunter2")
    (tmp_path / "binary").write_bytes(b"hunter2-hunter2-\xff\x00")
    names = ["good", "short", "missing", "blank", "comma", "binary"]
    faults = faults_of({"cluster.secret_files": ",".join(names), "proxy.timeout": "xx"}, tmp_path)
    assert list(faults) == ["proxy.timeout", *(f"cluster.secret_files[{index}]" for index in range(1, 6))]
    assert "No such file" in faults["cluster.secret_files[2]"] and "missing" in faults["cluster.secret_files[2]"]
    for index in (1, 3, 4, 5):
        assert faults[f"cluster.secret_files[{index}]"] == (
            "found a file that holds no secret, expected a file with one line of "
            "16 to 4096 visible ASCII characters without blanks and commas"
        )
    assert "hunter2" not in str(faults)
    path = tmp_path / "pico.yaml"
    path.write_text("cluster: {secret_files: ['']}\n")
    with pytest.raises(ConfigFaults, match=r"cluster.secret_files\[0\].*expected the name of a file"):
        load_node(str(path))


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    """Not in faults, whatever is wrong with them or around them, and not in a configuration's repr."""
    assert ONE not in repr(load_node(None, {"cluster.secrets": ONE}))
    path = tmp_path / "pico.yaml"
    for text in ("[hunter2]", "hunter2", "{hunter2: x}", "[[hunter2]]", "['hunter2 with many blanks']", "[é-hunter2]"):
        path.write_text(f"cluster: {{secrets: {text}}}\n")
        with pytest.raises(ConfigFaults) as raised:
            load_node(str(path))
        assert "cluster.secrets" in str(raised.value)
        assert "hunter2" not in f"{raised.value} {raised.value.faults} {raised.value!r}"
    for wrong in ("hunter2", ["hunter2-hunter2-hunter2"], ("hunter2",)):
        with pytest.raises(ValueError, match="not shown") as misused:
            ClusterConfig(secrets=wrong)  # type: ignore[arg-type]
        assert "hunter2" not in str(misused.value)


def test_the_tls_of_links_needs_all_three_files(tmp_path: Path) -> None:
    """Every one that is missing is told."""
    made = make(tmp_path, "own")
    for name, file in (("cert", made.cert_file), ("key", made.key_file), ("ca", made.cert_file)):
        (tmp_path / name).write_bytes(Path(file).read_bytes())
    keys = ["cluster.tls.cert", "cluster.tls.key", "cluster.tls.ca"]
    given = {key: key.rpartition(".")[2] for key in keys}
    tls = load_node(None, given, directory=str(tmp_path)).cluster.tls
    assert tls.enabled
    assert (tls.cert, tls.key, tls.ca) == tuple(str(tmp_path / name) for name in ("cert", "key", "ca"))
    for key in keys:
        alone = faults_of({key: given[key]}, tmp_path)
        assert alone == {
            other: f"found nothing, expected a file, because {key} is set" for other in keys if other != key
        }
        two = faults_of({other: given[other] for other in keys if other != key}, tmp_path)
        assert list(two) == [key]
        missing = faults_of({**given, key: "nowhere"}, tmp_path)
        assert list(missing) == [key] and "nowhere" in missing[key]
    assert not NodeConfig().cluster.tls.enabled


@pytest.mark.parametrize(("port", "number"), [("upstream", 8002), ("admin", 8001)])
def test_a_port_that_asks_nobody_who_he_is_is_for_this_machine(port: str, number: int, tmp_path: Path) -> None:
    """Without authentication the port is bound to 127.0.0.1, with it to every interface, and as told if it is told."""

    def address(**values: str) -> Address:
        given = {f"{port}.{key}": value for key, value in values.items()}
        found: Address = getattr(load_node(None, given, directory=str(tmp_path)), port).listen_addr
        return found

    (tmp_path / "tokens").touch()
    assert address() == Address("127.0.0.1", number)
    assert address(**{"auth.tokens_file": "tokens"}) == Address("", number)
    assert address(bind_addr=":9000") == Address("", 9000)
    assert address(**{"auth.tokens_file": "tokens", "bind_addr": "[::1]:0"}) == Address("::1", 0)
