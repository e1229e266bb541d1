"""The machine that a service is installed on: its files and its commands, which tests have others of."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from pico_twisted.ctl.exits import SaidNo

UNITS = "/etc/systemd/system"
"""Where an administrator's units are."""
LINK = "/usr/local/bin/picoctl"
"""Where a shell of root finds picoctl."""


@attrs.frozen
class Said:
    """How a command ended.

    Attributes:
        status: its exit status.
        text: what it printed, stdout and stderr together.
    """

    status: int
    text: str


def run_command(command: Sequence[str]) -> Said:
    """Run a command to its end. Raises SaidNo when it is not there."""
    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise SaidNo(f"{command[0]} cannot be run: {error.strerror}") from None
    return Said(done.returncode, done.stdout.rstrip())


def uid_and_gid(user: str) -> tuple[int, int] | None:
    """A user's numbers; None when there is no such user."""
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        return None
    return found.pw_uid, found.pw_gid


@attrs.frozen(kw_only=True)
class Machine:
    """A machine.

    Attributes:
        root: directory that stands for `/`.
        run: runs a command.
        user: numbers of a user.
    """

    root: Path = Path("/")
    run: Callable[[Sequence[str]], Said] = run_command
    user: Callable[[str], tuple[int, int] | None] = uid_and_gid

    def path(self, name: str) -> Path:
        """A file or directory of the machine, by its absolute name there."""
        return self.root / name.lstrip("/")

    def must(self, *command: str) -> str:
        """Run a command that has to succeed, and return what it printed. Raises SaidNo."""
        said = self.run(command)
        if said.status:
            raise SaidNo(f"{' '.join(command)} ended with {said.status}" + (f":\n{said.text}" if said.text else ""))
        return said.text

    def has_systemd(self) -> bool:
        """Whether systemd runs it."""
        return self.path("/run/systemd/system").is_dir()

    def read(self, name: str) -> str | None:
        """The text of a file; None when it is not there."""
        try:
            return self.path(name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise SaidNo(f"{name} cannot be read: {getattr(error, 'strerror', '') or error}") from None

    def make_directory(self, name: str) -> None:
        """Make a directory that anybody may enter, whatever the umask. Raises OSError."""
        path = self.path(name)
        path.mkdir(parents=True)
        path.chmod(0o755)

    def make(self, name: str, text: str, *, mode: int, owner: tuple[int, int]) -> None:
        """Make a file that is not there. Raises SaidNo."""
        try:
            descriptor = os.open(self.path(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                self._give(descriptor, owner, mode)
                file.write(text)
        except OSError as error:
            raise SaidNo(f"{name} cannot be made: {error.strerror}") from None

    def give(self, name: str, *, mode: int, owner: tuple[int, int]) -> None:
        """Change whose a file is, and who may read it; not of a link. Raises SaidNo."""
        try:
            descriptor = os.open(self.path(name), os.O_RDONLY | os.O_NOFOLLOW)
            try:
                self._give(descriptor, owner, mode)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise SaidNo(f"{name} cannot be changed: {error.strerror}") from None

    @staticmethod
    def _give(descriptor: int, owner: tuple[int, int], mode: int) -> None:
        found = os.fstat(descriptor)
        if owner != (found.st_uid, found.st_gid):
            os.fchown(descriptor, *owner)
        os.fchmod(descriptor, mode)
