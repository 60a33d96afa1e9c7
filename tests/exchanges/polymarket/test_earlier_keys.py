"""Orders outlive the API key that sent them: what they trade is the wallet's, whichever key asks."""

from __future__ import annotations

from trio.testing import MockClock

from tbot.core.messages import Accepted, Role, Side
from tbot.core.units import MICRO, Nanos, Price, Size
from tbot.exchanges.polymarket.keys import ApiCredentials
from tests.contract.stage import Orders, now_ns
from tests.exchanges.polymarket.local import polymarket


async def test_an_order_sent_with_an_earlier_key_is_ours_when_it_trades(autojump_clock: MockClock) -> None:
    async with polymarket() as stage:
        prepared = stage.gateway.prepare(Orders(stage.market).make(Side.BUY, 40, 20), now_ns())
        assert isinstance(await stage.gateway.submit(prepared), Accepted)
        issued = stage.server.keys.create(stage.key.address, 1)
        newer = ApiCredentials(api_key=issued.api_key, secret=issued.secret, passphrase=issued.passphrase)
        assert newer.api_key != stage.credentials.api_key
        gateway = stage.gateway_of(newer)
        await gateway.load_markets()
        await stage.other_takes(stage.market.yes, Side.SELL, Price(400_000), Size(20 * MICRO))
        (fill,) = (await gateway.report(Nanos(0), ())).fills
        assert (fill.exchange_order_id, fill.role) == (prepared.exchange_order_id, Role.MAKER)
        assert fill.size == 20 * MICRO
        await gateway.aclose()
