"""axe-core, which looks for what keeps people from using a page. A run fetches it from the npm registry."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path
from typing import Final

from tests.programs.browser import Browser

PACKAGE: Final = "axe-core@4"

_RUN: Final = """axe.run(document, {resultTypes: ["violations"]}).then(
  found => found.violations.map(one => `${one.id}: ${one.nodes.map(node => node.html.slice(0, 120)).join(" ")}`),
  error => [String(error)])"""


def fetched(directory: Path) -> str:
    """The script of axe-core."""
    command = ["npm", "pack", PACKAGE, "--json", "--silent"]
    packed = subprocess.run(command, cwd=directory, stdout=subprocess.PIPE, check=True, timeout=120)
    with tarfile.open(directory / json.loads(packed.stdout)[0]["filename"]) as archive:
        script = archive.extractfile("package/axe.min.js")
        assert script is not None
        return script.read().decode()


def violations(shown: Browser, script: str) -> list[str]:
    """What axe-core finds wrong with the page that is shown. The page's policy must have been set aside."""
    if not shown.run("typeof axe === 'object'"):
        shown.run(f"{script};1")
    found: list[str] = shown.run(_RUN)
    return found
