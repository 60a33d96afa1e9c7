"""A session with the official client `polymarket-client`, as a program of its own.

It knows one public test key and where `tbot exchange --json` listens, both read from standard input, and nothing else.
The client exists twice, for threads and for asyncio: `python polymarket_client_session.py sync|async` goes through
the same steps with either. Streams exist for asyncio only. Every step that came through is named on a line of its own;
the first surprise ends the program with a traceback.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import polymarket
from polymarket.errors import OrderHeartbeatMismatchError, RateLimitError, RequestRejectedError
from polymarket.models.clob import PriceRequest
from polymarket.models.clob.order_response import RejectedOrder
from polymarket.streams import MarketSpec, UserSpec

# Run as a file, it finds the other one beside it; a package called `tests` may come from anywhere.
if TYPE_CHECKING:
    from tests.exchanges.simulated.server.polymarket_client_house import (
        COIN,
        NOBODY,
        PATIENCE_S,
        QUIMBY,
        RAIN,
        WALLETS,
        House,
        Listener,
        Market,
        accepted,
        first_page,
        refusal,
        settled,
    )
else:
    from polymarket_client_house import (
        COIN,
        NOBODY,
        PATIENCE_S,
        QUIMBY,
        RAIN,
        WALLETS,
        House,
        Listener,
        Market,
        accepted,
        first_page,
        refusal,
        settled,
    )

# --- steps -----------------------------------------------------------------------------------------------------------


async def keys_and_reading(house: House) -> None:
    async with house.client() as client:
        announced = house.account["api_credentials"]
        assert client.credentials.key == announced["api_key"]
        assert await settled(client.fetch_api_keys()) == (announced["api_key"],)
        assert await settled(client.get_closed_only_mode()) is False
        assert await settled(client.get_notifications()) == ()
        await settled(client.drop_notifications(ids=[1]))
        slugs = [market.slug for market in await first_page(client.list_markets())]
        assert len(slugs) == 7
        assert {RAIN, COIN, QUIMBY} < set(slugs)
        rain = await house.market(client, RAIN)
        await settled(client.place_limit_order(asset_id=rain.yes, side="BUY", price="0.42", size="20"))
        await settled(client.place_limit_order(asset_id=rain.no, side="BUY", price="0.5", size="30"))
        book = await settled(client.get_order_book(asset_id=rain.yes))
        assert [(level.price, level.size) for level in book.bids] == [(Decimal("0.42"), 20)]
        assert [(level.price, level.size) for level in book.asks] == [(Decimal("0.5"), 30)]
        assert (book.tick_size, book.neg_risk, book.condition_id) == (Decimal("0.01"), False, rain.condition)
        (same,) = await settled(client.get_order_books(asset_ids=[rain.yes]))
        assert same.hash == book.hash
        assert await settled(client.get_midpoint(asset_id=rain.yes)) == Decimal("0.46")
        assert await settled(client.get_midpoints(asset_ids=[rain.yes])) == {rain.yes: Decimal("0.46")}
        assert await settled(client.get_spread(asset_id=rain.yes)) == Decimal("0.08")
        assert await settled(client.get_spreads(asset_ids=[rain.yes])) == {rain.yes: Decimal("0.08")}
        assert await settled(client.get_price(asset_id=rain.yes, side="SELL")) == Decimal("0.5")
        prices = await settled(client.get_prices(requests=[PriceRequest(rain.yes, "BUY")]))
        assert prices == {rain.yes: {"BUY": Decimal("0.42")}}
        assert await settled(client.get_last_trade_price(asset_id=rain.yes)) is None
        assert await settled(client.get_last_trade_prices(asset_ids=[rain.yes])) == ()
        estimate = await settled(client.estimate_market_price(asset_id=rain.yes, side="BUY", amount="5"))
        assert Decimal(estimate) == Decimal("0.5")
        unknown = await refusal(lambda: client.get_order_book(asset_id="123"))
        assert (unknown.status, str(unknown)) == (404, "No orderbook exists for the requested token id")
        await settled(client.cancel_all())


async def orders_and_every_cancel(house: House) -> None:
    async with house.client() as client:
        rain, coin, quimby = [await house.market(client, slug) for slug in (RAIN, COIN, QUIMBY)]
        good_until = int(time.time()) + 600
        resting = accepted(
            await settled(client.place_limit_order(asset_id=rain.yes, side="BUY", price="0.30", size="10"))
        )
        assert (resting.status, resting.making_amount, resting.trade_ids) == ("live", 0, ())
        post_only = accepted(
            await settled(
                client.place_limit_order(asset_id=quimby.yes, side="BUY", price="0.2", size="5", post_only=True)
            )
        )
        batch = [
            await settled(
                client.create_limit_order(asset_id=coin.yes, side="BUY", price="0.31", size="10", expiration=good_until)
            ),
            await settled(client.create_limit_order(asset_id=rain.yes, side="BUY", price="0.32", size="1")),
            await settled(client.create_limit_order(asset_id=rain.no, side="BUY", price="0.33", size="7")),
        ]
        timed, too_small, other = await settled(client.post_orders(batch))
        assert isinstance(too_small, RejectedOrder)
        assert "lower than the minimum: 5" in too_small.message
        timed, other = accepted(timed), accepted(other)
        opened = {order.id: order for order in await first_page(client.list_open_orders())}
        assert set(opened) == {resting.order_id, post_only.order_id, timed.order_id, other.order_id}
        assert [opened[o.order_id].order_type for o in (resting, post_only, timed)] == ["GTC", "GTC", "GTD"]
        assert opened[timed.order_id].expires_at.timestamp() == good_until
        only = await first_page(client.list_open_orders(market=quimby.condition))
        assert [order.id for order in only] == [post_only.order_id]
        assert (await settled(client.get_order(order_id=other.order_id))).original_size == 7
        done = await settled(client.cancel_order(order_id=resting.order_id))
        assert (done.canceled, done.not_canceled) == ((resting.order_id,), {})
        again = await settled(client.cancel_order(order_id=resting.order_id))
        assert again.not_canceled == {resting.order_id: "order can't be found - already canceled or matched"}
        assert (await settled(client.cancel_orders(order_ids=[timed.order_id]))).canceled == (timed.order_id,)
        cleared = await settled(client.cancel_market_orders(market=quimby.condition))
        assert cleared.canceled == (post_only.order_id,)
        assert (await settled(client.cancel_all())).canceled == (other.order_id,)
        assert await first_page(client.list_open_orders()) == ()


async def every_wallet_trades_every_kind_of_market(house: House) -> None:
    for wallet, other in zip(WALLETS, reversed(WALLETS), strict=True):
        async with house.client(wallet) as client, house.client(other) as rival:
            assert client.wallet == house.wallets[wallet]
            markets = [await house.market(client, slug) for slug in (RAIN, COIN, QUIMBY)]
            for market in markets:
                await buy(client, rival, market)
            await sell(client, rival, markets[-1])
    async with house.client(None) as client:
        assert client.wallet == house.wallets["deposit"]


async def buy(client: Any, rival: Any, market: Market) -> None:
    """Buy YES from somebody who buys NO, and watch the trade settle."""
    before = {trade.id for trade in await first_page(client.list_account_trades(market=market.condition))}
    cash = await balance(client, "COLLATERAL")
    kind = "CONDITIONAL-V2" if market.is_v2 else "CONDITIONAL"
    held = await balance(client, kind, market.yes)
    maker = accepted(await settled(rival.place_limit_order(asset_id=market.no, side="BUY", price="0.4", size="25")))
    bought = accepted(
        await settled(client.place_market_order(asset_id=market.yes, side="BUY", amount="6", order_type="FOK"))
    )
    assert (bought.status, bought.making_amount, bought.taking_amount) == ("matched", 6, 10)
    (chain_hash,) = await settled(client.wait_for_order_fill_settlement(bought, timeout_s=PATIENCE_S))
    trades = await first_page(client.list_account_trades(market=market.condition))
    (made,) = [trade for trade in trades if trade.id not in before]
    assert (made.id, made.transaction_hash, made.trader_side) == (bought.trade_ids[0], chain_hash, "TAKER")
    assert [(leg.order_id, leg.matched_amount) for leg in made.maker_orders] == [(maker.order_id, 10)]
    assert await balance(client, kind, market.yes) == held + 10_000_000
    fee = cash - await balance(client, "COLLATERAL") - 6_000_000
    assert 0 < fee < 300_000
    await settled(rival.cancel_all())


async def sell(client: Any, rival: Any, market: Market) -> None:
    """Sell YES to somebody who buys it."""
    buyer = accepted(await settled(rival.place_limit_order(asset_id=market.yes, side="BUY", price="0.5", size="10")))
    sold = accepted(
        await settled(
            client.place_market_order(asset_id=market.yes, side="SELL", shares="10", min_price="0.5", order_type="FAK")
        )
    )
    assert (sold.making_amount, sold.taking_amount) == (10, 5)
    assert (await settled(rival.get_order(order_id=buyer.order_id))).status == "MATCHED"


async def balance(client: Any, asset_type: str, asset_id: str | None = None) -> int:
    return int((await settled(client.get_balance_allowance(asset_type=asset_type, asset_id=asset_id))).balance)


async def wallets_are_indexed(house: House) -> None:
    async with house.client("safe") as client, house.client("address") as rival:
        coin, nobody = await house.market(client, COIN), await house.market(client, NOBODY)
        state = await settled(client.get_trading_approvals_state())
        assert (state.is_fully_approved, state.missing.erc20, state.missing.erc1155) == (True, (), ())
        state = await settled(client.get_trading_approvals_state(wallet="0x" + "11" * 20))
        assert (state.is_fully_approved, len(state.missing.erc20), len(state.missing.erc1155)) == (False, 7, 10)
        await buy(client, rival, coin)
        fill = (await first_page(client.list_trades(condition_id=coin.condition)))[0]
        assert (fill.wallet, fill.asset_id, fill.side) == (client.wallet, coin.yes, "BUY")
        assert (fill.price, fill.size) == (Decimal("0.6"), 10)
        held = {each.asset_id: each for each in await every(client.list_positions(page_size=1))}
        assert len(held) > 1
        for position in held.values():
            kind = "CONDITIONAL-V2" if position.asset_id in (coin.yes, coin.no) else "CONDITIONAL"
            assert await balance(client, kind, position.asset_id) == position.current_size * 1_000_000
        assert held[coin.yes].avg_price == Decimal("0.6")
        assert (held[coin.yes].outcome_index, held[coin.yes].opposite_asset_id) == (0, coin.no)
        value = (await settled(client.get_portfolio_value())).value
        assert value == sum(position.current_value for position in held.values())
        await to_the_end(house, client, nobody)


async def to_the_end(house: House, client: Any, market: Market) -> None:
    """Split, merge, resolve and redeem, and read of each."""
    house.control("split", account=client.wallet, market=market.condition, size="9")
    house.control("merge", account=client.wallet, market=market.condition, size="2")
    pair = await first_page(client.list_positions(status="MERGEABLE", condition_id=market.condition))
    assert [(each.current_size, each.avg_price, each.mergeable) for each in pair] == [(7, Decimal("0.5"), True)] * 2
    (open_here,) = await settled(client.get_open_interests(condition_ids=market.condition))
    assert open_here.value >= 7
    house.control("resolve", market=market.condition, outcome="NO")
    (end,) = await settled(client.get_resolutions(condition_ids=market.condition))
    assert (end.status, end.payouts) == ("resolved", (Decimal(0), Decimal(1)))
    tokens = await settled(client.get_token_references(condition_ids=market.condition))
    assert [(each.asset_id, each.final_price) for each in tokens] == [(market.yes, 0), (market.no, 1)]
    assert all(each.event_id and each.neg_risk_market_id for each in tokens)
    volume = await settled(client.get_event_live_volume(event_ids=int(tokens[0].event_id)))
    assert volume.taker_volume_total == sum(each.taker_volume for each in volume.markets) > 0
    won, lost = await first_page(client.list_positions(status="REDEEMABLE", condition_id=market.condition))
    assert (won.outcome, won.current_value, lost.current_value, lost.redeemable) == ("No", 7, 0, True)
    house.control("redeem", account=client.wallet, market=market.condition)
    gone = await first_page(client.list_positions(status="CLOSED", condition_id=market.condition))
    assert [each.realized_pnl for each in gone] == [Decimal("3.5"), Decimal("-3.5")]
    told = await every(client.list_activity(condition_id=market.condition, page_size=1))
    assert [(each.type, each.amount) for each in told] == [("REDEEM", 0), ("REDEEM", 7), ("MERGE", 2), ("SPLIT", 9)]


async def every(paginator: Any) -> list[Any]:
    """Walk through all pages."""
    items = paginator.iter_items()
    return [each async for each in items] if hasattr(items, "__aiter__") else list(items)


async def refusals_have_their_codes(house: House) -> None:
    async with house.client() as client, house.client("safe") as rival:
        rain = await house.market(client, RAIN)
        await settled(rival.place_limit_order(asset_id=rain.no, side="BUY", price="0.5", size="20"))

        async def limit(side: str, price: str, size: str, **more: Any) -> Any:
            return await settled(
                client.create_limit_order(asset_id=rain.yes, side=side, price=price, size=size, **more)
            )

        async def market(amount: str, price: str, order_type: str) -> Any:
            return await settled(
                client.create_market_order(
                    asset_id=rain.yes, side="BUY", amount=amount, max_price=price, order_type=order_type
                )
            )

        refused = {
            "post_only_would_cross": await limit("BUY", "0.5", "20", post_only=True),
            "not_enough_balance": await limit("BUY", "0.4", "100000"),
            "fok_not_filled": await market("100", "0.5", "FOK"),
            "fak_not_filled": await market("10", "0.4", "FAK"),
            "unknown": await limit("BUY", "0.4", "1"),
        }
        # In a batch a refusal is an entry of the answer, alone it is a 400; the words are the same.
        legs = await settled(client.post_orders(list(refused.values())))
        assert [leg.code for leg in legs if isinstance(leg, RejectedOrder)] == list(refused), legs
        for leg, order in zip(legs, list(refused.values()), strict=True):
            alone = await refusal(lambda order=order: client.post_order(order))  # type: ignore[misc]
            assert (alone.status, str(alone)) == (400, leg.message)
        placed = await limit("BUY", "0.3", "5")
        order_id = accepted(await settled(client.post_order(placed))).order_id
        twice = await refusal(lambda: client.post_order(placed))
        assert str(twice) == f"order {order_id} is invalid. Duplicated."
        forged = await refusal(lambda: client.post_order(dataclasses.replace(placed, maker_amount=1)))
        assert (forged.status, str(forged)) == (400, "invalid signature")
        await settled(client.cancel_all())
        await settled(rival.cancel_all())


async def restrictions_and_limits_are_understood(house: House) -> None:
    async with house.client() as client:
        rain = await house.market(client, RAIN)

        async def rejected() -> RequestRejectedError:
            return await refusal(lambda: client.place_limit_order(asset_id=rain.yes, side="BUY", price="0.3", size="5"))

        for mode in ("post_only", "cancel_only"):
            house.control("mode", mode=mode)
            assert (await rejected()).restriction == mode
        house.control("mode", mode="normal")
        house.control("restart", restarting_s=60, post_only_s=0)
        assert (await rejected()).restriction == "restarting"
        house.control("mode", mode="normal")
        burst = [f"0x{number:064x}" for number in range(121)]
        try:
            await settled(client.cancel_orders(order_ids=burst))
        except RateLimitError as limited:
            assert limited.retry_after is not None
            assert limited.rate_limit is not None
        else:
            raise AssertionError("121 cancels passed a burst of 120")


async def heartbeats_keep_orders(house: House) -> None:
    async with house.client("proxy") as client:
        first = await settled(client.send_order_heartbeat())
        second = await settled(client.send_order_heartbeat(heartbeat_id=first.heartbeat_id))
        assert second.heartbeat_id != first.heartbeat_id
        try:
            await settled(client.send_order_heartbeat(heartbeat_id=first.heartbeat_id))
        except OrderHeartbeatMismatchError as mismatch:
            assert mismatch.heartbeat_id == second.heartbeat_id
        else:
            raise AssertionError("a stale heartbeat was taken")
        await settled(client.send_order_heartbeat(heartbeat_id=second.heartbeat_id))


async def standing_is_told(house: House) -> None:
    address = house.account["address"]
    async with house.client() as client, house.client("deposit") as wallet:
        rain = await house.market(client, RAIN)
        bid = {"asset_id": rain.yes, "side": "BUY", "price": "0.05", "size": "20"}
        house.control("standing", account=address, standing="closed_only")
        assert await settled(client.get_closed_only_mode()) is True
        refused = await refusal(lambda: client.place_limit_order(**bid))
        assert (refused.status, f"'{address}' address in closed only mode" in str(refused)) == (400, True)
        house.control("standing", account=address, standing="banned")
        assert f"'{address}' address banned" in str(await refusal(lambda: client.place_limit_order(**bid)))
        house.control("standing", account=address, needs_deposit_wallet=True)
        assert "use the deposit wallet flow" in str(await refusal(lambda: client.place_limit_order(**bid)))
        accepted(await settled(wallet.place_limit_order(**bid)))
        house.control("standing", account=address)
        accepted(await settled(client.place_limit_order(**bid)))
        await settled(client.cancel_all())


async def approvals_are_set_up(house: House) -> None:
    """Every wallet may ask its chain and find nothing missing; two kinds can also give what is."""
    key = polymarket.RelayerApiKey(key="play", address=house.account["address"])
    for wallet in WALLETS:
        async with house.client(wallet, api_key=key) as client:
            await settled(client.setup_trading_approvals())
            if wallet not in ("address", "deposit"):
                continue
            for asset in ("COLLATERAL", "CONDITIONAL", "CONDITIONAL-V2"):
                house.control("allowance", account=house.wallets[wallet], asset_type=asset, allowance="0")
            missing = (await settled(client.get_trading_approvals_state())).missing
            assert (len(missing.erc20), len(missing.erc1155)) == (3, 3)
            await settled(client.setup_trading_approvals())
            assert (await settled(client.get_trading_approvals_state())).is_fully_approved


async def missing_approval_is_given_and_the_order_posted_again(house: House) -> None:
    key = polymarket.RelayerApiKey(key="play", address=house.account["address"])
    for wallet in ("deposit", "address"):
        async with house.client(wallet, api_key=key) as client:
            for slug in (RAIN, COIN, QUIMBY):
                market, address = await house.market(client, slug), house.wallets[wallet]
                house.control("allowance", account=address, asset_type="COLLATERAL", allowance="0")
                house.control("split", account=address, market=market.condition, size="10")
                kind = "CONDITIONAL-V2" if market.is_v2 else "CONDITIONAL"
                house.control("allowance", account=address, asset_type=kind, allowance="0")
                for side, price in (("BUY", "0.05"), ("SELL", "0.95")):
                    order = client.place_limit_order(asset_id=market.yes, side=side, price=price, size="10")
                    assert accepted(await settled(order)).status == "live"
                # Given once, an approval serves the next order too.
                again = client.place_limit_order(asset_id=market.yes, side="BUY", price="0.06", size="10")
                accepted(await settled(again))
            await settled(client.cancel_all())


async def streams_tell_what_happens(house: House) -> None:
    async with house.client() as client, house.client("safe") as rival:
        rain, coin, quimby = [await house.market(client, slug) for slug in (RAIN, COIN, QUIMBY)]
        books = Listener(await client.subscribe(MarketSpec(asset_ids=[rain.yes, rain.no], custom_feature_enabled=True)))
        own = Listener(await client.subscribe(UserSpec()))
        snapshots = [(await books.next("book")).payload.asset_id for _ in range(2)]
        assert set(snapshots) == {rain.yes, rain.no}
        order = accepted(await client.place_limit_order(asset_id=rain.yes, side="BUY", price="0.40", size="10"))
        placed = await own.next("order")
        assert (placed.payload.id, placed.payload.order_event_type) == (order.order_id, "PLACEMENT")
        moved = await books.next("price_change")
        assert {change.asset_id for change in moved.payload.price_changes} == {rain.yes, rain.no}
        tops = [(await books.next("best_bid_ask")).payload for _ in range(2)]
        assert {top.asset_id: top.best_bid or top.best_ask for top in tops} == {
            rain.yes: Decimal("0.40"),
            rain.no: Decimal("0.60"),
        }
        taken = accepted(await rival.place_market_order(asset_id=rain.no, side="BUY", amount="6", order_type="FOK"))
        # Both wallets belong to the one key, which therefore hears of the trade in either role.
        heard = [(await own.next("trade")).payload for _ in range(6)]
        for role in ("TAKER", "MAKER"):
            statuses = [told.status for told in heard if told.trader_side == role]
            assert statuses == ["MATCHED", "MINED", "CONFIRMED"], (role, statuses)
        assert {told.id for told in heard} == set(taken.trade_ids)
        printed = await books.next("last_trade_price")
        assert (printed.payload.asset_id, printed.payload.price, printed.payload.size) == (rain.no, Decimal("0.6"), 10)
        # A second subscription joins the same connection while it runs.
        spec = MarketSpec(asset_ids=[coin.yes, quimby.yes], custom_feature_enabled=True)
        more = Listener(await client.subscribe(spec))
        first_books = [(await more.next("book")).payload.asset_id for _ in range(2)]
        assert set(first_books) == {coin.yes, quimby.yes}
        house.control("resolve", market=quimby.condition, outcome="YES")
        end = (await more.next("market_resolved")).payload
        assert (end.condition_id, end.winning_asset_id) == (quimby.condition, quimby.yes)
        for listener in (more, own, books):
            assert listener.stream.dropped == 0
            await listener.stream.close()


Step = Callable[[House], Awaitable[None]]

STEPS: tuple[Step, ...] = (
    keys_and_reading,
    orders_and_every_cancel,
    every_wallet_trades_every_kind_of_market,
    wallets_are_indexed,
    refusals_have_their_codes,
    restrictions_and_limits_are_understood,
    heartbeats_keep_orders,
    standing_is_told,
    approvals_are_set_up,
    missing_approval_is_given_and_the_order_posted_again,
)
ASYNC_STEPS: tuple[Step, ...] = (*STEPS, streams_tell_what_happens)


async def session(kind: str) -> None:
    house = House(json.load(sys.stdin), is_async=kind == "async")
    for step in ASYNC_STEPS if house.is_async else STEPS:
        await step(house)
        print(step.__name__, flush=True)


if __name__ == "__main__":
    asyncio.run(session(sys.argv[1]))
