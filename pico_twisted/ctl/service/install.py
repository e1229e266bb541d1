"""What makes a daemon a service: small changes, each of which is left out where it is made already.

What is needed: to run this again and again does no harm; an operator sees each change, beforehand if they like; and
nothing that they wrote is written over. So each part of this looks at the machine and says what it would do, or that
there is nothing to do, and one place does it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator

import attrs

from pico_twisted.config.document import parse_document
from pico_twisted.ctl.exits import SaidNo
from pico_twisted.ctl.service.daemons import Daemon
from pico_twisted.ctl.service.home import Home
from pico_twisted.ctl.service.machine import LINK, UNITS, Machine
from pico_twisted.ctl.service.unit import is_ours, unit_text

CONFIG_MODE = 0o640
"""Of what root writes and the daemon reads: tokens and keys are for nobody else."""
_JOURNAL_LINES = "15"


@attrs.frozen
class Change:
    """Something to be done.

    Attributes:
        words: what it is, as a command to somebody.
        do: does it; None for what is only told.
    """

    words: str
    do: Callable[[], object] | None = None


@attrs.frozen(kw_only=True)
class Plan:
    """A service that is to be there.

    Attributes:
        machine: where.
        home: the installation that it runs from.
        daemon: of which kind it is.
        config: path of its configuration.
        user: who it runs as.
    """

    machine: Machine
    home: Home
    daemon: Daemon
    config: str
    user: str

    @property
    def service(self) -> str:
        """Name of the unit."""
        return f"{self.daemon.unit}.service"

    def changes(self, *, dry: bool) -> Iterator[Change]:
        """What is to be done, in order; each is done before the next one is looked for, unless `dry`.

        Raises:
            SaidNo: the configuration has faults, or a command failed.
        """
        yield from self._user()
        yield from self._files()
        yield from self._permissions()
        if not dry:
            self._prepare()
        yield from self._unit()
        yield from self._link()
        yield from self._start()

    def _user(self) -> Iterator[Change]:
        if self.machine.user(self.user) is None:
            command = ("useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", self.user)
            yield Change(f"make the user {self.user}: {' '.join(command)}", lambda: self.machine.must(*command))

    def _files(self) -> Iterator[Change]:
        directory = os.path.dirname(self.config)
        if not self.machine.path(directory).is_dir():
            yield Change(f"make {directory}", lambda: self.machine.make_directory(directory))
        if not self.machine.path(self.config).exists():
            sample = self.home.sample(self.daemon.config)
            yield Change(
                f"write {self.config}: the sample, with the default of each key; {self.user} may read it",
                lambda: self.machine.make(self.config, sample, mode=CONFIG_MODE, owner=self._readable()),
            )

    def _permissions(self) -> Iterator[Change]:
        """Files that only root may read, such as those of an unpacked archive, are for the daemon."""
        for name in [self.config, *self._named()]:
            try:
                found = self.machine.path(name).lstat()
            except OSError:
                continue
            alone = not stat.S_IMODE(found.st_mode) & (stat.S_IRWXG | stat.S_IRWXO)
            if stat.S_ISREG(found.st_mode) and (found.st_uid, found.st_gid) == _root() and alone:
                yield Change(
                    f"let {self.user} read {name}: its group and mode 640, in place of root's and mode"
                    f" {stat.S_IMODE(found.st_mode):o}",
                    lambda name=name: self.machine.give(name, mode=CONFIG_MODE, owner=self._readable()),  # type: ignore[misc]
                )

    def _readable(self) -> tuple[int, int]:
        """Owner and group of what root writes and the daemon reads."""
        found = self.machine.user(self.user)
        root = _root()
        return (root[0], found[1] if found is not None else root[1])

    def _named(self) -> list[str]:
        """The files beside the configuration that it names."""
        try:
            text = self.machine.path(self.config).read_bytes()
            values = parse_document(text, file_name=self.config, environ=None).data
        except (OSError, ValueError):
            return []
        directory = os.path.dirname(self.config)
        return sorted({text for text in _texts(values) if text.startswith("/") and os.path.dirname(text) == directory})

    def _prepare(self) -> None:
        """Have Twisted write its list of plugins, for which the service has no permission, and check the configuration
        as the user who will read it."""
        self.machine.must(os.path.join(self.home.bin, "twistd"), "--help")
        picoctl = os.path.join(self.home.bin, "picoctl")
        said = self.machine.run((picoctl, "check", *self.daemon.check, "--as", self.user, self.config))
        if said.status:
            again = f"picoctl service install {self.daemon.kind}"
            raise SaidNo(f"{said.text}\nnothing was started. Mend {self.config}, and then again: {again}")

    def _unit(self) -> Iterator[Change]:
        path = f"{UNITS}/{self.service}"
        sample = self.home.sample(f"systemd/{self.service}")
        text = unit_text(sample, self.daemon, bin_directory=self.home.bin, config=self.config, user=self.user)
        there = self.machine.read(path)
        if there == text:
            return
        if there is None:
            yield Change(f"write {path}", lambda: self._write_unit(path, text))
        elif is_ours(there, sample):
            yield Change(
                f"write {path} anew: it is of another version or for other paths", lambda: self._write_unit(path, text)
            )
            if self._asked("is-active"):
                yield Change(f"(the service goes on as it was started, until systemctl restart {self.daemon.unit})")
        else:
            yield Change(f"(leave {path} as it is, since somebody wrote it; --print shows the one of this version)")

    def _write_unit(self, path: str, text: str) -> None:
        target = self.machine.path(path)
        fresh = target.with_name(f".{target.name}.new")
        fresh.unlink(missing_ok=True)
        self.machine.make(f"{path.removesuffix(target.name)}{fresh.name}", text, mode=0o644, owner=_root())
        os.replace(fresh, target)
        self.machine.must("systemctl", "daemon-reload")

    def _link(self) -> Iterator[Change]:
        own = os.path.join(self.home.bin, "picoctl")
        link = self.machine.path(LINK)
        if link.is_symlink() and os.readlink(link) == own:
            return
        if os.path.lexists(link):
            yield Change(f"(leave {LINK} as it is; this installation's is {own})")
        elif os.path.dirname(own) not in ("/usr/bin", "/usr/local/bin"):
            yield Change(f"link {LINK} to {own}", lambda: link.symlink_to(own))

    def _start(self) -> Iterator[Change]:
        unit = self.daemon.unit
        if not self._asked("is-enabled"):
            yield Change(f"have it started at boot: systemctl enable {unit}", lambda: self._systemctl("enable"))
        if not self._asked("is-active"):
            yield Change(
                f"start it, and wait until it is ready: systemctl start {unit}", lambda: self._systemctl("start")
            )

    def _asked(self, question: str) -> bool:
        if not self.machine.has_systemd():
            return False
        return self.machine.run(("systemctl", question, "--quiet", self.service)).status == 0

    def _systemctl(self, verb: str) -> None:
        said = self.machine.run(("systemctl", verb, self.service))
        if said.status:
            log = self.machine.run(("journalctl", "--no-pager", "-o", "cat", "-n", _JOURNAL_LINES, "-u", self.service))
            raise SaidNo(f"systemctl {verb} {self.service} ended with {said.status}: {said.text}\n{log.text}")


def _root() -> tuple[int, int]:
    """Owner and group of what is made here: this runs as root, but for tests."""
    return os.geteuid(), os.getegid()


def _texts(value: object) -> Iterator[str]:
    """All texts in a document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
