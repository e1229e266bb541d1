"""Defaults, a file and flags into one checked configuration, or every fault that stands in the way."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar

import attrs

from pico_twisted.config.agent import AgentConfig, ConnectConfig
from pico_twisted.config.certificates import age_faults
from pico_twisted.config.checks import agent_faults, node_faults, read_cluster_secrets, read_secret
from pico_twisted.config.cluster import ClusterConfig
from pico_twisted.config.document import Document, child, parse_document
from pico_twisted.config.faults import MAX_FILE_NAME_SHOWN, ConfigFaults, Contradiction, Fault, shown, whose
from pico_twisted.config.fields import all_keys, own_keys
from pico_twisted.config.kinds import Many, split_commas
from pico_twisted.config.node import NodeConfig
from pico_twisted.config.structure import structure

C = TypeVar("C", bound="NodeConfig | AgentConfig")

Overrides = Mapping[str, str | list[str]]

LISTEN = "listen"  # the agent's flag for listeners, which have no key that is one text


def load_node(
    path: str | None = None,
    overrides: Overrides | None = None,
    environ: Mapping[str, str] | None = None,
    expand_env: bool = False,
    *,
    directory: str | None = None,
    now: datetime | None = None,
) -> NodeConfig:
    """Load the configuration of a node; `cluster.secrets` holds those of `cluster.secret_files` too.

    Args:
        path: the YAML file; None for none.
        overrides: values of flags, by the dotted path of their key; a list for a flag that was repeated.
        environ: the environment, for `${VAR}`.
        expand_env: whether `${VAR}` in the file is replaced.
        directory: where relative file names start; the current directory unless given.
        now: the time at which certificates have to be valid; None when they need not be.

    Raises:
        ConfigFaults: with everything that is wrong.
    """
    load = _Load(NodeConfig, path, overrides or {}, directory)
    config = load.run(environ if expand_env else None, node_faults, now)
    secrets, faults = read_cluster_secrets(config.cluster)
    if faults:  # a file has changed since it was checked
        raise ConfigFaults(load.placed(faults))
    cluster: ClusterConfig = attrs.evolve(config.cluster, secrets=secrets)
    return attrs.evolve(config, cluster=cluster)


def load_agent(
    path: str | None = None,
    overrides: Overrides | None = None,
    environ: Mapping[str, str] | None = None,
    expand_env: bool = False,
    *,
    directory: str | None = None,
    now: datetime | None = None,
) -> AgentConfig:
    """Load the configuration of an agent; `connect.token` holds what `connect.token_file` says.

    Parameters and exceptions are those of `load_node`. The override `listen` holds texts `ENDPOINT=ADDR`,
    which take the place of the file's listeners.
    """
    load = _Load(AgentConfig, path, overrides or {}, directory)
    config = load.run(environ if expand_env else None, agent_faults, now)
    if not config.connect.token_file:
        return config
    token = read_secret(config.connect.token_file)
    if token is None:
        fault = Fault(
            path="connect.token_file",
            found="a file that holds no token",
            expected="a file with one line of visible ASCII characters without blanks",
        )
        raise ConfigFaults(load.placed([fault]))
    connect: ConnectConfig = attrs.evolve(config.connect, token=token)
    return attrs.evolve(config, connect=connect)


class _Load(Generic[C]):
    """One run of loading: keeps where each value came from, for the faults."""

    def __init__(self, cls: type[C], path: str | None, overrides: Overrides, directory: str | None) -> None:
        self.cls = cls
        self.path = path
        self.overrides = overrides
        self.directory = os.getcwd() if directory is None else directory
        self.places: dict[str, str] = {}
        self.faults: list[Fault] = []
        self.readable = True
        self.order = [key.dotted for key in all_keys(cls)]
        self.flags = {key.dotted: "--" + key.flag for key in all_keys(cls)}

    def run(
        self,
        environ: Mapping[str, str] | None,
        check: Callable[[C], Iterator[Contradiction]],
        now: datetime | None,
    ) -> C:
        data = self._read_file(environ)
        self._apply_overrides(data)
        self._anchor_file_names(data)
        config, faults = structure(data, self.cls)
        self.faults += faults
        if config is not None and self.readable:
            known = {fault.path for fault in self.faults}
            for fault, others in (*check(config), *(() if now is None else age_faults(config, now))):
                if not any(_touches(path, at) for path in known for at in (fault.path, *others)):
                    self.faults.append(fault)
        if self.faults or config is None:
            raise ConfigFaults(self.placed(self.faults))
        return config

    def placed(self, faults: Iterable[Fault]) -> list[Fault]:
        """The faults in the order of the keys, each with the flag or the line that it came from."""
        return sorted((self._placed(fault) for fault in faults), key=self._rank)

    def _placed(self, fault: Fault) -> Fault:
        if fault.where:
            return fault
        path = fault.path
        while path and path not in self.places:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return attrs.evolve(fault, where=self.places.get(path, ""))

    def _rank(self, fault: Fault) -> int:
        path = fault.path.partition("[")[0]
        while path and path not in self.order:
            path = path.rpartition(".")[0]
        return self.order.index(path) if path else -1

    def _read_file(self, environ: Mapping[str, str] | None) -> dict[str, Any]:
        if self.path is None:
            return {}
        try:
            with open(os.path.join(self.directory, self.path), "rb") as file:
                content = file.read()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a file name"
            why = whose(os.path.join(self.directory, self.path)) if isinstance(error, PermissionError) else ""
            found = f"{shown(self.path, MAX_FILE_NAME_SHOWN)} ({reason}{why})"
            self.faults.append(Fault(path="file", found=found, expected="a file that can be read", where="--config"))
            self.readable = False
            return {}
        document: Document = parse_document(content, file_name=self.path, environ=environ)
        self.faults += document.faults
        self.readable = document.readable
        self.places = {path: f"{self.path}:{line}" for path, line in document.lines.items()}
        return document.data

    def _apply_overrides(self, data: dict[str, Any]) -> None:
        for dotted, given in self.overrides.items():
            values = [given] if isinstance(given, str) else given
            if dotted == LISTEN and LISTEN not in self.flags:
                self._listen(data, values)
                continue
            if dotted not in self.flags:
                raise ValueError(f"no key {dotted}")  # the caller's mistake: flags are made from the keys
            *sections, name = dotted.split(".")
            self._section(data, sections)[name] = ",".join(values)
            self.places[dotted] = self.flags[dotted]

    def _section(self, data: dict[str, Any], names: list[str]) -> dict[str, Any]:
        path = ""
        for name in names:
            path = child(path, name)
            inner = data.get(name)
            if inner is not None and not isinstance(inner, dict):
                fault = Fault(
                    path=path, found="a list" if isinstance(inner, list) else "a single value", expected="a mapping"
                )
                self.faults.append(self._placed(fault))
                inner = None
            data[name] = inner = {} if inner is None else inner
            data = inner
        return data

    def _listen(self, data: dict[str, Any], texts: list[str]) -> None:
        listeners: list[dict[str, Any]] = []
        for text in [item for given in texts for item in split_commas(given)]:
            (endpoint, equals, addr), *options = (word.partition("=") for word in text.split())
            path = child("listeners", len(listeners))
            if not equals:
                expected = "ENDPOINT=ADDR, with options behind blanks"
                self.faults.append(Fault(path="listeners", found=shown(text), expected=expected, where="--listen"))
                continue
            listener: dict[str, Any] = {}
            for name, equals, value in (("endpoint", "=", endpoint), ("addr", "=", addr), *options):
                *sections, last = name.replace("-", "_").split(".")
                self._section(listener, sections)[last] = value if equals else "true"
                self.places[child(path, ".".join((*sections, last)))] = "--listen"
            self.places[path] = "--listen"
            listeners.append(listener)
        data["listeners"] = listeners

    def _anchor_file_names(self, data: dict[str, Any]) -> None:
        """Make relative file names absolute: a daemon changes its directory, and reads them again later."""
        self._anchor(data, self.cls)

    def _anchor(self, data: Any, cls: type[Any]) -> None:
        for key in own_keys(cls):
            name = key.path[-1]
            raw = data.get(name) if isinstance(data, dict) else None
            if raw is None:
                continue
            if key.section is not None:
                self._anchor(raw, key.section)
            elif key.item is not None:
                for item in raw if isinstance(raw, list) else ():
                    self._anchor(item, key.item)
            elif key.kind is not None and key.kind.file:
                if isinstance(key.kind, Many) and isinstance(raw, str):
                    raw = split_commas(raw)
                data[name] = [self._anchored(item) for item in raw] if isinstance(raw, list) else self._anchored(raw)

    def _anchored(self, raw: Any) -> Any:
        is_file = isinstance(raw, str) and raw and "://" not in raw  # the file of a key set may be a URL instead
        return os.path.join(self.directory, raw) if is_file else raw


def _touches(path: str, other: str) -> bool:
    """Whether one of two paths is the other, or lies in what the other holds."""
    short, long = sorted((path, other), key=len)
    return long == short or long.startswith((short + ".", short + "["))
