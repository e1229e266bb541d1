"""`picoctl cluster`: writes the files of a new cluster. No admin port is asked."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from pico_twisted.ctl.exits import SaidNo, emit

MOST_NODES: Final = 100
_DIRECTORY: Final = "/etc/pico"


def _hosts(context: click.Context, parameter: click.Parameter, value: str) -> Sequence[str]:
    from pico_twisted.config.values import read_host

    hosts = [host.strip().removeprefix("[").removesuffix("]") for host in value.split(",")]
    for host in hosts:
        try:
            if not host:
                raise ValueError
            read_host(host)
        except ValueError:
            raise click.BadParameter(f"found {host!r}, expected IPs or host names, without ports") from None
    if len(set(hosts)) < len(hosts):
        raise click.BadParameter("the same address twice: each node has one of its own")
    if len(hosts) > MOST_NODES:
        raise click.BadParameter(f"{len(hosts)} nodes, expected {MOST_NODES} at most")
    return hosts


def _as_key(key: str, value: str, option: str) -> str:
    """A value that the configuration's key takes."""
    from pico_twisted.config import NodeConfig
    from pico_twisted.config.faults import Unfit
    from pico_twisted.config.fields import all_keys

    (kind,) = (found.kind for found in all_keys(NodeConfig) if found.dotted == key)
    assert kind is not None
    try:
        kind.parse(value)
    except Unfit as misfit:
        raise click.BadParameter(str(misfit), param_hint=option) from None
    return value


def _directory(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if not value or not value.isprintable() or '"' in value or "\\" in value:
        raise click.BadParameter("found no name of a directory that a file of YAML can quote")
    return value.rstrip("/") or "/"


@click.group(short_help="Make the files of a new cluster.")
def cluster() -> None:
    """A new cluster: its configuration, secret, certificates and tokens."""


@cluster.command(short_help="Write an archive for each node, and one for agents.")
@click.option("--nodes", "hosts", required=True, callback=_hosts, metavar="HOST,HOST,...", help="The nodes' addresses.")
@click.option("--public-url", default="", metavar="URL", help="Where clients will be: https://*.tunnel.example.com.")
@click.option("--name", default="pico", show_default=True, help="The cluster's name.")
@click.option("--out", metavar="DIR", help="A new directory for what is made.  [default: NAME-cluster]")
@click.option(
    "--directory",
    default=_DIRECTORY,
    show_default=True,
    callback=_directory,
    metavar="DIR",
    help="Where the archives will be unpacked.",
)
def init(hosts: Sequence[str], public_url: str, name: str, out: str | None, directory: str) -> None:
    """Write what the nodes of a new cluster need, each in an archive of its own: configuration, secret, certificates of
    an authority that is made here, and tokens; the same for agents; and the tokens of an operator and of Prometheus.

    \b
      picoctl cluster init --nodes 10.0.0.1,10.0.0.2,10.0.0.3 --public-url 'https://*.tunnel.example.com'
    """
    from pico_twisted.ctl.cluster.bundles import NewCluster, cluster_files

    wanted = NewCluster(
        name=_as_key("cluster.name", name, "--name"),
        hosts=hosts,
        public_url=_as_key("proxy.public_url", public_url, "--public-url"),
        directory=directory,
    )
    target = out if out is not None else f"{name}-cluster"
    files = cluster_files(wanted, datetime.now(UTC))
    _write(Path(target), files)
    for written in sorted(files):
        emit(os.path.join(target, written))
    emit(f"\nWhat to do with them: {os.path.join(target, 'README')}")


def _write(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a new directory, for their owner alone: all of them, or none. Raises SaidNo."""
    with contextlib.ExitStack() as undo:
        try:
            directory.mkdir(mode=0o700)
            undo.callback(shutil.rmtree, directory, ignore_errors=True)
            for name, data in files.items():
                with open(os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(data)
        except FileExistsError:
            raise SaidNo(f"{directory} is there already, and is not written over") from None
        except OSError as error:
            raise SaidNo(f"{directory} cannot be written: {error.strerror}") from None
        undo.pop_all()
