"""`tbot keys`: the addresses of a key, and its API credentials; the private key itself is never shown."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
import trio

from tbot.config import TradingSettings, load
from tbot.errors import ConfigError
from tbot.exchanges.polymarket.credentials import obtain_credentials, wait_until_taken
from tbot.exchanges.polymarket.environment import API_KEY, API_PASSPHRASE, API_SECRET, signing_key_of
from tbot.exchanges.polymarket.keys import ApiCredentials, SigningKey
from tbot.exchanges.polymarket.settings import PolymarketSettings
from tbot.exchanges.polymarket.wallets import trading_wallet, wallets_of
from tbot.tasks.clock import WallClock
from tbot.ui.terminal import tell

Deed = Literal["show", "derive", "create"]


class KeysOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says.

    Attributes:
        deed: "show" = addresses, asks nobody; "derive" = credentials that exist; "create" = makes them when missing.
        config: Settings of the bot.
        is_revealed: Whether the secret parts of API credentials are printed.
        is_json: Whether to print one JSON object.
    """

    deed: Deed
    config: Path
    is_revealed: bool
    is_json: bool


def tend_keys(options: KeysOptions) -> int:
    """Do it and print what came of it to standard output.

    Returns:
        0.

    Raises:
        ConfigError: Settings or key cannot be used.
        AuthenticationFailed: The exchange refuses the key, or has no credentials for it.
        ExchangeUnavailable: Try again later.
    """
    settings = load(options.config, TradingSettings).exchange
    settings.check_reach()
    key = signing_key_of(os.environ)
    found = addresses(key, settings)
    if options.deed != "show":
        credentials = trio.run(_credentials, settings, key, options.deed)
        found |= shown(credentials, is_revealed=options.is_revealed)
    text = json.dumps(found, indent=2) + "\n" if options.is_json else _page(found)
    tell(text, sys.stdout)
    return 0


def addresses(key: SigningKey, settings: PolymarketSettings) -> dict[str, str]:
    """Name every address of a key, and the wallet that the settings trade from, or why they trade from none."""
    wallets = wallets_of(key.address)
    try:
        trades_from = trading_wallet(key.address, settings)
    except ConfigError as error:
        trades_from = str(error)
    return {
        "account": wallets.eoa,
        "proxy_wallet": wallets.proxy,
        "safe_wallet": wallets.safe,
        "deposit_wallet": wallets.deposit,
        "deposit_wallet_first_kind": wallets.deposit_first,
        "trades_from": trades_from,
    }


def shown(credentials: ApiCredentials, *, is_revealed: bool) -> dict[str, str]:
    """Give what may be printed of credentials, by the names of the variables that bring them to the bot."""
    public = {API_KEY: credentials.api_key}
    if not is_revealed:
        return public
    return public | {API_SECRET: credentials.secret, API_PASSPHRASE: credentials.passphrase}


async def _credentials(settings: PolymarketSettings, key: SigningKey, deed: Deed) -> ApiCredentials:
    now_ns = WallClock().now_ns
    found = await obtain_credentials(settings, key=key, now_ns=now_ns, is_derived_only=deed == "derive")
    if deed == "create":
        # Standard output is for what was asked for, which programs may read.
        await wait_until_taken(
            settings,
            key=key,
            credentials=found,
            now_ns=now_ns,
            on_wait=lambda why: tell(f"{why}.\n", sys.stderr),
        )
    return found


def _page(found: Mapping[str, str]) -> str:
    width = max(map(len, found))
    # A variable stands as a shell takes it, so that the lines can be put into an environment file.
    lines = (f"{k}={v}" if k.isupper() else f"{k.replace('_', ' '):<{width}}  {v}" for k, v in found.items())
    return "\n".join(lines) + "\n"
