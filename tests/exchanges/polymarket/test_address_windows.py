"""What our gateway lets itself send never meets the exchange's windows per address."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
import trio.testing

from tbot.core.messages import Accepted, Side
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.errors import RateLimited
from tbot.exchanges.polymarket import limits
from tbot.exchanges.polymarket.limits import WINDOWS, Lane, RateGate
from tbot.exchanges.polymarket.settings import LimitSettings
from tbot.exchanges.simulated.address_windows import KINDS, AddressWindows, WindowSet, WindowSettings
from tbot.exchanges.simulated.server import ServerSettings
from tests.contract.stage import Orders, now_ns
from tests.exchanges.polymarket.local import PolymarketStage

PRODUCTION = WindowSettings(limits=WindowSet.PRODUCTION, delay_s_max=0)
# What each lane sends in normal trading.
SENT = {
    Lane.CANCEL: [("DELETE", "/order"), ("DELETE", "/orders"), ("DELETE", "/cancel-all")],
    Lane.BEAT: [("POST", "/v1/heartbeats")],
    Lane.ORDER: [("POST", "/order"), ("POST", "/orders")],
    Lane.READ: [
        *(("GET", "/data/orders"), ("GET", "/data/trades"), ("GET", "/data/order/0x01"), ("POST", "/books")),
        *(("GET", "/balance-allowance"), ("GET", "/balance-allowance/update"), ("GET", "/book"), ("GET", "/time")),
    ],
}


def too_wide(path: tuple[str, str]) -> list[str]:
    """Name the windows of theirs that a bucket of ours could pass: burst + rate x length is the most it ever gives."""
    rate_per_s, burst = WINDOWS[path]
    limits = {
        f"{kind.name} in {seconds} s": (limit, burst + rate_per_s * seconds)
        for kind in KINDS
        if kind.counts(*path)
        for limit, seconds in ((kind.per_10_s, 10), (kind.per_10_min, 600))
        if limit
    }
    return [name for name, (limit, most) in limits.items() if most > limit]


@pytest.mark.parametrize("path", list(WINDOWS), ids=" ".join)
def test_no_window_of_ours_is_wider_than_theirs(path: tuple[str, str]) -> None:
    assert too_wide(path) == []


def test_a_window_of_ours_that_is_too_wide_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    for path, window in ((("GET", "/data/orders"), (26, 250)), (("POST", "/order"), (196, 2_500))):
        monkeypatch.setitem(limits.WINDOWS, path, window)
        assert len(too_wide(path)) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("tier", "orders_per_s"), [("standard", 40), ("elite", 195)])
def test_the_gate_at_full_speed_in_every_lane_is_never_refused(tier: str, orders_per_s: int) -> None:
    async def main() -> Counter[bool]:
        gate, windows, seen = RateGate(LimitSettings(), now_ns), AddressWindows(PRODUCTION), Counter[bool]()
        gate.learn_tier(tier)
        for _ in range(25):
            for lane, path in ((lane, path) for lane, paths in SENT.items() for path in paths):
                with suppress(RateLimited):
                    while True:
                        await gate.enter(lane, by_ns=now_ns(), path=path)
                        seen[windows.enter("us", *path, now_ns()) == 0] += 1
            await trio.sleep(1)
        return seen

    seen = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert seen[False] == 0
    assert seen[True] > 25 * orders_per_s


@asynccontextmanager
async def trading(settings: ServerSettings) -> AsyncIterator[PolymarketStage]:
    async with trio.open_nursery() as nursery:
        stage = PolymarketStage(nursery, settings)
        await nursery.start(stage.exchange.run)
        yield stage
        nursery.cancel_scope.cancel()


async def trade(stage: PolymarketStage, seconds: int) -> list[Any]:
    """Place, cancel, report and read books as a busy bot does; give the replies to the orders."""
    gateway, replies = stage.gateway, []
    orders = Orders((await gateway.load_markets())[0])
    for _ in range(seconds):
        placed = []
        for cents in range(40, 46):
            prepared = gateway.prepare(orders.make(Side.BUY, cents), now_ns())
            replies.append(await gateway.submit(prepared))
            placed.append(prepared.exchange_order_id)
        await gateway.protect()
        await gateway.books([stage.market.yes, stage.market.no])
        await gateway.report(Nanos(now_ns() - 60 * NANOS_PER_S), placed[:2])
        await gateway.cancel(placed)
        await trio.sleep(1)
    return replies


@pytest.mark.slow
async def test_a_busy_bot_never_meets_a_429(autojump_clock: trio.testing.MockClock) -> None:
    async with trading(ServerSettings(windows=PRODUCTION)) as stage:
        replies = await trade(stage, 5)
        assert len(replies) == 30
        assert all(isinstance(reply, Accepted) for reply in replies)


async def test_a_429_in_plain_text_is_understood(autojump_clock: trio.testing.MockClock) -> None:
    tight = WindowSettings(limits=WindowSet.PRODUCTION, per_10_s={"data_orders": 1}, delay_s_max=0)
    async with trading(ServerSettings(windows=tight)) as stage:
        await stage.gateway.load_markets()
        await stage.gateway.report(now_ns(), [])
        with pytest.raises(RateLimited) as refusal:
            await stage.gateway.report(now_ns(), [])
        assert refusal.value.retry_after_s == pytest.approx(10, abs=1)
