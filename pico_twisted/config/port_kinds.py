"""What keys of ports and services that speak HTTP may hold: where it is spoken, how, and who is trusted."""

from __future__ import annotations

import re
from typing import Any

from pico_twisted.config import values
from pico_twisted.config.fields import setting
from pico_twisted.config.kinds import NETWORK, Kind, matching
from pico_twisted.core.text import is_loopback

_EXPECTED = (
    "an address to listen on such as 8000, :8000, 127.0.0.1:8000 or [::1]:8000 (in quotes in a file), or unix:/path"
)
PORT_ADDRESS: Kind[values.Address] = Kind(name="address", expected=_EXPECTED, read=values.read_port_address)
PORT_ADDRESS_OR_OFF: Kind[values.Address] = Kind(
    name="address", expected=_EXPECTED + ', or "" for none', read=values.read_port_address, empty_fits=True
)
PORT_ADDRESS_OR_DEFAULT: Kind[values.Address] = Kind(
    name="address", expected=_EXPECTED + ', or "" for the default', read=values.read_port_address, empty_fits=True
)
LOOPBACK_ADDRESS: Kind[values.Address] = Kind(
    name="address",
    expected="an address of this machine for itself, such as 127.0.0.1:4040, localhost:4040 or [::1]:4040",
    read=values.read_bind_address,
    fits=lambda address: is_loopback(address.host),
)
FILE_MODE: Kind[int] = Kind(
    name="file mode",
    expected="the permissions of a file as three octal digits such as 660",
    read=values.read_file_mode,
    fits=lambda mode: 0 <= mode <= 0o777,
    text="{:03o}".format,
)
TRUSTED_PROXY: Kind[values.TrustedProxy] = Kind(
    name="network",
    expected=NETWORK.expected + ", or unix for whoever connects over a unix socket",
    read=values.read_trusted_proxy,
)
HOST_HEADER: Kind[str] = Kind(
    name="host",
    expected="a host, perhaps with a port, such as shop.internal or localhost:3000",
    read=values.read_host_header,
    empty_fits=True,
    empty="",
)
CHECKED_PATH: Kind[str] = Kind(
    name="path",
    expected='the path of a URL, perhaps with a query, such as /healthz, or "" for none',
    read=str,
    fits=matching(re.compile(r"/[\x21-\x22\x24-\x7e]{0,1023}", re.ASCII)),
    empty_fits=True,
    empty="",
)
FORWARD_PROXY: Kind[str] = Kind(
    name="proxy",
    expected='the http or https URL of a proxy, with no path, such as http://proxy.example.com:3128; none, or ""',
    read=values.read_forward_proxy_url,
    empty_fits=True,
    empty="",
    secret=True,
)


def socket_mode_setting() -> Any:  # as of `setting`
    """The key `socket_mode` of a port."""
    return setting(
        FILE_MODE,
        "660",
        "Permissions of the socket's file when `bind_addr` is `unix:/path`. It belongs to the user and the group of "
        "the process; whoever may write to it may connect.",
    )
