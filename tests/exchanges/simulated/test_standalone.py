"""The exchange on its own: what its settings may say, who is funded, and that it adds up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from tbot.config import load
from tbot.core.messages import ExchangeOrderId, Side
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Price, Size
from tbot.errors import ConfigError
from tbot.exchanges.simulated.contracts import condition_of, is_position_id
from tbot.exchanges.simulated.operations import Account, Placed, PlaceOrder
from tbot.exchanges.simulated.standalone import NOTICE, Announcement, StandaloneExchange, StandaloneSettings

ROOT = Path(__file__).parents[3]
FIRST = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"


def settings_of(**changes: Any) -> StandaloneSettings:
    return msgspec.structs.replace(load(ROOT / "conf/exchange.toml", StandaloneSettings), **changes)


def now_ns() -> Nanos:
    return Nanos(1_767_225_600 * NANOS_PER_S + int(trio.current_time() * NANOS_PER_S))


def standalone(seed: int = 7) -> StandaloneExchange:
    return StandaloneExchange(settings_of(has_traders=False), seed=seed, now_ns=lambda: Nanos(0))


def test_default_settings_list_every_kind_of_market() -> None:
    settings = settings_of()
    assert len(settings.markets) >= 4
    assert settings.server.host == "127.0.0.1"
    assert len([rules for rules in settings.markets if rules.event]) >= 3
    assert all(rules.is_neg_risk for rules in settings.markets if rules.event)
    assert {is_position_id(rules.yes) for rules in settings.markets} == {False, True}
    assert len(settings.traders.fair.starts) == len(settings.markets)
    event = [start for start, rules in zip(settings.traders.fair.starts, settings.markets, strict=True) if rules.event]
    assert sum(event) == pytest.approx(1.0)
    assert len(settings.traders.regimes) == len(settings.markets)
    assert any(rules.taker_delay_ms for rules in settings.markets)
    (game,) = settings.games
    assert [rules.seconds_delay for rules in settings.markets if rules.slug == game.slug] == [3]


def test_game_starts_so_long_after_the_exchange() -> None:
    settings = settings_of()
    (game,) = settings.games
    before = {rules.slug: rules for rules in settings.markets}
    for rules in settings.markets_at(Nanos(5 * NANOS_PER_S + 1)):
        is_game = rules.slug == game.slug
        assert (rules.game_start_s, rules.clears_book_at_start) == ((5 + game.starts_in_s) * is_game, is_game)
        plain = msgspec.structs.replace(rules, game_start_s=0, clears_book_at_start=False)
        assert plain == before[rules.slug]


async def test_orders_of_the_game_are_cleared_when_it_starts(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        opened = StandaloneExchange(settings_of(has_traders=False), seed=7, now_ns=now_ns)
        await nursery.start(opened.exchange.run)
        buys = [
            PlaceOrder(
                account=Account(FIRST), order_id=ExchangeOrderId(f"o-{rules.slug}"), token_id=rules.yes, side=Side.BUY,
                price=Price(400_000), size=Size(10 * MICRO),
            )
            for rules in settings_of().markets
        ]  # fmt: skip
        for buy in buys:
            assert isinstance(opened.exchange.place(buy), Placed)
        await trio.sleep(899)
        assert len(opened.exchange.open_orders(Account(FIRST))) == len(buys)
        await trio.sleep(2)
        gone = {order.order_id for order in opened.exchange.open_orders(Account(FIRST))} ^ {b.order_id for b in buys}
        assert gone == {"o-isotopes-beat-shelbyville"}
        nursery.cancel_scope.cancel()


def test_the_ten_public_accounts_are_funded_in_every_wallet() -> None:
    opened = standalone()
    assert len(opened.accounts) == 10
    assert opened.accounts[0].address == FIRST
    assert opened.accounts[9].private_key == "0x2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6"
    for account in opened.accounts:
        wallets = account.wallets
        for holder in (account.address, wallets.proxy, wallets.safe, wallets.deposit):
            assert opened.exchange.balances(Account(holder)).cash == 10_000 * MICRO
        assert account.private_key not in repr(account)
    assert len({holder.wallets.deposit for holder in opened.accounts}) == 10


def test_same_seed_gives_the_same_api_keys_and_another_seed_others() -> None:
    def keys(seed: int) -> list[str]:
        return [account.api_credentials.secret for account in standalone(seed).accounts]

    assert keys(1) == keys(1)
    assert not set(keys(1)) & set(keys(2))


async def test_announcement_says_where_and_that_keys_are_for_play(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        opened = StandaloneExchange(settings_of(), seed=7, now_ns=now_ns)
        announcement: Announcement = await nursery.start(opened.serve)
        told = msgspec.json.decode(msgspec.json.encode(announcement))
        assert told["rest_url"].startswith("http://127.0.0.1:")
        assert told["ws_market_url"].endswith("/ws/market")
        assert told["ws_user_url"].endswith("/ws/user")
        assert told["gamma_url"] == told["rest_url"] + "/gamma"
        assert told["relayer_url"] == told["rest_url"] + "/relayer"
        assert told["data_url"] == told["rest_url"] + "/data-api"
        assert told["notice"] == NOTICE
        assert set(told["accounts"][0]) == {"address", "private_key", "api_credentials", "wallets"}
        await trio.sleep(30)
        books = [opened.exchange.book(rules.yes) for rules in settings_of().markets]
        assert all(book.bids and book.asks for book in books), "the crowd quotes every market"
        assert opened.exchange.faults.faults_injected == {}
        nursery.cancel_scope.cancel()
    assert opened.server.crashes == []


MARKET = """
[[markets]]
slug = "a"
market_id = "{market_id}"
yes = "{yes}"
no = "{no}"
"""
ID, OTHER_ID = "0x" + "0a" * 32, "0x" + "0b" * 32
PLAIN = MARKET.format(market_id=ID, yes="1", no="2")
POSITION = (1 << 248) | (5 << 120)


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("", "expected a value"),
        (MARKET.format(market_id=ID, yes="abc", no="2"), "expected a token of digits below .*, found 'abc'"),
        (
            MARKET.format(market_id=ID, yes="1", no="2") + MARKET.format(market_id=OTHER_ID, yes="3", no="2"),
            "expected every market_id, yes and no once",
        ),
        (MARKET.format(market_id=ID, yes=POSITION, no=POSITION + 1), "expected market_id 0x01"),
        (MARKET.format(market_id=condition_of(str(POSITION)), yes=POSITION, no="2"), "expected two tokens or two pos"),
        (
            MARKET.format(market_id=ID, yes="1", no="2") + '[[games]]\nslug = "b"\nstarts_in_s = 5',
            "expected in games the slug of one market without a game_start_s, found 'b'",
        ),
        (
            MARKET.format(market_id=ID, yes="1", no="2") + '[[games]]\nslug = "a"\nstarts_in_s = 5\n' * 2,
            "expected in games the slug of one market without a game_start_s, found 'a'",
        ),
        (MARKET.format(market_id=ID, yes="1", no=1 << 256), "expected a token of digits below"),
        (MARKET.format(market_id=ID, yes="1", no="02"), "expected a token of digits below .*, found '02'"),
        (MARKET.format(market_id="0x12", yes="1", no="2"), "a: expected market_id of 0x and 64 .*, found '0x12'"),
        (MARKET.format(market_id=ID.upper(), yes="1", no="2"), "expected market_id of 0x and 64 .* in lower case"),
        (PLAIN + MARKET.format(market_id=OTHER_ID, yes="3", no="4"), "expected every slug once, found 'a' twice"),
        (
            f'{PLAIN}is_neg_risk = true\nevent = "b"'
            + MARKET.format(market_id=OTHER_ID, yes="3", no="4").replace('"a"', '"b"'),
            "expected every slug once, found 'b' of a market and of an event",
        ),
        (PLAIN.replace('"a"', '"a/b"'), "expected a slug of letters, digits and .*, found 'a/b'"),
        (f'{PLAIN}is_neg_risk = true\nevent = "?"', "expected a slug of letters, digits and .*, found '[?]'"),
        (
            PLAIN + 'event = "cup"',
            "a: expected is_neg_risk = true, since it is an outcome of the event cup; found false",
        ),
        ("cash = 5", "expected a decimal in quotes"),
        ('[server]\nhost = "::"\nhas_control = true', "expected has_control = false on a host that is not loopback"),
        ("[server]\nchain = 1", "unknown key, expected chain_id, found chain"),
    ],
)
def test_settings_no_client_could_trade_under_are_refused(tmp_path: Path, text: str, refusal: str) -> None:
    path = tmp_path / "exchange.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=refusal):
        load(path, StandaloneSettings)
