"""The market channel under load: real WebSocket subscribers on in-memory pipes, every end of them in this process.

Every subscriber is shown the same busy market; what counts is how late a change arrives, and whom the exchange cut off.
The clients' share of the work (parsing frames and JSON) is counted too, so a server on a core of its own carries more.
"""

from __future__ import annotations

import json
import random
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import quantiles
from typing import cast

import trio
from trio.testing import memory_stream_pair
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from bench.exchange import BUSY_PER_S, RULES, operations
from tbot.core.units import MICRO, NANOS_PER_S, Notional
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.faults import Faults, FaultSettings
from tbot.exchanges.simulated.operations import Account, Deposit
from tbot.exchanges.simulated.server import LocalServer, ServerSettings
from tbot.exchanges.simulated.settings import ExchangeSettings
from tbot.tasks.clock import WallClock

CLOCK = WallClock()
LAG_S_MAX = 0.1
TRIAL_S = 2.0
FIRST, SUBSCRIBERS_MAX = 10, 1_280


@dataclass(kw_only=True)
class Carried:
    """What became of the subscribers of one run.

    Attributes:
        lags_s: From the exchange's moment of a change to the receipt of its frame, seconds, all subscribers together.
        cut: Subscribers whose connection ended before the run did.
        share: Frames that had arrived a fifth of a second after the last change, of those that were due.
        bytes_each: Memory of one subscriber, both its ends, after its first book.
        load_each: Share of a core that one subscriber took, both its ends.
    """

    lags_s: list[float] = field(default_factory=list)
    cut: int = 0
    share: float = 0.0
    bytes_each: float = 0.0
    load_each: float = 0.0

    @property
    def is_well(self) -> bool:
        """Whether everybody heard everything soon enough."""
        return not self.cut and self.lag_p99_s < LAG_S_MAX

    @property
    def lag_p99_s(self) -> float:
        """The lag that one frame in a hundred exceeds."""
        return quantiles(self.lags_s, n=100)[98]


def lines(*, is_quick: bool) -> Iterator[str]:
    """Search how many subscribers are carried, and describe each step, a line each; the last one tells the limit."""
    if is_quick:
        yield _line(2, carry(2, rate=BUSY_PER_S, seconds=0.2))
        return
    tried: dict[int, Carried] = {}
    for subscribers, found in search(lambda count: carry(count, rate=BUSY_PER_S, seconds=TRIAL_S)):
        tried[subscribers] = found
        yield _line(subscribers, found)
    most = max((count for count, found in tried.items() if found.is_well), default=0)
    cores = tried[max(tried)].load_each
    yield (
        f"exchange, subscribers carried with a lag p99 below {LAG_S_MAX * 1e3:.0f} ms and nobody cut: {most}; by their "
        f"processor time a core that does nothing else would carry {1 / cores:.0f}"
    )


def search(trial: Callable[[int], Carried]) -> Iterator[tuple[int, Carried]]:
    """Double the subscribers while all is well, then halve the gap until it is an eighth of the number that was well.

    Args:
        trial: Carries so many.
    """
    well, count = 0, FIRST
    while count <= SUBSCRIBERS_MAX:
        yield count, (found := trial(count))
        if not found.is_well:
            break
        well, count = count, 2 * count
    while well and count <= SUBSCRIBERS_MAX and count - well > well // 8:
        middle = (well + count) // 2
        yield middle, (found := trial(middle))
        well, count = (middle, count) if found.is_well else (well, middle)


def carry(subscribers: int, *, rate: float, seconds: float) -> Carried:
    """Show a busy market to some subscribers.

    Args:
        subscribers: Connections, all on the same market.
        rate: Operations a second; each changes a level of both outcomes.
        seconds: How long.
    """
    return trio.run(_carry, subscribers, rate, seconds)


def _line(subscribers: int, found: Carried) -> str:
    return (
        f"exchange, {subscribers} subscribers over WebSocket at {BUSY_PER_S} changes a second, both ends in here: "
        f"{found.share:.0%} of the frames in time, lag p99 {found.lag_p99_s * 1e3:.0f} ms, {found.cut} cut, "
        f"{found.bytes_each / 1e3:.0f} kB each"
    )


async def _carry(subscribers: int, rate: float, seconds: float) -> Carried:
    exchange, server = _served()
    found = Carried()
    async with trio.open_nursery() as nursery:
        tracemalloc.start()
        for _ in range(subscribers):
            ours, theirs = memory_stream_pair()
            nursery.start_soon(server.serve_websocket, theirs)
            # Typed as a socket, but any stream does.
            stream = cast("trio.SocketStream", ours)
            socket = await wrap_client_stream(nursery, stream, "exchange", "/ws/market")
            await socket.send_message(json.dumps({"type": "market", "assets_ids": [RULES.yes, RULES.no]}))
            await socket.get_message()
            nursery.start_soon(_read, socket, found)
        found.bytes_each = tracemalloc.get_traced_memory()[0] / subscribers
        tracemalloc.stop()
        begin = time.process_time()
        await _trade(exchange, rate, seconds)
        found.load_each = (time.process_time() - begin) / seconds / subscribers
        found.share = await _share_in_time(found)
        nursery.cancel_scope.cancel()
    return found


async def _read(socket: WebSocketConnection, found: Carried) -> None:
    try:
        while True:
            frame = json.loads(await socket.get_message())
            found.lags_s.append(CLOCK.now_ns() / NANOS_PER_S - int(frame["timestamp"]) / 1_000)
    except ConnectionClosed:
        found.cut += 1


async def _share_in_time(found: Carried) -> float:
    await trio.sleep(0.2)
    in_time, arrived = len(found.lags_s), -1
    while arrived != len(found.lags_s):
        arrived = len(found.lags_s)
        await trio.sleep(0.5)
    return in_time / arrived


# Kept in pace by the clock: an exchange that falls behind gets its operations in a burst, as from real traders.
async def _trade(exchange: LocalExchange, rate: float, seconds: float) -> None:
    begin = trio.current_time()
    for number, operation in enumerate(operations(random.Random(6), int(rate * seconds))):
        await trio.sleep_until(begin + number / rate)
        exchange.apply(operation)


def _served() -> tuple[LocalExchange, LocalServer]:
    settings = ExchangeSettings(markets=(RULES,), flow=None)
    exchange = LocalExchange(settings, seed=1, now_ns=CLOCK.now_ns, faults=Faults(FaultSettings(), 1))
    for account in ("maker", "taker"):
        exchange.apply(Deposit(account=Account(account), cash=Notional(10**9 * MICRO)))
    for operation in operations(random.Random(3), 400):
        exchange.apply(operation)
    return exchange, LocalServer(exchange, ServerSettings(), secret=b"bench", now_ns=CLOCK.now_ns)
