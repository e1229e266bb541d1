"""What is to be made reachable, as one value, read from the command line, and as the configuration of an agent."""

from __future__ import annotations

import getpass
import os
import re
import secrets
import socket
from collections.abc import Callable, Sequence
from typing import Final

import attrs
import click

from pico_twisted.config import (
    Address,
    AgentConfig,
    ConfigFaults,
    ListenerConfig,
    Network,
    ServiceTlsConfig,
    load_agent,
)
from pico_twisted.config.checks import agent_faults
from pico_twisted.config.faults import Unfit
from pico_twisted.config.kinds import ENDPOINT_ID, SERVICE_ADDRESS
from pico_twisted.config.values import duration_text
from pico_twisted.expose.upstream import Upstream

REWRITE: Final = "rewrite"
"""The value of `--host-header` that stands for the service's own address."""
USERS: Final = "--basic-auth"
"""Stands for the name of a file of users, where they were given on the command line."""
GRACE_S: Final = 10.0
"""Seconds that requests in progress have after the first Ctrl-C."""
STREAMS_S: Final = 2.0
"""Seconds that WebSockets and event streams have, which do not end by themselves."""
NO_ADDRESS: Final = "localhost:1"
"""Stands where a configuration wants an address, for what is served in this process; nothing shows or dials it."""
_NOT_OF_A_NAME: Final = re.compile(r"[^A-Za-z0-9._-]+")
_MOST_OF_A_NAME: Final = 20  # characters of a user or a host: an agent ID has 64 at most


@attrs.frozen(kw_only=True)
class Target:
    """Something to be made reachable.

    Attributes:
        name: endpoint ID that was asked for; empty for one that is kept or made.
        addr: where the service is, as a listener's `addr`; empty for a folder.
        folder: that is served, as an absolute path; empty for a service.
    """

    name: str = ""
    addr: str = ""
    folder: str = ""

    @property
    def port(self) -> int:
        """The port of this machine that it listens at; 0 when that is not known."""
        number = self.addr.rpartition(":")[2]
        return int(number) if number.isdecimal() else 0

    @property
    def is_https(self) -> bool:
        """Whether its service speaks TLS."""
        return self.addr.startswith("https")

    @property
    def key(self) -> str:
        """What it is, as one text: two targets are the same if they have the same."""
        return self.folder or self.addr

    @property
    def shown(self) -> str:
        """What it is, for people."""
        home = os.path.expanduser("~")
        if self.folder:
            return f"~{self.folder[len(home) :]}" if self.folder.startswith(home + os.sep) else self.folder
        return self.addr


@attrs.frozen(kw_only=True)
class Guard:
    """Who may use what is made reachable.

    Attributes:
        users: pairs of a user and a password; anybody may come in when there are none, and no file.
        users_file: a file with such pairs, as `htpasswd -B` writes it; empty for none.
        allow: networks that clients have to be in; everybody when there are none.
    """

    users: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)
    users_file: str = ""
    allow: tuple[Network, ...] = ()


@attrs.frozen(kw_only=True)
class Shown:
    """What is shown of what goes on.

    Attributes:
        json: one JSON object in each line, for programs.
        quiet: only where it is reached, and why it is not.
        qr: the URLs as QR codes, too.
    """

    json: bool = False
    quiet: bool = False
    qr: bool = False


@attrs.frozen(kw_only=True)
class ExposePlan:
    """What a run is to do.

    Attributes:
        targets: one at least, with different names.
        protocol: what their services speak, `http` or `tcp`.
        upstream: the nodes.
        share: others may serve the same endpoints, too.
        host_header: `Host` that services get; empty for the client's, `rewrite` for their own address.
        service_ca: the PEM file of those to trust for https services; the system's when empty.
        verify: the certificates of https services are checked.
        hidden: files whose names begin with a dot are served, too.
        guard: who may come in.
        patience_s: for which a node that is not there is waited for at the start.
        timeout_s: for one attempt to connect to a node.
        shown: what is shown.
        inspect: where the inspector listens, or at the next free port; None for no inspector.
    """

    targets: tuple[Target, ...]
    protocol: str = "http"
    upstream: Upstream
    share: bool = False
    host_header: str = ""
    service_ca: str = ""
    verify: bool = True
    hidden: bool = False
    guard: Guard = Guard()
    patience_s: float = 0.0
    timeout_s: float = 10.0
    shown: Shown = Shown()
    inspect: Address | None = None

    def key_of(self, target: Target) -> str:
        """What the name of a target is kept for: a port has one name for HTTP and another for TCP."""
        return target.key if self.protocol == "http" else f"{self.protocol} {target.key}"


def read_targets(words: Sequence[str], protocol: str) -> tuple[Target, ...]:
    """Read what is behind `picoctl http` and `picoctl tcp`: `3000`, `shop=3000`, `shop=https://10.0.0.7`.

    Raises:
        click.UsageError: that does not make sense.
    """
    if not words:
        raise click.UsageError(f"where does your service listen? For example: picoctl {protocol} 3000")
    targets = []
    for word in words:
        name, text = _split(word)
        try:
            address = SERVICE_ADDRESS.parse(text)
        except Unfit as misfit:
            raise click.BadParameter(str(misfit), param_hint="SERVICE") from None
        if protocol == "tcp" and address is not None and "://" in text:
            raise click.BadParameter(f"found {text!r}, expected a port or host:port", param_hint="SERVICE")
        targets.append(Target(name=name, addr=str(address)))
    return _distinct(targets)


def read_folder(word: str) -> Target:
    """Read what is behind `picoctl file`: `./folder`, `docs=./folder`.

    Raises:
        click.UsageError: there is no such folder.
    """
    name, path = _split(word)
    folder = os.path.realpath(os.path.expanduser(path))
    if not os.path.isdir(folder):
        what = "no folder" if os.path.exists(folder) else "nothing"
        raise click.BadParameter(f"there is {what} at {path}", param_hint="FOLDER")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise click.BadParameter(f"{path} may not be read", param_hint="FOLDER")
    return Target(name=name, folder=folder)


def _split(word: str) -> tuple[str, str]:
    """The name and what has it; the name is empty when there is none."""
    name, equals, rest = word.partition("=")
    if not equals or "/" in name or ":" in name:
        return "", word
    try:
        return ENDPOINT_ID.parse(name) or "", rest
    except Unfit as misfit:
        raise click.BadParameter(str(misfit), param_hint="NAME") from None


def _distinct(targets: Sequence[Target]) -> tuple[Target, ...]:
    names = [target.name.lower() for target in targets if target.name]
    keys = [target.key for target in targets if not target.name]
    if len(set(names)) < len(names) or len(set(keys)) < len(keys):
        raise click.UsageError("the same twice: give each a name of its own, as in shop=3000 admin=3000")
    return tuple(targets)


def read_users(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Read pairs of a user and a password.

    Args:
        texts: `user:password` each.

    Raises:
        click.BadParameter: one is no pair.
    """
    pairs = []
    for text in texts:
        user, colon, password = text.partition(":")
        if not user or not colon or not password or not text.isprintable():
            raise click.BadParameter("expected a user and a password, with a colon between", param_hint=USERS)
        pairs.append((user, password))
    return tuple(pairs)


def own_agent_id(draw: Callable[[int], str] = secrets.token_hex) -> str:
    """An ID for the agent of this run, by which others may know whose it is: `alice-laptop-3f2a9c01`.

    Args:
        draw: given a number of bytes, that much of chance in hexadecimal digits.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "somebody"
    parts = (user, socket.gethostname().partition(".")[0])
    clean = [_NOT_OF_A_NAME.sub("", part)[:_MOST_OF_A_NAME] for part in parts]
    return "-".join([*filter(None, clean), draw(4)])


def agent_config(plan: ExposePlan, names: Sequence[str], urls: Sequence[str]) -> AgentConfig:
    """The configuration of the agent of a run.

    Args:
        plan: what is to be done.
        names: endpoint IDs of the targets.
        urls: of the nodes.

    Raises:
        ConfigFaults: a file cannot be used, or options contradict each other.
    """
    upstream = plan.upstream
    given = {
        "connect.token_file": upstream.token_file,
        "connect.token": "" if upstream.token_file else upstream.token,
        "connect.tls.root_cas": upstream.ca,
        "connect.tls.cert": upstream.cert,
        "connect.tls.key": upstream.key or (upstream.cert or ""),
    }
    overrides: dict[str, str | list[str]] = {name: value for name, value in given.items() if value}
    overrides["connect.url"] = list(urls)
    overrides["connect.timeout"] = duration_text(plan.timeout_s)
    overrides["agent_id"] = own_agent_id()
    pairs = zip(names, plan.targets, strict=True)
    overrides["listen"] = [f"{name}={one.addr or NO_ADDRESS} {_options(plan)}" for name, one in pairs]
    config = load_agent(None, overrides)
    config = attrs.evolve(config, listeners=tuple(_listener(plan, one) for one in config.listeners))
    connect = attrs.evolve(config.connect, token="") if upstream.token_file else config.connect  # it is from the file
    faults = [fault for fault, _ in agent_faults(attrs.evolve(config, connect=connect))]
    if faults:
        raise ConfigFaults(faults)
    listeners = config.listeners
    if plan.guard.users:
        listeners = tuple(attrs.evolve(one, basic_auth_file=USERS) for one in listeners)
    return attrs.evolve(config, listeners=listeners, grace_period=GRACE_S, drain_streams=STREAMS_S)


def _options(plan: ExposePlan) -> str:
    """What can be said of all listeners as words behind their addresses, and is checked there."""
    in_process = any(target.folder for target in plan.targets)
    words = (
        f"protocol={plan.protocol}",
        f"share={'true' if plan.share else 'false'}",
        f"rewrite_host={'true' if plan.host_header == REWRITE else 'false'}",
        "reuse=never" if in_process else "",  # one call on each connection in memory
    )
    return " ".join(filter(None, words))


def _listener(plan: ExposePlan, listener: ListenerConfig) -> ListenerConfig:
    guard = plan.guard
    tls = ServiceTlsConfig(ca=plan.service_ca, verify=plan.verify)
    return attrs.evolve(
        listener,
        host_header="" if plan.host_header == REWRITE else plan.host_header,
        allow=guard.allow,
        basic_auth_file=os.path.abspath(guard.users_file) if guard.users_file else "",
        tls=tls if listener.addr.https else listener.tls,
    )
