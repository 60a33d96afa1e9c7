"""`tbot record`: the market channel of an exchange, written down as it comes. Public data only; no key is needed."""

from __future__ import annotations

import math
import random
import signal
import sys
from functools import partial
from pathlib import Path

import msgspec
import structlog
import trio

from tbot.config import load
from tbot.core.backoff import Backoff
from tbot.core.market import TokenId
from tbot.errors import BadFrame, ConfigError, ExchangeUnavailable
from tbot.exchanges.polymarket.settings import TimeoutSettings
from tbot.exchanges.polymarket.sockets import (
    ASSETS_MAX,
    SETTLE_MARKET_S,
    Connect,
    Socket,
    market_hello,
    open_socket,
    tcp_connector,
)
from tbot.store.recordings import RecorderSettings, SegmentWriter
from tbot.tasks.clock import WallClock
from tbot.tasks.recorder import Recorder
from tbot.tasks.redial import Redial, asked_wait_s

log = structlog.get_logger()


class RecordSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to record.

    Attributes:
        token_ids: Outcomes to follow; their opposites are told along with them.
        ws_market_url: Address of the market channel.
        timeouts: Bounds of every wait.
        backoff: Pauses between attempts to connect, from the second on.
        recorder: How it is kept.
    """

    token_ids: tuple[str, ...]
    ws_market_url: str = "wss://ws-subscriptions-clob.polymarket.com/ws/market"
    timeouts: TimeoutSettings = TimeoutSettings()
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
        ConfigError: The settings cannot be used; nothing was started.
    """
    settings = load(options.config, RecordSettings)
    if not settings.token_ids:
        raise ConfigError(f"{options.config}: token_ids: expected at least one token, found none")
    writer = SegmentWriter(Path(settings.recorder.folder), settings.recorder.level)
    recorder = Recorder(settings=settings.recorder, writer=writer)
    connect = tcp_connector(settings.ws_market_url)
    trio.run(partial(_until_signal, recorder, settings, connect, options.duration_s))
    sys.stdout.write(
        f"recorded {recorder.written:,} messages in {settings.recorder.folder}, dropped {recorder.dropped:,}\n"
        + (f"{recorder.fault}\n" if recorder.fault else "")
    )
    return 1 if recorder.fault or not recorder.written else 0


async def _until_signal(
    recorder: Recorder, settings: RecordSettings, connect: Connect, duration_s: float | None
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as writing:
            writing.start_soon(recorder.run)
            with trio.move_on_after(math.inf if duration_s is None else duration_s):
                async with trio.open_nursery() as reading:
                    for first in range(0, len(settings.token_ids), ASSETS_MAX):
                        part = tuple(map(TokenId, settings.token_ids[first : first + ASSETS_MAX]))
                        reading.start_soon(_follow, recorder, settings, connect, part, first)
                    async for _ in signals:
                        break
                    reading.cancel_scope.cancel()
            writing.cancel_scope.cancel()


async def _follow(
    recorder: Recorder, settings: RecordSettings, connect: Connect, tokens: tuple[TokenId, ...], first: int
) -> None:
    """Stay connected. Parts number their connections from their first token on, a million apart: none repeats."""
    redial, connection = Redial(settings.backoff, random.Random(first)), first * 1_000_000
    while not recorder.fault:
        connection += 1
        wait_s = 0.0
        try:
            hello = partial(market_hello, tokens)
            async with open_socket(
                settings.ws_market_url, connect, hello, settings.timeouts, settle_s=SETTLE_MARKET_S
            ) as socket:
                redial.connected(trio.current_time())
                await _receive(recorder, socket, connection)
        except* ExchangeUnavailable as group:
            log.warning("record.lost", reason=str(group.exceptions[0]))
            wait_s = asked_wait_s(group)
        await trio.sleep(redial.lost(trio.current_time(), at_least_s=wait_s))


async def _receive(recorder: Recorder, socket: Socket, connection: int) -> None:
    now_ns = WallClock().now_ns
    while not recorder.fault:
        try:
            text = await socket.text()
        except BadFrame as error:
            log.warning("record.bad_message", reason=str(error))
            continue
        if text:
            recorder.on_raw(text, now_ns(), connection)
