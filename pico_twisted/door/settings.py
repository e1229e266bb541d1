"""What a program says about its endpoint, as the configuration of an agent, or in words what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from pico_twisted.config import AgentConfig, ConfigFaults, ConnectConfig, Fault, load_agent
from pico_twisted.config.faults import Unfit, shown
from pico_twisted.config.kinds import ENDPOINT_ID

URL_VARIABLE: Final = "PICO_URL"
"""The environment variable with the URLs of nodes, for programs that name none."""
TOKEN_FILE_VARIABLE: Final = "PICO_TOKEN_FILE"
"""That of the file with the token, likewise."""

PROXY_URL_VARIABLE: Final = "PICO_PROXY_URL"
"""That with the URLs of proxy ports, for programs that connect to an endpoint."""
DEFAULT_PROXY_URL: Final = "http://localhost:8000"
"""The proxy port of a node on this machine with its default ports."""

OF_FACTORIES: Final = ("http", "tcp")
"""What the protocols of a factory may speak: what services at an address speak besides needs a connection of its own
kind."""

_ARGUMENTS: Final = {
    "connect.url": "url",
    "connect.token": "token",
    "connect.token_file": "token_file",
    "connect.tls.root_cas": "ca",
    "listeners[0].addr": "target",
    "listeners[0].protocol": "protocol",
}
"""What a program calls the keys of a configuration."""

_NO_ADDRESS: Final = "localhost:1"
"""Stands where a configuration wants the address of a service, for one that has none; nothing shows or dials it."""


@attrs.frozen(kw_only=True)
class EndpointSettings:
    """An endpoint, and how to reach the nodes that it is registered at.

    Attributes:
        endpoint: its ID.
        url: of the upstream port of a node, or of the proxy port for who connects to the endpoint; or several, with
            commas between or in a sequence; None for what the environment says, else a node on this machine.
        token: shown to the nodes; None for none.
        token_file: file that holds the token; None for what the environment says, unless there is a token.
        ca: a PEM file with the authorities to trust; None for those of the system.
        protocol: `http` or `tcp`; of a service at an address also `grpc`.
    """

    endpoint: str
    url: str | Sequence[str] | None = None
    token: str | None = None
    token_file: str | None = None
    ca: str | None = None
    protocol: str = "http"


def agent_config(
    settings: EndpointSettings, address: str | None = None, environ: Mapping[str, str] = os.environ
) -> AgentConfig:
    """The configuration of an agent that registers one endpoint.

    Args:
        settings: what the program says.
        address: where the service listens, as a listener's `addr`; None when it is this process.
        environ: the environment, for what the settings leave open.

    Raises:
        ValueError: something is wrong with the settings, and it says what.
    """
    try:
        ENDPOINT_ID.parse(settings.endpoint)
    except Unfit as misfit:
        raise ValueError(f"endpoint: {misfit}") from None
    if address is not None and not address.strip():
        raise ValueError("target: found nothing, expected where the service listens")
    if address is None and settings.protocol not in OF_FACTORIES:
        expected = " or ".join(OF_FACTORIES)
        raise ValueError(f"protocol: found {shown(settings.protocol)}, expected {expected}, which a factory can speak")
    listener = f"{settings.endpoint}={address or _NO_ADDRESS} protocol={settings.protocol or 'nothing'}"
    if not address and settings.protocol == "http":
        listener += " reuse=never"  # one call on each connection: who its peer is depends on the call
    overrides: dict[str, str | list[str]] = {"listen": [listener]}
    urls = [settings.url] if isinstance(settings.url, str) else list(settings.url or ())
    if not urls and environ.get(URL_VARIABLE):
        urls = [environ[URL_VARIABLE]]
    token_file = settings.token_file
    if token_file is None and settings.token is None:
        token_file = environ.get(TOKEN_FILE_VARIABLE)
    given = (
        ("connect.url", urls),
        ("connect.token", settings.token),
        ("connect.token_file", token_file),
        ("connect.tls.root_cas", settings.ca),
    )
    overrides.update({key: value for key, value in given if value})
    try:
        return load_agent(None, overrides)
    except ConfigFaults as faults:
        raise ValueError("; ".join(_words(fault) for fault in faults.faults)) from None


def connect_config(settings: EndpointSettings, environ: Mapping[str, str] = os.environ) -> ConnectConfig:
    """How a program reaches the proxy ports at which it connects to an endpoint.

    Args:
        settings: what the program says.
        environ: the environment, for what the settings leave open.

    Raises:
        ValueError: something is wrong with the settings, and it says what.
    """
    url = settings.url or environ.get(PROXY_URL_VARIABLE) or DEFAULT_PROXY_URL
    return agent_config(attrs.evolve(settings, url=url), environ=environ).connect


def _words(fault: Fault) -> str:
    key, bracket, index = fault.path.partition("[") if fault.path.startswith("connect") else (fault.path, "", "")
    return f"{_ARGUMENTS.get(key, key)}{bracket}{index}: found {fault.found}, expected {fault.expected}"
