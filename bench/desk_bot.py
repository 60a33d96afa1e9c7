"""Our desk for its bench: the bot as `tbot live` composes it, without the operator's face and the checks of a start.

Feed, books, verification, strategy, coordinator, limits, dispatcher, write-ahead journal with fsync, reconciler,
heartbeat and account feed all run. Only the strategy is the bench's: a bid in every market whose best bid is high.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Any, TypeVar, TypeVarTuple

import trio

from tbot import log
from tbot.core.market import Market, MarketId
from tbot.core.messages import Quote, Quotes, Side, StrategyName
from tbot.core.risk import RiskLimits
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Notional, Price, Size
from tbot.exchanges.polymarket.gateway import PolymarketGateway
from tbot.exchanges.polymarket.keys import ApiCredentials, SigningKey
from tbot.exchanges.polymarket.settings import LimitSettings, PolymarketSettings
from tbot.store.journal import Store
from tbot.strategies.base import Decision, StrategyView
from tbot.tasks.checkpointer import CheckpointSettings
from tbot.tasks.clock import WallClock
from tbot.tasks.desk import BotParts, bot_tree
from tbot.tasks.feed_settings import FeedSettings
from tbot.tasks.journal import LINGER_S, JournalWriter, RunBlocking, thread_runner
from tbot.tasks.notes import note_in_log
from tbot.tasks.supervisor import Policy, supervise

T = TypeVar("T")
Args = TypeVarTuple("Args")

NAME = StrategyName("follower")
LIMITS = RiskLimits(
    order_size_max=Size(100 * MICRO),
    position_size_max=Size(1_000 * MICRO),
    exposure_max=Notional(9_000 * MICRO),
    collar=Price(500_000),
    loss_max=Notional(9_000 * MICRO),
    open_orders_max=500,
)
VALID_NS = 3_600 * NANOS_PER_S


class Follower:
    """Wants a bid in every market whose best bid is high."""

    def __init__(self, markets: Mapping[MarketId, Market], *, bid_high: Price, bid: Price, size: Size) -> None:
        """Want nothing yet.

        Args:
            markets: All of them.
            bid_high: The best bid that counts as high, micro-dollars.
            bid: To rest then, likewise.
            size: Its micro-shares.
        """
        self.name = NAME
        self.market_ids = tuple(markets)
        self._markets = markets
        self._bid_high = bid_high
        self._bid = Quote(side=Side.BUY, level=0, price=bid, size=size, price_worst=bid)
        self._is_high = dict.fromkeys(markets, False)

    def misfit(self, market: Market, limits: RiskLimits) -> None:
        """It wants a single size, which fits."""
        return

    def decide(self, view: StrategyView, now_ns: Nanos) -> Decision:
        """Name the markets where that changed."""
        quotes: list[Quotes] = []
        for market_id, seen in view.views.items():
            is_high = bool(seen.bids) and seen.bids[0].price == self._bid_high and not seen.is_stale
            if is_high is not self._is_high[market_id]:
                self._is_high[market_id] = is_high
                quotes.append(self._quotes(self._markets[market_id], is_high=is_high, now_ns=now_ns))
        return Decision(quotes=tuple(quotes), takes=(), wake_at_ns=Nanos(now_ns + NANOS_PER_S))

    def _quotes(self, market: Market, *, is_high: bool, now_ns: Nanos) -> Quotes:
        return Quotes(
            strategy=self.name,
            token_id=market.yes,
            quotes=(self._bid,) if is_high else (),
            chase_ticks=1,
            valid_until_ns=Nanos(now_ns + VALID_NS),
            at_ns=now_ns,
        )


def timed_runner(told: IO[str]) -> RunBlocking:
    """Return a runner that notes how long each write took, from asking for it to hearing of it, in seconds a line."""
    run_in_thread = thread_runner()

    async def run_and_note(fn: Callable[[*Args], T], /, *args: *Args) -> T:
        began = trio.current_time()
        result = await run_in_thread(fn, *args)
        told.write(f"{trio.current_time() - began}\n")
        told.flush()
        return result

    return run_and_note


async def run(announced: Mapping[str, Any], store: Store, told: IO[str]) -> None:
    """Trade until cancelled.

    Args:
        announced: By the exchange.
        store: The journal.
        told: Where the times of its writes go.
    """
    now_ns = WallClock().now_ns
    key, credentials = SigningKey.from_hex(announced["private_key"]), ApiCredentials(**announced["credentials"])
    settings = PolymarketSettings(
        condition_ids=tuple(announced["condition_ids"]),
        rest_url=announced["rest_url"],
        ws_market_url=announced["ws_market_url"],
        ws_user_url=announced["ws_user_url"],
        geoblock_url="",
        # Hundreds of markets are asked for at once here; nothing else comes near these rates.
        limits=LimitSettings(reads_per_s=2_000.0, reads_burst=2_000.0),
    )

    def open_gateway() -> PolymarketGateway:
        rng = random.Random(now_ns())
        return PolymarketGateway(settings, key=key, credentials=credentials, now_ns=now_ns, rng=rng)

    gateway = open_gateway()
    markets = await gateway.load_markets()
    await gateway.aclose()
    by_id = {market.market_id: market for market in markets}
    wanted = {"bid_high": announced["bid_high"], "bid": announced["bot_bid"], "size": announced["bot_size"]}
    parts = BotParts(
        open_gateway=open_gateway,
        markets=markets,
        limits=LIMITS,
        strategies={NAME: lambda: Follower(by_id, **wanted)},
        journal=JournalWriter(store, timed_runner(told), linger_s=LINGER_S),
        feed=FeedSettings(),
        checkpoint=CheckpointSettings(),
        now_ns=now_ns,
        rng=random.Random(1),
    )
    policy = Policy(rng=random.Random(1), note=note_in_log)
    await supervise(bot_tree(parts, policy), trio.Event(), policy, stop_within_s=1.0)


def main(argv: Sequence[str]) -> None:
    """Run with the announcement, a folder for journal and log, and a file for times of writes; ended by a signal."""
    announced, state = json.loads(argv[0]), Path(argv[1])
    with (
        closing(Store.open(state, "bench")) as store,
        log.set_up(file=state / "bench.log.jsonl", terminal=None),
        Path(argv[2]).open("w", encoding="utf-8") as told,
    ):
        trio.run(run, announced, store, told)


if __name__ == "__main__":
    main(sys.argv[1:])
