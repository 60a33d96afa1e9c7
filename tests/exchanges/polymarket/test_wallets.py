"""Every kind of wallet in every kind of market, on an exchange that verifies each signature by code of its own."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from tbot.config import load
from tbot.core.market import Market
from tbot.core.messages import Accepted, Canceled, Fill, OrderType, Side
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Size
from tbot.errors import ConfigError
from tbot.exchanges.polymarket.gateway import PolymarketConnections, PolymarketGateway
from tbot.exchanges.polymarket.keys import ApiCredentials, SigningKey
from tbot.exchanges.polymarket.pipes import stream_transport
from tbot.exchanges.polymarket.settings import PolymarketSettings
from tbot.exchanges.simulated.contracts import is_position_id
from tbot.exchanges.simulated.operations import Account, SplitPair
from tbot.exchanges.simulated.standalone import FundedAccount, StandaloneExchange, StandaloneSettings
from tests.contract.stage import now_ns
from tests.exchanges.polymarket.answers import CONDITION, REFERENCE_DATA, gateway_of, order_of, routed

ROOT = Path(__file__).parents[3]
KINDS = {0: "own", 1: "proxy", 2: "safe", 3: "deposit"}


def exchange_of_all_kinds() -> StandaloneExchange:
    settings = load(ROOT / "conf/exchange.toml", StandaloneSettings)
    return StandaloneExchange(msgspec.structs.replace(settings, has_traders=False), seed=7, now_ns=now_ns)


def wallet_of(account: FundedAccount, signature_type: int) -> str:
    return "" if not signature_type else str(getattr(account.wallets, KINDS[signature_type]))


def gateway_for(
    opened: StandaloneExchange, nursery: trio.Nursery, number: int, signature_type: int
) -> PolymarketGateway:
    account = opened.accounts[number]
    issued = account.api_credentials

    async def connect() -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(opened.server.serve_rest, theirs)
        return ours

    return PolymarketGateway(
        PolymarketSettings(
            condition_ids=tuple(str(rules.market_id) for rules in opened.exchange.markets()),
            rest_url="http://exchange.test",
            geoblock_url="",
            signature_type=signature_type,
            funder=wallet_of(account, signature_type),
        ),
        key=SigningKey.from_hex(account.private_key),
        credentials=ApiCredentials(api_key=issued.api_key, secret=issued.secret, passphrase=issued.passphrase),
        now_ns=now_ns,
        rng=random.Random(number),
        connections=PolymarketConnections(transport=stream_transport(connect)),
    )


def kinds_of(markets: tuple[Market, ...]) -> dict[str, Market]:
    """Choose one market of each order protocol."""
    found: dict[str, Market] = {}
    for market in markets:
        kind = "v3" if is_position_id(market.yes) else "v2 neg-risk" if market.is_neg_risk else "v2"
        found.setdefault(kind, market)
    return found


async def trade_everywhere(opened: StandaloneExchange, signature_type: int) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(opened.exchange.run)
        taker = gateway_for(opened, nursery, 0, signature_type)
        maker = gateway_for(opened, nursery, 1, 3 - signature_type)
        chosen = kinds_of(await taker.load_markets())
        await maker.load_markets()
        assert set(chosen) == {"v2", "v2 neg-risk", "v3"}
        holder = Account(wallet_of(opened.accounts[1], 3 - signature_type) or opened.accounts[1].address)
        for kind, market in chosen.items():
            opened.exchange.apply(SplitPair(account=holder, market_id=market.market_id, size=Size(50 * MICRO)))
            until = {"deadline_ns": Nanos(now_ns() + NANOS_PER_S), "token_id": market.yes}
            offer = maker.prepare(order_of(side=Side.SELL, is_post_only=True, **until), now_ns())
            assert isinstance(await maker.submit(offer), Accepted), kind
            take = order_of(order_type=OrderType.FAK, is_post_only=False, **until)
            assert isinstance(await taker.submit(taker.prepare(take, now_ns())), Accepted), kind
            report = await taker.report(Nanos(0), [])
            bought: list[Fill] = [fill for fill in report.fills if fill.token_id == market.yes]
            assert sum(fill.size for fill in bought) > 20 * MICRO, kind
            rest = order_of(side=Side.SELL, price=990_000, size=5 * MICRO, **until)
            bid = maker.prepare(rest, now_ns())
            assert isinstance(await maker.submit(bid), Accepted), kind
            assert isinstance((await maker.cancel([bid.exchange_order_id]))[0], Canceled), kind
        await trio.sleep(60)  # settled: now the balances of tokens and of positions are told, each by its own name
        balances = dict((await taker.report(Nanos(0), [])).balances)
        assert all(balances[market.yes] > 20 * MICRO for market in chosen.values())
        await taker.aclose()
        await maker.aclose()
        nursery.cancel_scope.cancel()
    assert opened.server.crashes == []


@pytest.mark.slow
@pytest.mark.parametrize("signature_type", KINDS)
async def test_wallet_trades_in_every_kind_of_market(
    autojump_clock: trio.testing.MockClock, signature_type: int
) -> None:
    await trade_everywhere(exchange_of_all_kinds(), signature_type)


POSITIONS = {
    "c": CONDITION,
    "t": [{"t": str((1 << 248) + n), "o": "x"} for n in (0, 1)],
    "v": "v2",
    "mos": 5,
    "ao": True,
}


async def test_market_of_positions_is_loaded(autojump_clock: trio.testing.MockClock) -> None:
    gateway = gateway_of(routed(REFERENCE_DATA | {f"/clob-markets/{CONDITION}": POSITIONS}))
    (market,) = await gateway.load_markets()
    assert is_position_id(market.yes)


@pytest.mark.parametrize(
    "changes",
    [
        {"v": "v1"},  # positions in a market of CTF tokens
        {"t": [{"t": "11"}, {"t": "12"}]},  # the other way round
        {"t": [{"t": "11"}, POSITIONS["t"][0]]},  # type: ignore[index]
        {"v": "v3"},
    ],
)
async def test_market_that_contradicts_its_assets_is_refused(
    autojump_clock: trio.testing.MockClock, changes: dict[str, object]
) -> None:
    gateway = gateway_of(routed(REFERENCE_DATA | {f"/clob-markets/{CONDITION}": POSITIONS | changes}))
    with pytest.raises(ConfigError, match="cannot be traded"):
        await gateway.load_markets()
