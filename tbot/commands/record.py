"""`tbot record`: the market channel of an exchange, written down as it comes. Public data only; no key is needed."""

from __future__ import annotations

import math
import random
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Annotated

import httpx2
import msgspec
import structlog
import trio

from tbot.config import load
from tbot.core.backoff import Backoff
from tbot.core.market import MarketId, TokenId
from tbot.core.units import Nanos
from tbot.errors import BadFrame, ConfigError, ExchangeUnavailable
from tbot.exchanges.polymarket.bad_frames import tokens_named
from tbot.exchanges.polymarket.gamma import markets_named
from tbot.exchanges.polymarket.public import PublicMarkets
from tbot.exchanges.polymarket.rest import Rest
from tbot.exchanges.polymarket.settings import PolymarketSettings
from tbot.exchanges.polymarket.sockets import ASSETS_MAX, Connect, Socket, open_market_socket, tcp_connector
from tbot.exchanges.polymarket.terms import read_terms
from tbot.store.recordings import RecorderSettings
from tbot.tasks.clock import WallClock
from tbot.tasks.recorder import Recorder, recorder_into_folder
from tbot.tasks.redial import Redial, asked_wait_s
from tbot.ui.terminal import tell

log = structlog.get_logger()

TokenText = Annotated[str, msgspec.Meta(pattern="^[0-9]{1,80}$")]


class RecordSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to record.

    Attributes:
        token_ids: Outcomes to follow beside those of the markets named in `exchange`.
        exchange: Where, and which markets; nothing of an account is used.
        backoff: Pauses between attempts to connect, from the second on.
        recorder: How it is kept.
    """

    token_ids: tuple[TokenText, ...] = ()
    exchange: PolymarketSettings = PolymarketSettings()
    backoff: Backoff = Backoff(0.25, 30.0)
    recorder: RecorderSettings = RecorderSettings()


class RecordOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says.

    Attributes:
        duration_s: None = until a signal.
    """

    config: Path
    duration_s: float | None


def record(options: RecordOptions) -> int:
    """Record until the time is over or a signal comes.

    Returns:
        0, or 1 when the disk refused or nothing was received.

    Raises:
        ConfigError: The settings cannot be used, nor the folder, or they name a market that does not exist, or only
            tokens that do not; nothing was started.
        ExchangeUnavailable: Nobody could say which tokens the markets have; nothing was started.
    """
    settings = load(options.config, RecordSettings)
    exchange = settings.exchange
    if not (settings.token_ids or exchange.condition_ids or exchange.slugs):
        raise ConfigError(
            f"{options.config}: token_ids, exchange.condition_ids or exchange.slugs: expected at least one, found none"
        )
    exchange.check_reach()
    recorder = recorder_into_folder(settings.recorder)
    trio.run(_until_signal, recorder, settings, options.duration_s)
    tell(recorder.summary(), sys.stdout)
    return 1 if recorder.fault or not recorder.written else 0


async def _until_signal(recorder: Recorder, settings: RecordSettings, duration_s: float | None) -> None:
    connect = tcp_connector(settings.exchange.ws_market_url)
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as writing:
            writing.start_soon(recorder.run)
            with trio.move_on_after(math.inf if duration_s is None else duration_s):
                async with trio.open_nursery() as reading:
                    reading.start_soon(_follow_all, recorder, settings, connect)
                    reading.start_soon(_end_at_signal, signals, reading.cancel_scope)
                    await recorder.faulted.wait()
                    reading.cancel_scope.cancel()
            writing.cancel_scope.cancel()


async def _end_at_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()


async def _follow_all(recorder: Recorder, settings: RecordSettings, connect: Connect) -> None:
    tokens = await tokens_of(settings)
    async with trio.open_nursery() as nursery:
        for first in range(0, len(tokens), ASSETS_MAX):
            nursery.start_soon(_follow, recorder, settings, connect, tokens[first : first + ASSETS_MAX])


async def tokens_of(
    settings: RecordSettings, transport: httpx2.AsyncBaseTransport | None = None
) -> tuple[TokenId, ...]:
    """List what the settings name, each token once: those named themselves, then both of each market.

    A token that the exchange does not have is told and left out.

    Args:
        settings: What to record.
        transport: For tests; None = sockets.

    Raises:
        ConfigError: A market that does not exist, or no token that does.
        ExchangeUnavailable: Try again later.
    """
    exchange, now_ns = settings.exchange, WallClock().now_ns
    public = PublicMarkets(exchange, now_ns=now_ns, transport=transport)
    try:
        named = await markets_named(public.rest, exchange, now_ns)
        tokens = await _known_tokens(public.rest, settings)
        for market_id in dict.fromkeys((*map(MarketId, exchange.condition_ids), *named)):
            tokens += await _tokens_of_market(public.rest, market_id, now_ns())
        return tuple(dict.fromkeys(tokens))
    finally:
        with trio.move_on_after(1.0, shield=True):
            await public.aclose()


async def _known_tokens(rest: Rest, settings: RecordSettings) -> list[TokenId]:
    wanted = [TokenId(each) for each in dict.fromkeys(settings.token_ids)]
    try:
        rows = await rest.books(wanted) if wanted else []
    except ExchangeUnavailable as error:
        log.warning("record.unchecked", reason=str(error))  # the market channel may still have them
        return wanted
    there = {name for row in rows for name in tokens_named(row.decode(errors="replace"))}
    unknown = [each for each in wanted if each not in there]
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        sentence = (
            f"token_ids: the exchange has no book of {unknown[0]}{more}; `tbot markets show` tells those of a market"
        )
        if len(unknown) == len(wanted) and not (settings.exchange.condition_ids or settings.exchange.slugs):
            raise ConfigError(sentence)
        tell(f"tbot record: {sentence}; the others are recorded\n", sys.stderr)
    return [each for each in wanted if each in there]


async def _tokens_of_market(rest: Rest, market_id: MarketId, now_ns: Nanos) -> tuple[TokenId, ...]:
    terms = await read_terms(rest, market_id, rng=random.Random(now_ns))
    if terms is None:
        raise ConfigError(f"market {market_id}: not on the CLOB, or not yet; `tbot markets search` finds markets")
    return terms.tokens


async def _follow(recorder: Recorder, settings: RecordSettings, connect: Connect, tokens: Sequence[TokenId]) -> None:
    """Stay connected until cancelled."""
    redial = Redial(settings.backoff, random.Random(tokens[0]))
    url, timeouts = settings.exchange.ws_market_url, settings.exchange.timeouts
    while True:
        wait_s = 0.0
        try:
            async with open_market_socket(url, connect, tokens, timeouts) as socket:
                redial.connected(trio.current_time())
                await _receive(recorder, socket)
        except* ExchangeUnavailable as group:
            log.warning("record.lost", reason=str(group.exceptions[0]))
            wait_s = asked_wait_s(group)
        await trio.sleep(redial.lost(trio.current_time(), at_least_s=wait_s))


async def _receive(recorder: Recorder, socket: Socket) -> None:
    now_ns, on_raw = WallClock().now_ns, recorder.connection()
    while True:
        try:
            text = await socket.text()
        except BadFrame as error:
            log.warning("record.bad_message", reason=str(error))
            continue
        if text:
            on_raw(text, now_ns())
