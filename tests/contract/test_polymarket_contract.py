"""The contract over real bytes: our Polymarket gateway, HTTP, WebSocket and signatures included, in virtual time.

One promise is kept more carefully than by the other gateways: bytes sent twice are answered with doubt, because
"Duplicated" proves that the order arrived before and may rest (see tests/exchanges/polymarket/test_local.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio.testing

import tests.contract.test_gateway_contract as suite
from tests.exchanges.polymarket.local import PolymarketStage, polymarket


@pytest.fixture
async def stage(autojump_clock: trio.testing.MockClock) -> AsyncIterator[PolymarketStage]:
    async with polymarket() as staged:
        yield staged


globals().update({name: test for name, test in vars(suite).items() if name.startswith("test_")})
