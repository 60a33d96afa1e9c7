"""Random lives of an exchange: delays, games, ticks at the edge, conversions, resolutions; and judges that can fail."""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import ExchangeOrderId, OrderState, OrderType, Settlement, Side
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Notional, Price, Size
from tbot.exchanges.simulated.collateral import adapter_of
from tbot.exchanges.simulated.ledger import CASH
from tbot.exchanges.simulated.matching import Engine
from tbot.exchanges.simulated.operations import (
    Account,
    Advance,
    CancelEvery,
    CancelOrders,
    ChangeTick,
    CloseMarket,
    ConvertPositions,
    Course,
    Deposit,
    Done,
    EngineSettings,
    MarketRules,
    MergePair,
    OpenMarket,
    Operation,
    PauseMarket,
    PlaceOrder,
    RedeemTokens,
    ReopenMarket,
    ResolveMarket,
    SplitPair,
)
from tests.properties.judges import (
    adapter_faults,
    all_faults,
    book_faults,
    conservation_faults,
    held_faults,
    order_faults,
    priority_faults,
    queues,
)

START_S = 1_790_000_000
START = Nanos(START_S * NANOS_PER_S)
LATER = Nanos(START + 10_000 * NANOS_PER_S)
EVENT = "mayor"


def market(name: str, *, fee_rate_micro: int = 0, event: str = "") -> MarketRules:
    return MarketRules(
        market_id=MarketId(name),
        slug=name,
        yes=TokenId(f"{name}-yes"),
        no=TokenId(f"{name}-no"),
        fee_rate_micro=fee_rate_micro,
        event=event,
        is_neg_risk=bool(event),
    )


MARKETS = (
    msgspec.structs.replace(
        market("game", fee_rate_micro=50_000), seconds_delay=3, game_start_s=START_S + 60, clears_book_at_start=True
    ),
    msgspec.structs.replace(market("coin", fee_rate_micro=70_000), taker_delay_ms=250),
    *(market(name, fee_rate_micro=40_000, event=EVENT) for name in ("quimby", "bob", "nobody")),
)
OUTCOMES = MARKETS[2:]
ACCOUNTS = (Account("ann"), Account("bob"), Account("eve"))
TOKENS = tuple(token for rules in MARKETS for token in (rules.yes, rules.no))
PAYOUTS = (Price(0), Price(MICRO), Price(MICRO // 2))
OPENING: tuple[Operation, ...] = (
    *(OpenMarket(rules=rules) for rules in MARKETS),
    *(Deposit(account=account, cash=Notional(500 * MICRO)) for account in ACCOUNTS),
    *(
        SplitPair(account=account, market_id=rules.market_id, size=Size(40 * MICRO))
        for account in ACCOUNTS
        for rules in MARKETS
    ),
)

Timed = list[tuple[Nanos, Operation]]


def placement(rng: random.Random, number: int) -> PlaceOrder:
    """Make an order in one of few markets, whose price may be at the edge, so that ticks change and orders meet."""
    rules, side = rng.choice(MARKETS[:3]), rng.choice(tuple(Side))
    order_type = rng.choice((OrderType.GTC, OrderType.GTC, OrderType.GTC, *OrderType))
    has_budget = side is Side.BUY and order_type in (OrderType.FAK, OrderType.FOK)
    cents = rng.choice((rng.randint(46, 54), rng.randint(46, 54), rng.randint(94, 99), rng.randint(1, 6)))
    lots = rng.randint(500, 4_000) * 10_000
    return PlaceOrder(
        account=rng.choice(ACCOUNTS),
        order_id=ExchangeOrderId(f"o{number}"),
        token_id=rng.choice((rules.yes, rules.no)),
        side=side,
        price=Price(cents * 10_000 - rng.choice((0, 0, 0, 1_000))),
        size=Size(0 if has_budget else lots),
        budget=Notional(lots // 20_000 * 10_000 if has_budget else 0),
        order_type=order_type,
        is_post_only=order_type is OrderType.GTC and rng.random() < 0.3,
        expires_ns=Nanos(START + 400 * NANOS_PER_S) if order_type is OrderType.GTD else Nanos(0),
        course=rng.choice((Course.CONFIRM, Course.CONFIRM, Course.RETRY, Course.FAIL)),
    )


def other(rng: random.Random, number: int) -> Operation:
    account, rules = rng.choice(ACCOUNTS), rng.choice(MARKETS)
    size = Size(rng.randint(1, 30 * MICRO))
    given_up = tuple(m.market_id for m in rng.sample(OUTCOMES, rng.randint(1, 3)))
    choices: tuple[Operation, ...] = (
        CancelOrders(account=account, order_ids=tuple(ExchangeOrderId(f"o{n}") for n in range(number))),
        CancelEvery(account=account, market_id=rules.market_id),
        SplitPair(account=account, market_id=rules.market_id, size=size),
        MergePair(account=account, market_id=rules.market_id, size=size),
        ConvertPositions(account=account, market_ids=given_up, size=size),
        ConvertPositions(account=account, market_ids=given_up, size=size),
        Deposit(account=account, cash=Notional(rng.randint(-100 * MICRO, 50 * MICRO))),
        RedeemTokens(account=account, market_id=rules.market_id),
        ChangeTick(market_id=MARKETS[0].market_id, tick=Price(1_000)),
        ChangeTick(market_id=MARKETS[0].market_id, tick=Price(10_000)),
        Advance(),
    )
    return rng.choice(choices)


def hold_and_shut(rng: random.Random, number: int) -> tuple[Operation, ...]:
    """Let an order be held if the market is open, shut that, and open it again while or after it would be held."""
    rules, shut = rng.choice(MARKETS[:2]), rng.choice((CloseMarket, CloseMarket, PauseMarket))
    maker = msgspec.structs.replace(
        placement(rng, number), token_id=rules.yes, side=Side.SELL, price=Price(500_000), size=Size(10 * MICRO),
        budget=Notional(0), order_type=OrderType.GTC, is_post_only=False, expires_ns=Nanos(0),
    )  # fmt: skip
    taker = msgspec.structs.replace(
        maker, order_id=ExchangeOrderId(f"t{number}"), account=rng.choice(ACCOUNTS), side=Side.BUY
    )
    return maker, taker, shut(market_id=rules.market_id), ReopenMarket(market_id=rules.market_id)


def history(seed: int, length: int) -> Timed:
    """Make a log; a shorter one of the same seed is its prefix, so that a failing length shrinks."""
    rng, now = random.Random(seed), START
    log: Timed = [(now, operation) for operation in OPENING]
    for number in range(length):
        now = Nanos(now + rng.choice((0, 1, 3_000_000, 200_000_000, 700_000_000, 3_000_000_000, 30_000_000_000)))
        draw = rng.random()
        if draw > 0.94:
            for operation in hold_and_shut(rng, number):
                now = Nanos(now + rng.choice((0, 1, 100_000_000, 100_000_000, 4_000_000_000)))
                log.append((now, operation))
        elif draw < 0.03:
            market_id = rng.choice(MARKETS[:2]).market_id
            log.append((now, ResolveMarket(market_id=market_id, yes_payout=rng.choice(PAYOUTS))))
        else:
            log.append((now, other(rng, number) if draw < 0.2 else placement(rng, number)))
    return log


def ending(seed: int) -> Timed:
    """Resolve everything, one outcome of the event winning, and let everybody redeem, the adapter too."""
    rng = random.Random(seed)
    winner = rng.choice(OUTCOMES)
    log: Timed = [(LATER, ResolveMarket(market_id=m.market_id, yes_payout=rng.choice(PAYOUTS))) for m in MARKETS[:2]]
    log += [
        (LATER, ResolveMarket(market_id=m.market_id, yes_payout=Price(MICRO if m is winner else 0))) for m in OUTCOMES
    ]
    last = Nanos(LATER + 1_000 * NANOS_PER_S)
    holders = (*ACCOUNTS, adapter_of(EVENT))
    return log + [(last, RedeemTokens(account=a, market_id=m.market_id)) for a in holders for m in MARKETS]


HISTORIES = st.builds(history, st.integers(0, 2**32), st.integers(1, 60))


def new_engine() -> Engine:
    # Judges look at everything that ever happened, so nothing is forgotten.
    return Engine(EngineSettings(has_tick_return=True, crowd_kept_ns=10**18, clients_kept_ns=0, clients_kept_max=0))


def run(log: Timed) -> Engine:
    engine = new_engine()
    for now, operation in log:
        engine.apply(operation, now)
    return engine


def late_faults(log: Timed, engine: Engine) -> list[str]:
    """Check that nothing traded in a market that was over."""
    ends: dict[MarketId, Nanos] = {}
    for now, operation in log:
        if isinstance(operation, ResolveMarket):
            ends.setdefault(operation.market_id, now)
    return [f"{t.trade_id}: too late" for t in engine.trades if t.matched_ns > ends.get(t.market_id, t.matched_ns)]


def step_by_step(log: Timed) -> Iterator[tuple[Engine, list[str]]]:
    """Apply a log moment by moment, with what every single moment did wrong."""
    engine = new_engine()
    for now, operation in log:
        while (due := engine.next_due_ns()) is not None and due <= now:
            yield engine, _apply(engine, Advance(), due)
        yield engine, _apply(engine, operation, now)


def _apply(engine: Engine, operation: Operation, now: Nanos) -> list[str]:
    lines, seen = queues(engine), len(engine.trades)
    engine.apply(operation, now)
    return priority_faults(engine, lines, seen)


# --- properties ------------------------------------------------------------------------------------------------------


@given(HISTORIES)
@settings(max_examples=60, deadline=None)
def test_every_moment_of_every_life_passes_every_judge(log: Timed) -> None:
    for engine, faults in step_by_step(log):
        assert faults == []
        assert conservation_faults(engine) == []
        assert adapter_faults(engine) == []
        assert book_faults(engine) == []
        assert held_faults(engine) == []
    assert order_faults(engine) == []
    assert late_faults(log, engine) == []


@given(HISTORIES, st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_every_order_and_trade_ends_and_everything_is_paid_out(log: Timed, seed: int) -> None:
    engine = run(log + ending(seed))
    orders = [order for account in ACCOUNTS for order in engine.orders_of(account)]
    assert {order.state for order in orders} <= {OrderState.MATCHED, OrderState.CANCELED}
    assert {trade.settlement for trade in engine.trades} <= {Settlement.CONFIRMED, Settlement.FAILED}
    assert not any(engine._orders._reserved.values())
    assert conservation_faults(engine) == []
    # The event's one winner makes the adapter whole, and no token is left; halves of odd units stay locked.
    owned = engine.ledger.holdings()
    assert owned.get((adapter_of(EVENT), CASH), 0) == 0
    assert not any(amount for (_, asset), amount in owned.items() if asset != CASH)
    assert sum(engine.ledger.locked(m.market_id) for m in MARKETS) <= 2 * len(ACCOUNTS) * len(log)


@given(HISTORIES, st.integers(0, 120))
@settings(max_examples=40, deadline=None)
def test_a_log_cut_anywhere_even_within_a_hold_is_continued_to_the_same_end(log: Timed, cut: int) -> None:
    encoder, decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(list[tuple[Nanos, Operation]])
    told, again = new_engine(), new_engine()
    events = [told.apply(operation, now) for now, operation in log]
    kept = decoder.decode(encoder.encode(log[:cut]))
    assert [again.apply(operation, now) for now, operation in [*kept, *log[cut:]]] == events
    assert again.digest() == told.digest()


@given(HISTORIES)
@settings(max_examples=40, deadline=None)
def test_waking_the_engine_in_between_changes_nothing(log: Timed) -> None:
    *_, (engine, _) = step_by_step(log)
    assert engine.trades == run(log).trades
    assert engine.ledger.holdings() == run(log).ledger.holdings()


def test_the_lives_have_everything_in_them() -> None:
    """A property over lives in which nothing happens would prove nothing."""
    seen: dict[str, int] = {}
    for seed in range(60):
        log = history(seed, 60)
        engine = new_engine()
        for now, operation in log:
            early = engine.advance(now)
            held = [order for order in engine._orders if order.state is OrderState.DELAYED]
            reply, events = engine.apply(operation, now)
            if isinstance(operation, CloseMarket):
                over = [order for order in held if order.state is OrderState.CANCELED]
                seen["ended by a close"] = seen.get("ended by a close", 0) + len(over)
            for event in (*early, *events):
                change = getattr(event, "change", None)
                name = type(event).__name__ if change is None else f"{change}"
                seen[name] = seen.get(name, 0) + 1
            if isinstance(reply, Done):
                name = type(operation).__name__
                seen[name] = seen.get(name, 0) + 1
        for account in ACCOUNTS:
            for order in engine.orders_of(account):
                seen[order.reason] = seen.get(order.reason, 0) + 1
        for trade in engine.trades:
            seen[trade.settlement] = seen.get(trade.settlement, 0) + 1
    wanted = (
        "UNMATCHED", "UPDATE", "TickChanged", "MarketResolved", "ConvertPositions", "RedeemTokens", "MergePair",
        "KILLED", "NOT_ENOUGH_BALANCE", "GAME_STARTED", "MARKET_RESOLVED", "FAILED", "RETRYING",
        "CONFIRMED", "CloseMarket", "PauseMarket", "ReopenMarket", "MARKET_PAUSED", "ended by a close",
    )  # fmt: skip
    assert [name for name in wanted if not seen.get(name)] == []


# --- the judges can fail ---------------------------------------------------------------------------------------------


def converted() -> Engine:
    engine = run([(START, operation) for operation in OPENING])
    order = ConvertPositions(account=ACCOUNTS[0], market_ids=(OUTCOMES[0].market_id,), size=Size(5 * MICRO))
    assert engine.apply(order, START)[0] == Done()
    assert all_faults(engine) == []
    return engine


def test_the_judges_see_a_coin_and_a_token_from_nowhere() -> None:
    engine = converted()
    engine.ledger._add(ACCOUNTS[0], CASH, 1)
    assert conservation_faults(engine) != []
    engine = converted()
    engine.ledger._add(ACCOUNTS[0], OUTCOMES[1].yes, 1)
    assert conservation_faults(engine) != []


def test_the_judges_see_a_conversion_that_pays_too_much() -> None:
    engine = converted()
    adapter = adapter_of(EVENT)
    engine.ledger._add(ACCOUNTS[0], CASH, MICRO)
    engine.ledger._add(adapter, CASH, -MICRO)
    assert conservation_faults(engine) == []  # what one has the other owes
    assert adapter_faults(engine) != []


def test_the_judges_see_a_trade_after_the_end() -> None:
    rules, (ann, bob, _) = MARKETS[1], ACCOUNTS
    sell = PlaceOrder(
        account=ann, order_id=ExchangeOrderId("m"), token_id=rules.yes, side=Side.SELL, price=Price(500_000),
        size=Size(5 * MICRO),
    )  # fmt: skip
    buy = msgspec.structs.replace(sell, account=bob, order_id=ExchangeOrderId("t"), side=Side.BUY)
    log: Timed = [(START, operation) for operation in (*OPENING, sell, buy)]
    log.append((Nanos(START + NANOS_PER_S), Advance()))
    engine = run(log)
    assert len(engine.trades) == 1
    over = ResolveMarket(market_id=rules.market_id, yes_payout=Price(0))
    assert late_faults([*log, (Nanos(START + NANOS_PER_S), over)], engine) == []
    assert late_faults([*log, (START, over)], engine) != []


def test_the_judges_see_a_maker_passed_over() -> None:
    engine = run([(START, operation) for operation in OPENING])
    rules, (ann, bob, _) = OUTCOMES[0], ACCOUNTS
    for number in (1, 2):
        engine.apply(
            PlaceOrder(
                account=ann, order_id=ExchangeOrderId(f"m{number}"), token_id=rules.yes, side=Side.SELL,
                price=Price(500_000), size=Size(5 * MICRO),
            ),
            START,
        )  # fmt: skip
    level = engine._books[rules.market_id].asks._levels[500_000]
    first = level.pop(ExchangeOrderId("m1"))
    line = {(rules.market_id, False): [ExchangeOrderId("m1"), ExchangeOrderId("m2")]}
    level[ExchangeOrderId("m1")] = first
    engine.apply(
        PlaceOrder(
            account=bob, order_id=ExchangeOrderId("t"), token_id=rules.yes, side=Side.BUY, price=Price(500_000),
            size=Size(5 * MICRO),
        ),
        START,
    )  # fmt: skip
    assert priority_faults(engine, line, 0) != []


def test_the_judges_see_a_fok_filled_in_part_and_a_held_order_that_traded() -> None:
    engine = run([(START, operation) for operation in OPENING])
    rules, (ann, bob, _) = MARKETS[1], ACCOUNTS
    for account, side, order_type in ((ann, Side.SELL, OrderType.GTC), (bob, Side.SELL, OrderType.GTC)):
        engine.apply(
            PlaceOrder(
                account=account, order_id=ExchangeOrderId(f"m-{account}"), token_id=rules.yes, side=side,
                price=Price(500_000), size=Size(10 * MICRO), order_type=order_type,
            ),
            START,
        )  # fmt: skip
    engine.apply(
        PlaceOrder(
            account=bob, order_id=ExchangeOrderId("t"), token_id=rules.yes, side=Side.BUY, price=Price(500_000),
            budget=Notional(5 * MICRO), order_type=OrderType.FOK,
        ),
        START,
    )  # fmt: skip
    taker = engine._orders[ExchangeOrderId("t")]
    assert taker.state is OrderState.DELAYED
    assert order_faults(engine) == []
    taker.size_matched = MICRO
    assert len(order_faults(engine)) == 2
    taker.size_matched = 0
    book = engine._books[rules.market_id]
    book.rules = msgspec.structs.replace(rules, is_accepting_orders=False)
    assert all_faults(engine) == ["t: held in a closed market"]
