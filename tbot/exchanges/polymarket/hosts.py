"""Where signed requests may go: hosts of an allow-list over TLS, or this machine.

A typing error in an address, or somebody else's hand in a settings file, would otherwise send orders and credentials to
a stranger. A test host on the list of the settings is a decision that can be read there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from tbot.errors import ConfigError

OFFICIAL: Final = (
    "clob.polymarket.com",
    "ws-subscriptions-clob.polymarket.com",
    "gamma-api.polymarket.com",
    "data-api.polymarket.com",
    "relayer-v2.polymarket.com",
    "polymarket.com",
)
_ENCRYPTED: Final = ("https", "wss")
_PLAIN: Final = ("http", "ws")


def check_addresses(addresses: Mapping[str, str], allowed: Collection[str] = OFFICIAL) -> None:
    """Refuse addresses that no secret of ours should ever reach.

    Args:
        addresses: Name of the setting to its address; "" = not used.
        allowed: Hosts beside this machine.

    Raises:
        ConfigError: A host that is not on the list, or one reached without TLS; the message names the setting.
    """
    for name, address in addresses.items():
        if address:
            _check(name, address, allowed)


def is_this_machine(host: str) -> bool:
    """Tell whether a host name can only mean this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_on_this_machine(url: str) -> bool:
    """Tell whether an address can only lead to this machine."""
    return is_this_machine(urlsplit(url).hostname or "")


def _check(name: str, address: str, allowed: Collection[str]) -> None:
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigError(f"{name}: {address[:80]!r} is no address ({error})") from error
    if parts.scheme not in (*_ENCRYPTED, *_PLAIN) or parts.username is not None:
        raise ConfigError(f"{name}: expected an address such as https://{OFFICIAL[0]}, found {address[:80]!r}")
    if is_this_machine(host):
        return
    if host not in allowed:
        raise ConfigError(
            f"{name}: {host[:80]!r} is not among the hosts that may get signed requests; see hosts_allowed"
        )
    if parts.scheme not in _ENCRYPTED:
        raise ConfigError(f"{name}: {address[:80]!r} would send credentials in clear; expected https or wss")
