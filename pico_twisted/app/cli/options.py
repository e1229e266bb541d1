"""The command lines of `twistd pico` and `twistd pico-agent`, made from the configuration classes.

Faults of flags and of the file are told together on stderr, one line each, and end the start with status 1. twistd
would print its whole usage page for a flag that it cannot read, so the flags are sifted before it sees them. Nothing
here may import the reactor: twistd picks it after these options are read.
"""

from __future__ import annotations

import difflib
import errno
import getopt
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Generic, NoReturn, TypeVar

from twisted.python import usage

from pico_twisted import __version__
from pico_twisted.app.cli.usage_text import Entry, Group, render, terminal_width
from pico_twisted.config import AgentConfig, ConfigFaults, Fault, NodeConfig, load_agent, load_node
from pico_twisted.config.certificates import certificate_warnings
from pico_twisted.config.faults import shown
from pico_twisted.config.fields import Key, all_keys
from pico_twisted.config.kinds import Many
from pico_twisted.core.http2.engine import AVAILABLE
from pico_twisted.net.observe.logs import Logging, in_background, log_under_twistd

C = TypeVar("C", bound="NodeConfig | AgentConfig")
D = TypeVar("D", bound="DaemonOptions[Any]")

_TWISTD_PIDFILE = "twistd.pid"
"""The file that twistd writes a process ID to unless it is told otherwise."""

NO_HTTP_2 = (
    "proxy.http2: clients get HTTP/1.1 alone, since ngh2 is not installed: pip install 'pico_twisted[http2]', or set "
    "proxy.http2.enabled to false"
)
"""What is said at a start and by a check where HTTP/2 is configured and cannot be had."""

_VALUE_WORDS = {
    "boolean": "true|false",
    "number": "N",
    "number or auto": "N|auto",
    "endpoint ID": "ID",
    "service address": "ADDRESS",
}


class DaemonOptions(usage.Options, Generic[C]):
    """What both daemons' options share. `parseOptions` leaves a checked configuration in `config`, or exits.

    Attributes:
        config: the configuration.
        config_file: the file that it was read from, if any; an absolute name.
        expand_env: whether ${VAR} in the file is replaced.
        given: the texts of the flags for keys, by the path of the key.
        logging: of the process; twistd starts it instead of its own.
        background: twistd leaves the terminal.
    """

    synopsis = "[--config FILE] [--KEY VALUE]..."

    config_class: ClassVar[type[Any]]  # of `C`, which a class variable cannot name
    command: ClassVar[str]
    about: ClassVar[Sequence[str]]
    examples: ClassVar[Sequence[tuple[str, str]]]
    load: ClassVar[Callable[..., Any]]  # gives a `C`
    more_flags: ClassVar[Sequence[Entry]] = ()

    config: C
    logging: Logging
    background: bool

    def __init__(self) -> None:
        self.config_file: str | None = None
        self.expand_env = False
        self._check_only = False
        self.given: dict[str, list[str]] = {}
        self._faults: list[Fault] = []
        self._directory = os.getcwd()
        super().__init__()  # type: ignore[no-untyped-call]

    # The flags that are no keys.

    def opt_config(self, file_name: str) -> None:
        """Read this YAML file. Flags beat what it says, and it beats the defaults."""
        self.config_file = file_name

    def opt_check(self) -> None:
        """Check the file and the flags, say what is wrong with them, and exit."""
        self._check_only = True

    def opt_version(self) -> None:
        """Print the version and exit."""
        _print_and_exit(f"pico_twisted {__version__}\n")

    def opt_help(self) -> None:
        """Print this and exit."""
        _print_and_exit(f"{self.getSynopsis()}\n{self.getUsage()}\n")

    # What twistd calls.

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read the command line. Its faults are kept for `postOptions`, which tells them with those of the file."""
        arguments = list(sys.argv[1:] if options is None else options)
        if len(arguments) < 2 or arguments[-2] != "--_shell-completion":
            arguments = self._sift(arguments)
        super().parseOptions(arguments)  # type: ignore[no-untyped-call]

    def postOptions(self) -> None:
        """Load and check the configuration.

        Raises:
            SystemExit: with status 1 when anything is wrong, with status 0 when only a check was asked for.
        """
        faults = list(self._faults)
        now = datetime.now(UTC)
        try:
            self.config = self.reload(now if self._check_only else None)
        except ConfigFaults as error:
            faults += error.faults
        if faults:
            for fault in faults:
                print(f"{self.command}: {fault}", file=sys.stderr)
            raise SystemExit(1)
        if self.config_file is not None:
            self.config_file = os.path.join(self._directory, self.config_file)
        if self._check_only:
            for warning in [*certificate_warnings(self.config, now), *self.warnings()]:
                print(f"{self.command}: warning: {warning}", file=sys.stderr)
            _print_and_exit("configuration is valid\n")
        # usage.Options has no types: each of twistd's options is of its own
        twistd: dict[str, Any] = {} if self.parent is None else self.parent
        self.background = in_background(twistd)
        try:
            self.logging = log_under_twistd(self.config.log, twistd, self._access_log_file())
            pidfile = twistd.get("pidfile") or ""
            if self.background and pidfile and not os.access(os.path.dirname(pidfile) or ".", os.W_OK):
                # twistd would raise, when nobody looks any more
                raise OSError(errno.EACCES, "its directory cannot be written", pidfile)
        except OSError as error:
            print(f"{self.command}: cannot write {error.filename}: {error.strerror}", file=sys.stderr)
            raise SystemExit(1) from None
        if twistd.get("nodaemon") and twistd.get("pidfile") == _TWISTD_PIDFILE:
            twistd["pidfile"] = ""  # two daemons in the foreground of one directory would be in each other's way

    def _access_log_file(self) -> str:
        """The file for access lines that the configuration names, or nothing."""
        return ""

    def warnings(self) -> Iterable[str]:
        """What is configured and cannot be had here, in words for people."""
        return ()

    def reload(self, now: datetime | None = None) -> C:
        """Read the file again, with the same flags. Called at the start and for a reload.

        Args:
            now: the time at which certificates have to be valid; None when they need not be.

        Raises:
            ConfigFaults: with everything that is wrong.
        """
        config: C = type(self).load(
            self.config_file,
            self.given,
            os.environ,
            self.expand_env,
            directory=self._directory,
            now=now,
        )
        return config

    @property
    def directory(self) -> str:
        """Where relative names of files begin."""
        return self._directory

    def arguments(self) -> list[str]:
        """Flags that say the same as those that were given."""
        flags = [] if self.config_file is None else [f"--config={self.config_file}"]
        if self.expand_env:
            flags.append("--config.expand-env")
        return flags + [f"--{path.replace('_', '-')}={text}" for path, texts in self.given.items() for text in texts]

    def getUsage(self, width: int | None = None) -> str:
        """What `--help` prints behind the synopsis."""
        return render(self.about, self._groups(), self.examples, width or terminal_width())

    def _groups(self) -> list[Group]:
        own = [
            Entry(flag="config", value="FILE", help=self.docs["config"]),
            Entry(flag="config.expand-env", help=self.docs["config.expand-env"]),
            Entry(flag="check", help=self.docs["check"]),
            Entry(flag="version", help=self.docs["version"]),
            Entry(flag="help", help=self.docs["help"]),
        ]
        groups = [Group(title="Options", entries=own)]
        top: list[Entry] = list(self.more_flags)
        for key in all_keys(self.config_class):
            if key.section is not None and len(key.path) == 1:
                entries = [_entry(inner) for inner in all_keys(key.section, key.path) if inner.kind is not None]
                groups.append(Group(title=key.dotted, help=key.help, entries=entries))
            elif key.kind is not None and len(key.path) == 1:
                top.append(_entry(key))
        groups.insert(1, Group(title="This process", entries=top))
        return groups

    def _sift(self, arguments: list[str]) -> list[str]:
        """The arguments that can be read. The others become faults."""
        while True:
            try:
                _, rest = getopt.getopt(arguments, self.shortOpt, self.longOpt)
            except getopt.GetoptError as error:
                arguments = self._drop(arguments, error)
                continue
            for word in rest:
                self._fault("flags", shown(word), "nothing but flags")
            return arguments[: len(arguments) - len(rest)]

    def _drop(self, arguments: list[str], error: getopt.GetoptError) -> list[str]:
        """The arguments without the one that made this error, which becomes a fault."""
        name = error.opt
        index = next(at for at, word in enumerate(arguments) if _names(word, name))
        known = [flag.rstrip("=") for flag in self.longOpt]
        prefixed = [flag for flag in known if flag.startswith(name)]
        here = f"--{name}" if len(name) > 1 else f"-{name}"
        if name in known:
            takes_value = name + "=" in self.longOpt
            self._fault(here, "no value" if takes_value else "a value", "a value" if takes_value else "none")
            return arguments[:index] + arguments[index + 1 :]
        if len(prefixed) > 1:
            self._fault(here, "the beginning of several flags", "one of " + ", ".join("--" + flag for flag in prefixed))
        else:
            near = difflib.get_close_matches(name, known, n=1)
            self._fault(here, "an unknown flag", f"--{near[0]}" if near else "a flag that --help lists")
        end = index + 1
        if "=" not in arguments[index] and end < len(arguments) and not arguments[end].startswith("-"):
            end += 1  # what was meant as its value
        return arguments[:index] + arguments[end:]

    def _fault(self, flag: str, found: str, expected: str) -> None:
        self._faults.append(Fault(path=flag, found=found, expected=expected))


def _print_and_exit(text: str) -> NoReturn:
    """Print what was asked for, and end with status 0: also when the reader has seen enough, as `head` may have."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more when it ends, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(0)


def _names(word: str, name: str) -> bool:
    if len(name) == 1 and not word.startswith("--"):
        return word.startswith("-") and name in word
    return word.startswith("--") and word[2:].partition("=")[0] == name


def _entry(key: Key) -> Entry:
    kind = key.kind
    assert kind is not None
    name = kind.item.name if isinstance(kind, Many) else kind.name
    value = name if "|" in name else _VALUE_WORDS.get(name, name.upper())
    default = key.default_text
    return Entry(
        flag=key.flag,
        value=f"{value},..." if isinstance(kind, Many) else value,
        help=key.help.replace("`", ""),
        note=f"default: {default}" if default else "",
    )


def _expand_env(options: DaemonOptions[C]) -> None:
    """Replace ${VAR} and ${VAR:default} in the file by the environment's values."""
    options.expand_env = True


def _key_option(key: Key) -> Callable[[DaemonOptions[C], str], None]:
    def option(options: DaemonOptions[C], value: str) -> None:
        options.given.setdefault(key.dotted, []).append(value)

    option.__doc__ = key.help
    return option


def _flag_for_every_key(cls: type[D]) -> type[D]:
    """Give a class the methods in which `usage.Options` looks for flags: the dots of a path stay in the name."""
    setattr(cls, "opt_config.expand_env", _expand_env)
    for key in all_keys(cls.config_class):
        if key.kind is not None:
            setattr(cls, f"opt_{key.dotted}", _key_option(key))
    return cls


@_flag_for_every_key
class NodeOptions(DaemonOptions[NodeConfig]):
    """The command line of `twistd pico`."""

    config_class = NodeConfig
    command = "pico"
    load = staticmethod(load_node)
    about = (
        "Runs a Pico node. Proxy clients send HTTP requests to its proxy port; it passes each on to an agent that "
        "registered the endpoint and that has connected to its upstream port; operators watch it on its admin port. "
        "Nodes that know of each other are a cluster: each serves the endpoints of all. A node alone needs no file and "
        "no flags to start.",
        "Every key of the configuration file is a flag too. A list is given by repeating its flag or with commas. "
        "Flags beat the file, and the file beats the defaults. With -n before pico the node stays in the foreground.",
    )
    examples = (
        ("A node on the default ports, in the foreground", "twistd -n --pidfile= pico"),
        ("Checks a file", "twistd pico --config /etc/pico/pico.yaml --check"),
        ("Changes two keys", "twistd -n --pidfile= pico --proxy.bind-addr=127.0.0.1:8000 --proxy.timeout=1m"),
        (
            "Trusts two load balancers",
            "twistd -n --pidfile= pico --proxy.trusted-proxies=10.0.0.1,10.0.0.2",
        ),
        (
            "A node of a cluster: the same line on each, with the names of two or three of them",
            "twistd -n --pidfile= pico --cluster.join=node1.example.com,node2.example.com \\\n"
            "      --cluster.secret-files=/etc/pico/cluster-secret",
        ),
    )

    def _access_log_file(self) -> str:
        return self.config.proxy.access_log_file

    def warnings(self) -> Iterable[str]:
        """See `DaemonOptions.warnings`."""
        if self.config.proxy.http2.enabled and not AVAILABLE:
            yield NO_HTTP_2


@_flag_for_every_key
class AgentOptions(DaemonOptions[AgentConfig]):
    """The command line of `twistd pico-agent`."""

    config_class = AgentConfig
    command = "pico-agent"
    load = staticmethod(load_agent)
    about = (
        "Runs a Pico agent beside services that open no port to the outside. It connects to a Pico node, registers "
        "endpoints there, and passes the requests for them on to the services.",
        "Every key of the configuration file is a flag too, but for listeners, which --listen replaces. A list is "
        "given by repeating its flag or with commas. Flags beat the file, and the file beats the defaults. With -n "
        "before pico-agent the agent stays in the foreground.",
    )
    examples = (
        (
            "A service on port 3000 as my-endpoint",
            "twistd -n --pidfile= pico-agent --listen my-endpoint=localhost:3000",
        ),
        (
            "Two services, and a node elsewhere",
            "twistd -n --pidfile= pico-agent --connect.url https://pico.example.com:8002 \\\n"
            "      --listen shop=3000 --listen blog=https://127.0.0.1:3001",
        ),
        ("Checks a file", "twistd pico-agent --config /etc/pico/pico-agent.yaml --check"),
    )
    more_flags = (
        Entry(
            flag="listen",
            value="ENDPOINT=ADDRESS [KEY=VALUE ...]",
            help="Register an endpoint for the service at this address: a port, host:port, an http, https or h2c URL, "
            "or unix:/path. Behind blanks other keys of a listener may follow, as in 'web=3000 rewrite_host "
            "timeout=5s'. May be given more than once. In place of the file's listeners.",
        ),
    )

    def opt_listen(self, value: str) -> None:
        """Register an endpoint for the service at this address."""
        self.given.setdefault("listen", []).append(value)

    def _access_log_file(self) -> str:
        return self.config.access_log_file
