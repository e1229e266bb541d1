"""The packages of packaging/ fit this version; `make image`, `make chart` and `make deb` build and use them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

import pico_twisted
from pico_twisted.config import load_agent, load_node
from tests.packages.composed import compose_file, config_text, our_services
from tools.stage.processes import ROOT

PACKAGING = ROOT / "packaging"
COMPOSE = compose_file()


def test_the_version_is_that_of_pico() -> None:
    """The chart, the image and the Debian package do not lag behind."""
    chart = yaml.safe_load((PACKAGING / "helm/pico/Chart.yaml").read_text())
    assert chart["appVersion"] == pico_twisted.__version__
    assert f"ARG VERSION={pico_twisted.__version__}\n" in (PACKAGING / "Containerfile").read_text()
    assert (PACKAGING / "debian/changelog").read_text().startswith(f"pico-twisted ({pico_twisted.__version__}-1)")


@pytest.mark.parametrize("name", ["node", "agent"])
def test_the_configuration_of_compose_is_valid(tmp_path: Path, name: str) -> None:
    """Nodes and agent start with what stands in the file, once the secret is there."""
    path = tmp_path / "some.yaml"
    path.write_text(config_text(COMPOSE, name))
    loaded = (load_node if name == "node" else load_agent)(str(path))
    assert loaded


def test_containers_of_compose_may_do_nothing_else() -> None:
    """Those of ours write nothing to the image and have no capability; the nodes have IDs of their own."""
    ours = our_services(COMPOSE)
    assert set(ours) == {"n1", "n2", "n3", "web", "agent"}
    for one in ours.values():
        assert one["read_only"] and one["cap_drop"] == ["ALL"] and one["tmpfs"]
    ids = [one["command"][-1] for name, one in ours.items() if name.startswith("n")]
    assert ids == [f"--cluster.node-id={name}" for name in ("n1", "n2", "n3")]
    published = [port for one in COMPOSE["services"].values() for port in one.get("ports", ())]
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_what_the_containerfile_copies_is_there() -> None:
    """A file that is renamed is noticed here, and not where the image is built."""
    for line in re.findall(r"^COPY (?!--from)(.*) \S+$", (PACKAGING / "Containerfile").read_text(), re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists(), name


@pytest.mark.parametrize("name", ["postinst", "prerm", "postrm"])
def test_scripts_of_the_debian_package_are_of_a_plain_shell(name: str) -> None:
    """They are syntax of sh, and end at the first fault."""
    script = PACKAGING / "debian" / name
    assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0
    assert "\nset -e\n" in script.read_text()
