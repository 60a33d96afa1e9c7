"""What `tbot exchange` prints for people names everything they need to begin."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from tbot.commands import exchange
from tbot.config import load
from tbot.core.units import Nanos
from tbot.exchanges.simulated.standalone import StandaloneExchange, StandaloneSettings

SHIPPED = Path(__file__).parents[2] / "conf/exchange.toml"


@pytest.mark.slow
async def test_page_lists_every_market_by_slug(autojump_clock: trio.testing.MockClock) -> None:
    settings = load(SHIPPED, StandaloneSettings)
    options = exchange.ExchangeOptions(seed=7, port=None, config=SHIPPED, is_json=False)
    async with trio.open_nursery() as nursery:
        opened = StandaloneExchange(settings, seed=7, now_ns=lambda: Nanos(int(trio.current_time() * 1e9)))
        page = exchange._page(await nursery.start(opened.serve), settings, options)
        nursery.cancel_scope.cancel()
    assert {rules.slug for rules in settings.markets} <= set(page.split())
