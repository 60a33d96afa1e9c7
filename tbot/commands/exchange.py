"""`tbot exchange`: the local exchange alone, until a signal ends it."""

from __future__ import annotations

import signal
import sys
import traceback
from functools import partial
from pathlib import Path

import msgspec
import trio

from tbot.config import describe_file, load
from tbot.core.units import MICRO
from tbot.exchanges.simulated.server import is_loopback
from tbot.exchanges.simulated.standalone import NOTICE, Announcement, StandaloneExchange, StandaloneSettings
from tbot.log import text_clean
from tbot.tasks.clock import WallClock
from tbot.tasks.supervisor import describe, leaves
from tbot.ui.terminal import tell

BUG_LENGTH_MAX = 400


class ExchangeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says.

    Attributes:
        port: Of REST, 0 = any free one; None = as the settings say.
        is_json: Whether the first line of output is one JSON object, for programs.
    """

    seed: int
    port: int | None
    config: Path
    is_json: bool


def serve_exchange(options: ExchangeOptions) -> int:
    """Serve the local exchange until SIGINT or SIGTERM.

    Returns:
        0, or 1 when the server met bugs of its own meanwhile.

    Raises:
        ConfigError: The settings cannot be used, or a port cannot be had; nothing was started.
    """
    settings = load(options.config, StandaloneSettings)
    if options.port is not None:
        server = msgspec.structs.replace(settings.server, rest_port=options.port)
        settings = msgspec.structs.replace(settings, server=server)
    exchange = StandaloneExchange(settings, seed=options.seed, now_ns=WallClock().now_ns, on_crash=_tell_crash)
    trio.run(partial(_serve_until_signal, exchange, settings, options))
    crashes = exchange.server.crashes
    if crashes:
        tell(f"tbot exchange: {len(crashes)} requests met a bug; the first: {describe(crashes[0])}\n", sys.stderr)
    return 1 if crashes else 0


# The client only hears of a 500, so whoever runs the exchange must learn of it while it is still known what was done.
def _tell_crash(crash: Exception) -> None:
    bug = leaves(crash)[0]
    place = traceback.extract_tb(bug.__traceback__)[-1]
    what = text_clean(describe(bug), BUG_LENGTH_MAX)
    tell(f"tbot exchange: met a bug: {what} ({Path(place.filename).name}:{place.lineno}, {place.name})\n", sys.stderr)


async def _serve_until_signal(
    exchange: StandaloneExchange, settings: StandaloneSettings, options: ExchangeOptions
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            announcement: Announcement = await nursery.start(exchange.serve)
            if options.is_json:
                tell(msgspec.json.encode(announcement).decode() + "\n", sys.stdout)
            else:
                tell(_page(announcement, settings, options), sys.stdout)
            tell(_warnings(settings), sys.stderr)
            async for _ in signals:
                nursery.cancel_scope.cancel()


def _page(announcement: Announcement, settings: StandaloneSettings, options: ExchangeOptions) -> str:
    crowd = "with synthetic traders" if settings.has_traders else "without traders of its own"
    markets = "".join(f"  {rules.slug}\n" for rules in settings.markets)
    accounts = "".join(f"  {account.address}  {account.private_key}\n" for account in announcement.accounts)
    return (
        f"tbot exchange: {len(settings.markets)} markets {crowd}, seed {options.seed}.\n"
        f"Settings {describe_file(options.config)}.\n\n"
        f"  REST            {announcement.rest_url}\n"
        f"  Gamma           {announcement.gamma_url}\n"
        f"  Data API        {announcement.data_url}\n"
        f"  relayer         {announcement.relayer_url}\n"
        f"  geoblock        {announcement.geoblock_url}\n"
        f"  node            {announcement.rpc_url}\n"
        f"  market channel  {announcement.ws_market_url}\n"
        f"  user channel    {announcement.ws_user_url}\n\n"
        f"Markets, by slug:\n\n{markets}\n"
        f"Accounts on chain {announcement.chain_id}. Each has ${settings.cash // MICRO:,} of play money in its own\n"
        f"address and as much in its proxy, safe and deposit wallet; --json names those and the API keys.\n\n"
        f"{accounts}\n"
        "Ctrl+C ends it; nothing is kept.\n"
    )


def _warnings(settings: StandaloneSettings) -> str:
    host = settings.server.host
    open_to = "" if is_loopback(host) else f"IT LISTENS ON {host}: whoever reaches that address can trade here.\n"
    return f"{NOTICE}\n{open_to}"
