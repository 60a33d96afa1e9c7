"""Whatever comes back on any request is a value or one of our errors, and never a wrong claim."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as gen

from tbot.core.messages import CancelReply, OutcomeUnknown, Rejected, SubmitReply
from tbot.core.units import Nanos
from tbot.errors import AnotherSender, AuthenticationFailed, ConfigError, ExchangeUnavailable
from tbot.exchanges.polymarket.gateway import PolymarketGateway
from tests.contract.stage import now_ns
from tests.exchanges.polymarket.answers import CONDITION, ID, KEY, OTHER_ID, YES, gateway_of, market, order_of

KEYS = (
    *("error", "errorMsg", "error_msg", "code", "retry_after_seconds", "heartbeat_id", "success", "orderID", "status"),
    *("canceled", "not_canceled", "data", "next_cursor", "balance", "closed_only", "blocked", "version", "neg_risk"),
    *("minimum_tick_size", "c", "t", "mos", "fd", "v", "market_slug", "asset_id", "bids", "asks", "timestamp", "hash"),
    *("buys", "sells"),
    *("apiKey", "secret", "passphrase", "id", "price", "size", "side", "original_size", "size_matched", "owner"),
    "maker_orders",
)
WORDS = (
    "", "0", "-1", "1e9", "0.5", "99999999999999999999999", "live", "matched", "LTE=", "MA==", "BUY", "v2", ID, YES,
    CONDITION, "order_version_mismatch", "Invalid Heartbeat ID", "cancel-only", "order 0x is invalid. Duplicated.",
    "not enough balance -> balance: 1, order amount: 99", "\ud800",
)  # fmt: skip
values = gen.recursive(
    gen.none()
    | gen.booleans()
    | gen.integers(-(2**70), 2**70)
    | gen.floats()
    | gen.sampled_from(WORDS)
    | gen.text(max_size=8),
    lambda inner: gen.lists(inner, max_size=4) | gen.dictionaries(gen.sampled_from(KEYS), inner, max_size=8),
    max_leaves=16,
)
bodies = values.map(lambda value: json.dumps(value).encode()) | gen.binary(max_size=60)
statuses = gen.sampled_from((200, 200, 200, 201, 204, 301, 400, 401, 403, 404, 422, 425, 429, 500, 502, 503, 504, 599))
headers = gen.fixed_dictionaries(
    {},
    optional={
        "retry-after": gen.sampled_from(("", "1", "-5", "1e99", "nan", "inf", "Mon, 99 Foo", "9" * 400)),
        "poly-ratelimit-remaining": gen.sampled_from(("", "-3", "7", "x", "9" * 40)),
        "poly-ratelimit-tier": gen.sampled_from(("", "Gold", "standard", "Nonsense")),
    },
)
answers = gen.tuples(statuses, bodies, headers)
Answers = list[tuple[int, bytes, dict[str, str]]]

# One of our own errors, of those that a caller of each expects.
EXPECTED = (ExchangeUnavailable, AuthenticationFailed, ConfigError, AnotherSender)


def serving(told: Answers) -> PolymarketGateway:
    turns = iter(range(10**9))

    def handle(_request: httpx2.Request) -> httpx2.Response:
        status, content, extra = told[next(turns) % len(told)]
        return httpx2.Response(status, content=content, headers=extra)

    gateway = gateway_of(handle)
    gateway._public._markets = dict.fromkeys(market().tokens, market())
    return gateway


def reads(gateway: PolymarketGateway) -> list[Callable[[], Awaitable[object]]]:
    return [
        gateway.load_markets,
        gateway.can_trade,
        gateway.protect,
        lambda: gateway.books([YES]),
        lambda: gateway.report(Nanos(0), [ID]),
        lambda: gateway.rest.obtain_credentials(KEY, chain_id=137),
    ]


def run(play: Callable[[], Awaitable[None]]) -> None:
    trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(gen.lists(answers, min_size=1, max_size=4))
def test_any_answer_to_a_read_is_a_value_or_our_own_error(told: Answers) -> None:
    async def play() -> None:
        for number in range(len(reads(serving(told)))):
            with trio.fail_after(3_600):
                try:
                    await reads(serving(told))[number]()
                except EXPECTED as error:
                    assert str(error)

    run(play)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(gen.lists(answers, min_size=1, max_size=4))
def test_any_answer_to_a_write_is_one_reply_for_each_order(told: Answers) -> None:
    async def play() -> None:
        gateway = serving(told)
        for _ in range(3):
            prepared = gateway.prepare(order_of(), now_ns())
            reply: Any = await gateway.submit(prepared)
            assert isinstance(reply, SubmitReply.__args__)
            if isinstance(reply, Rejected | OutcomeUnknown):
                assert reply.reason
            replies = await gateway.cancel([ID, OTHER_ID])
            assert [each.exchange_order_id for each in replies] == [ID, OTHER_ID]
            assert all(isinstance(each, CancelReply.__args__) for each in replies)

    run(play)
