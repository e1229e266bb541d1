"""The services of packaging/compose.yaml, as `podman run` takes them.

No engine of compose is at hand everywhere. What is read is what the file uses for our own services: command, tmpfs,
configs with their content, volumes, read_only, cap_drop and security_opt. Prometheus and Grafana, whose images come
from a registry, are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from tools.stage.processes import ROOT

FILE: Final = ROOT / "packaging" / "compose.yaml"
OTHERS: Final = ("prometheus", "grafana")
SECRET: Final = "s" * 40

Read = Mapping[str, Any]  # as YAML has it


def compose_file() -> Read:
    """What the file says."""
    read: Read = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return read


def our_services(read: Read) -> dict[str, Read]:
    """Those that are of our image, by their names."""
    return {name: one for name, one in read["services"].items() if name not in OTHERS}


def config_text(read: Read, name: str) -> str:
    """The content of a config, with a secret."""
    return re.sub(r"\$\{PICO_SECRET:[^}]*\}", SECRET, read["configs"][name]["content"])


def run_options(read: Read, name: str, directory: Path) -> Iterator[str]:
    """What `podman run` is told of a service, before the image.

    Args:
        read: the file.
        name: of the service.
        directory: for the files of configs.
    """
    one = read["services"][name]
    yield f"--hostname={one.get('hostname', name)}"
    yield from ("--read-only", "--read-only-tmpfs=false") if one["read_only"] else ()
    yield from (f"--cap-drop={capability.lower()}" for capability in one["cap_drop"])
    yield from (f"--security-opt={option.removesuffix(':true')}" for option in one["security_opt"])
    yield from (f"--tmpfs={place}" for place in one["tmpfs"])
    yield from (f"--volume={volume}" for volume in one.get("volumes", ()))
    for config in one.get("configs", ()):
        path = directory / f"{config['source']}.config"
        path.write_text(config_text(read, config["source"]))
        yield f"--volume={path}:{config['target']}:ro"
