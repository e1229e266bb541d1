"""Where this Pico is installed, and whether a service may run from there."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import attrs

import pico_twisted
from pico_twisted.ctl.exits import SaidNo

UNSEEN: Final = {
    "/home": "ProtectHome=yes in the unit",
    "/root": "ProtectHome=yes in the unit",
    "/run/user": "ProtectHome=yes in the unit",
    "/tmp": "PrivateTmp=yes in the unit",
    "/var/tmp": "PrivateTmp=yes in the unit",
}
"""Directories of which a service sees nothing, and why."""
_PLAIN: Final = re.compile(r"/[A-Za-z0-9/._+@-]*")
"""Paths that mean themselves in a unit: no blanks, quotes, dollars or percent signs."""
_INSTEAD: Final = (
    "Install Pico once more with the Python of the system, and ask that one:\n"
    "  /usr/bin/python3 -m venv /opt/pico/venv\n"
    "  /opt/pico/venv/bin/pip install <the wheel, the checkout or the requirement that this one was installed from>\n"
    "  /opt/pico/venv/bin/picoctl service install {kind}"
)


@attrs.frozen(kw_only=True)
class Home:
    """An installation.

    Attributes:
        prefix: the virtual environment.
        python: its interpreter, all links followed.
        package: directory of the package `pico_twisted`.
    """

    prefix: str
    python: str
    package: str

    @property
    def bin(self) -> str:
        """Directory of its commands."""
        return os.path.join(self.prefix, "bin")

    def sample(self, name: str) -> str:
        """The text of a sample, as the wheel brings it along or the checkout has it. Raises SaidNo."""
        for directory in (Path(self.prefix, "share", "pico_twisted"), Path(self.package).parent / "etc"):
            try:
                return (directory / name).read_text(encoding="utf-8")
            except OSError:
                continue
        raise SaidNo(f"this installation has no sample {name}: install the wheel, in an environment of its own")


def this_home() -> Home:
    """The installation that runs."""
    package = os.path.dirname(os.path.realpath(pico_twisted.__file__))
    return Home(prefix=sys.prefix, python=os.path.realpath(sys.executable), package=package)


def unseen(path: str) -> str:
    """Why a service sees nothing at a path; empty when it does."""
    real = os.path.realpath(path)
    for directory, why in UNSEEN.items():
        if real == directory or real.startswith(directory + "/"):
            return why
    return ""


def closed(path: str) -> str:
    """The first directory on the way to a path that only its owner may pass; empty when there is none."""
    for directory in reversed(Path(os.path.realpath(path)).parents):
        if directory.is_dir() and not stat.S_IMODE(directory.stat().st_mode) & stat.S_IXOTH:
            return str(directory)
    return ""


def check_home(home: Home, kind: str) -> None:
    """Refuse an installation from which systemd cannot start a service as a user of its own. Raises SaidNo."""
    for what, path in (("Python", home.python), ("the environment", home.prefix), ("Pico", home.package)):
        instead = "\n" + _INSTEAD.format(kind=kind)
        if why := unseen(path):
            raise SaidNo(f"{what} is in {path}, where a service sees nothing ({why}).{instead}")
        if directory := closed(path):
            raise SaidNo(f"{what} is in {path}, and only the owner of {directory} gets there.{instead}")
    check_plain((home.prefix,))
    if not os.access(os.path.join(home.bin, "twistd"), os.X_OK):
        raise SaidNo(f"{home.bin} has no twistd: install Pico in an environment of its own")


def check_plain(paths: Iterable[str]) -> None:
    """Refuse paths that a unit would take for something else. Raises SaidNo."""
    for path in paths:
        if not _PLAIN.fullmatch(path):
            raise SaidNo(f"{path!r}: a path in a unit has letters, digits and ./_+@- only, and begins with a slash")
