"""Random order streams against the engine: conservation, books, targets, priority, replay; and judges that can fail."""

from __future__ import annotations

import random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import ExchangeOrderId, OrderState, OrderType, Settlement, Side
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Notional, Price, Size
from tbot.exchanges.simulated.events import BookShown, LevelsChanged, MakerLeg, MatchKind, OrderView, Trade
from tbot.exchanges.simulated.ledger import CASH
from tbot.exchanges.simulated.matching import Engine
from tbot.exchanges.simulated.operations import (
    Account,
    Advance,
    CancelEvery,
    CancelOrders,
    ChangeTick,
    CloseMarket,
    Course,
    Deposit,
    MarketRules,
    MergePair,
    OpenMarket,
    Operation,
    PauseMarket,
    Placed,
    PlaceOrder,
    Refused,
    ReopenMarket,
    SplitPair,
)
from tbot.exchanges.simulated.orderbook import DUST

START = Nanos(1_790_000_000 * NANOS_PER_S)
MARKETS = (
    MarketRules(
        market_id=MarketId("rain"), slug="rain", yes=TokenId("rain-yes"), no=TokenId("rain-no"), fee_rate_micro=40_000
    ),
    MarketRules(
        market_id=MarketId("snow"),
        slug="snow",
        yes=TokenId("snow-yes"),
        no=TokenId("snow-no"),
        tick=Price(1_000),
        fee_rate_micro=70_000,
        fee_exponent=2,
    ),
)
ACCOUNTS = (Account("ann"), Account("bob"), Account("eve"))
TOKENS = tuple(t for m in MARKETS for t in (m.yes, m.no))
OPENING: tuple[Operation, ...] = (
    *(OpenMarket(rules=m) for m in MARKETS),
    *(Deposit(account=a, cash=Notional(200 * MICRO)) for a in ACCOUNTS),
    *(SplitPair(account=a, market_id=m.market_id, size=Size(40 * MICRO)) for a in ACCOUNTS[:2] for m in MARKETS),
)

Timed = list[tuple[Nanos, Operation]]


def price(rng: random.Random, token: TokenId) -> Price:
    tick = next(m.tick for m in MARKETS if token in (m.yes, m.no))
    return Price(rng.randint(38, 62) * 10_000 + (rng.choice((0, 0, 3_000)) if tick == 1_000 else 0))


def placement(rng: random.Random, number: int) -> PlaceOrder:
    token, side = rng.choice(TOKENS), rng.choice(tuple(Side))
    order_type = rng.choice((OrderType.GTC, OrderType.GTC, OrderType.GTC, *OrderType))
    has_budget = side is Side.BUY and order_type in (OrderType.FAK, OrderType.FOK)
    lots = rng.randint(500, 4_000) * 10_000
    return PlaceOrder(
        account=rng.choice(ACCOUNTS),
        order_id=ExchangeOrderId(f"o{rng.randint(max(0, number - 1), number)}"),  # some are duplicates
        token_id=token,
        side=side,
        price=price(rng, token),
        size=Size(0 if has_budget else lots),
        budget=Notional(lots // 20_000 * 10_000 if has_budget else 0),
        order_type=order_type,
        is_post_only=order_type is OrderType.GTC and rng.random() < 0.4,
        expires_ns=Nanos(START + 400 * NANOS_PER_S) if order_type is OrderType.GTD else Nanos(0),
        course=rng.choice(tuple(Course)),
    )


def other(rng: random.Random, number: int) -> Operation:
    account, market = rng.choice(ACCOUNTS), rng.choice(MARKETS).market_id
    size = Size(rng.randint(1, 60 * MICRO))
    ids = tuple(ExchangeOrderId(f"o{rng.randint(0, number)}") for _ in range(rng.randint(0, 4)))
    choices: tuple[Operation, ...] = (
        CancelOrders(account=account, order_ids=ids),
        CancelEvery(account=account, market_id=market),
        SplitPair(account=account, market_id=market, size=size),
        MergePair(account=account, market_id=market, size=size),
        Deposit(account=account, cash=Notional(rng.randint(-100 * MICRO, 50 * MICRO))),
        Advance(),
        ChangeTick(market_id=MARKETS[0].market_id, tick=Price(1_000)),
        PauseMarket(market_id=market),
        CloseMarket(market_id=market),
        *[ReopenMarket(market_id=each.market_id) for each in MARKETS],
    )
    return rng.choice(choices)


def history(seed: int, length: int) -> Timed:
    """Make a log; a shorter one of the same seed is its prefix, so that a failing length shrinks."""
    rng, now = random.Random(seed), START
    log: Timed = [(now, operation) for operation in OPENING]
    for number in range(length):
        now = Nanos(now + rng.choice((0, 1, 3_000_000, 700_000_000, 3_000_000_000, 3_000_000_000, 90_000_000_000)))
        log.append((now, other(rng, number) if rng.random() < 0.12 else placement(rng, number)))
    return log


def settling(operation: Operation) -> Operation:
    """Let every trade become final: what is bound in one that never does cannot be redeemed."""
    if isinstance(operation, PlaceOrder) and operation.course is Course.STUCK:
        return msgspec.structs.replace(operation, course=Course.RETRY)
    return operation


HISTORIES = st.builds(history, st.integers(0, 2**32), st.integers(1, 60))


def run(log: Timed) -> Engine:
    engine = Engine()
    for now, operation in log:
        engine.apply(operation, now)
    return engine


# --- the judges: each returns what it finds wrong ---------------------------------------------------------------------


def conservation_faults(engine: Engine) -> list[str]:
    owned = engine.ledger.holdings()
    faults = [f"negative {holding}" for holding, amount in owned.items() if amount < 0]
    locked = 0
    for m in MARKETS:
        totals = [sum(v for (_, asset), v in owned.items() if asset == token) for token in (m.yes, m.no)]
        if {*totals} != {engine.ledger.locked(m.market_id)}:
            faults.append(f"{m.slug}: tokens {totals}, locked {engine.ledger.locked(m.market_id)}")
        locked += engine.ledger.locked(m.market_id)
    cash = sum(v for (_, asset), v in owned.items() if asset == CASH)
    if cash + locked + engine.ledger.fees != engine.ledger.deposits:
        faults.append(f"cash {cash} + locked {locked} + fees {engine.ledger.fees} != {engine.ledger.deposits}")
    held = [(account, asset) for account in ACCOUNTS for asset in (CASH, *TOKENS)]
    return faults + [f"{account} owes {asset}" for account, asset in held if engine.available(account, asset) < 0]


def audit_faults(log: Timed, engine: Engine) -> list[str]:
    """Recompute every balance from deposits, splits and the raw trade log alone."""
    expected = {(account, asset): 0 for account in ACCOUNTS for asset in (CASH, *TOKENS)}
    replayed = Engine()
    for now, operation in log:
        if isinstance(replayed.apply(operation, now)[0], Refused):
            continue
        if isinstance(operation, Deposit):
            expected[operation.account, CASH] += operation.cash
        elif isinstance(operation, SplitPair | MergePair):
            sign = 1 if isinstance(operation, SplitPair) else -1
            market = next(m for m in MARKETS if m.market_id == operation.market_id)
            expected[operation.account, CASH] -= sign * operation.size
            for token in (market.yes, market.no):
                expected[operation.account, token] += sign * operation.size
    for trade in engine.trades:
        if trade.settlement is not Settlement.FAILED:
            _book_trade(expected, trade)
    owned = engine.ledger.holdings()
    return [f"{h}: audit {v}, exchange {owned.get(h, 0)}" for h, v in expected.items() if owned.get(h, 0) != v]


def _book_trade(expected: dict[tuple[Account, TokenId], int], trade: Trade) -> None:
    sides = [(trade.taker_account, trade.token_id, trade.side, trade.size, trade.notional, trade.fee)]
    sides += [(x.account, x.token_id, x.side, x.size, x.notional, Notional(0)) for x in trade.legs]
    for account, token, side, size, notional, fee in sides:
        sign = 1 if side is Side.BUY else -1
        expected[account, token] += sign * size
        expected[account, CASH] -= sign * notional + fee


def trade_faults(engine: Engine) -> list[str]:
    faults = []
    for trade in engine.trades:
        taker = engine.order(trade.taker_order_id)
        assert taker is not None
        prices = [_price_of_taker(leg, trade) for leg in trade.legs]
        if max(prices) > taker.price if taker.side is Side.BUY else min(prices) < taker.price:
            faults.append(f"{trade.trade_id}: beyond the taker's limit")
        if trade.price != sum(p * leg.size for p, leg in zip(prices, trade.legs, strict=True)) // trade.size:
            faults.append(f"{trade.trade_id}: {trade.price} is not the average of {prices}")
        # Money by shares is what the chain tells; the roundings of each leg come to less than a unit.
        if abs(trade.notional - trade.price * trade.size // MICRO) > trade.size // MICRO + len(trade.legs) + 1:
            faults.append(f"{trade.trade_id}: {trade.notional} is not worth {trade.size} at {trade.price}")
        if trade.size != sum(leg.size for leg in trade.legs):
            faults.append(f"{trade.trade_id}: legs do not sum")
        faults += [f"{trade.trade_id}: {leg}" for leg in trade.legs if not _is_leg_fair(trade, leg.order_id, engine)]
    return faults


def _price_of_taker(leg: MakerLeg, trade: Trade) -> int:
    return leg.price if leg.token_id == trade.token_id else MICRO - leg.price


def _is_leg_fair(trade: Trade, maker_id: ExchangeOrderId, engine: Engine) -> bool:
    leg = next(x for x in trade.legs if x.order_id == maker_id)
    maker = engine.order(maker_id)
    assert maker is not None
    same = leg.token_id == trade.token_id
    kind = MatchKind.NORMAL if same else (MatchKind.MINT if trade.side is Side.BUY else MatchKind.MERGE)
    pair = leg.notional if same else leg.size - leg.notional
    told = (leg.kind, leg.price, pair) == (kind, maker.price, leg.taker_notional)
    # As the contract has it: a fill in what the maker gives, and floor(fill x takerAmount / makerAmount) in return.
    money, shares = maker.size * maker.price // MICRO, maker.size
    if maker.side is Side.BUY:
        return told and leg.size == leg.notional * shares // money
    return told and leg.notional == leg.size * money // shares


def order_faults(engine: Engine) -> list[str]:
    faults = []
    for number in range(60):
        order = engine.order(ExchangeOrderId(f"o{number}"))
        if order is None:
            continue
        if order.size and order.size_matched > order.size:
            faults.append(f"{order.order_id}: filled beyond its size")
        if order.state is OrderState.LIVE and order.size - order.size_matched < DUST:
            faults.append(f"{order.order_id}: rests with dust")
        spent = sum(t.notional for t in engine.trades if t.taker_order_id == order.order_id)
        if _given_as_maker(engine, order) > (
            order.size * order.price // MICRO if order.side is Side.BUY else order.size
        ):
            faults.append(f"{order.order_id}: gave more than it signed")
        if order.budget and spent > order.budget:
            faults.append(f"{order.order_id}: spent beyond its budget")
        if order.order_type is OrderType.FOK and order.state is not OrderState.MATCHED:
            faults.append(f"{order.order_id}: FOK not filled whole")
        if order.order_type in (OrderType.FAK, OrderType.FOK) and order.state is OrderState.LIVE:
            faults.append(f"{order.order_id}: immediate order rests")
        if order.is_post_only and any(t.taker_order_id == order.order_id for t in engine.trades):
            faults.append(f"{order.order_id}: post-only order took")
    return faults


def _given_as_maker(engine: Engine, order: OrderView) -> int:
    legs = [leg for trade in engine.trades for leg in trade.legs if leg.order_id == order.order_id]
    return sum(leg.notional if order.side is Side.BUY else leg.size for leg in legs)


def book_faults(engine: Engine) -> list[str]:
    faults = []
    for m in MARKETS:
        bid, ask = engine.top(m.market_id)
        if bid is not None and ask is not None and bid >= ask:
            faults.append(f"{m.slug}: crossed {bid} {ask}")
        yes, no = engine.book(m.yes), engine.book(m.no)
        mirrored = [(MICRO - level.price, level.size) for level in no.asks]
        if mirrored != [(level.price, level.size) for level in yes.bids]:
            faults.append(f"{m.slug}: mirror")
        resting = sum(o.size - o.size_matched for a in ACCOUNTS for o in engine.open_orders(a) if _is_of(o.token_id, m))
        if resting != sum(level.size for level in (*yes.bids, *yes.asks)):
            faults.append(f"{m.slug}: levels are not the sum of open orders")
    return faults


def _is_of(token: TokenId, market: MarketRules) -> bool:
    return token in (market.yes, market.no)


def all_faults(log: Timed, engine: Engine) -> list[str]:
    return [
        *conservation_faults(engine),
        *audit_faults(log, engine),
        *trade_faults(engine),
        *order_faults(engine),
        *book_faults(engine),
    ]


# --- properties ------------------------------------------------------------------------------------------------------


@given(HISTORIES)
@settings(max_examples=150, deadline=None)
def test_every_history_passes_every_judge(log: Timed) -> None:
    engine = run(log[: len(OPENING)])
    for now, operation in log[len(OPENING) :]:
        engine.apply(operation, now)
        assert conservation_faults(engine) == []
        assert book_faults(engine) == []
    assert all_faults(log, engine) == []


@given(HISTORIES)
@settings(max_examples=60, deadline=None)
def test_a_market_that_takes_no_orders_takes_none_and_a_closed_one_keeps_none(log: Timed) -> None:
    engine = Engine()
    for now, operation in log:
        reply, _ = engine.apply(operation, now)
        if isinstance(operation, PlaceOrder):
            (rules,) = [engine.rules(each.market_id) for each in MARKETS if operation.token_id in each.tokens]
            assert rules.is_accepting_orders or isinstance(reply, Refused)
        elif isinstance(operation, CloseMarket):
            tokens = engine.rules(operation.market_id).tokens
            assert [
                each for account in ACCOUNTS for each in engine.open_orders(account) if each.token_id in tokens
            ] == []


@given(HISTORIES, st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_a_replayed_log_gives_the_same_engine_and_the_same_events(log: Timed, cut: int) -> None:
    encoder, decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(list[tuple[Nanos, Operation]])
    original, rebuilt = Engine(), Engine()
    told = [original.apply(operation, now) for now, operation in log]
    again = [rebuilt.apply(operation, now) for now, operation in decoder.decode(encoder.encode(log))]
    assert rebuilt.digest() == original.digest()
    assert again == told
    assert run(log[:cut]).digest() == run(log[:cut]).digest()


@given(HISTORIES)
@settings(max_examples=60, deadline=None)
def test_everything_settles_once_time_has_passed(log: Timed) -> None:
    log = [(now, settling(operation)) for now, operation in log]
    engine = run(log)
    engine.advance(Nanos(log[-1][0] + 1000 * NANOS_PER_S))
    ends = {Settlement.CONFIRMED, Settlement.FAILED}
    assert all(trade.settlement in ends for trade in engine.trades)
    assert all(engine.ledger.pending(a, asset) == 0 for a in ACCOUNTS for asset in (CASH, *TOKENS))
    assert all(o.order_type is not OrderType.GTD for a in ACCOUNTS for o in engine.open_orders(a))
    assert all_faults(log, engine) == []


@given(HISTORIES)
@settings(max_examples=60, deadline=None)
def test_level_changes_alone_rebuild_both_books(log: Timed) -> None:
    engine = run(log[: len(OPENING)])
    levels: dict[tuple[TokenId, Side, Price], Size] = {}
    newest_ms: dict[MarketId, int] = {}
    for now, operation in log[len(OPENING) :]:
        last: dict[MarketId, LevelsChanged] = {}
        for event in engine.apply(operation, now)[1]:
            if isinstance(event, LevelsChanged):
                assert event.exchange_ms >= newest_ms.get(event.market_id, 0)
                newest_ms[event.market_id] = event.exchange_ms
                levels |= {(c.token_id, c.side, c.price): c.size for c in event.changes}
                last[event.market_id] = event
            elif isinstance(event, BookShown):
                assert event.book.exchange_ms >= newest_ms.get(event.market_id, 0)
        for market_id, event in last.items():
            assert {(c.token_id, c.best_bid, c.best_ask) for c in event.changes} == _tops(engine, market_id)
    for token in TOKENS:
        book = engine.book(token)
        shown = {(Side.BUY, x.price): x.size for x in book.bids} | {(Side.SELL, x.price): x.size for x in book.asks}
        assert {(s, p): size for (t, s, p), size in levels.items() if t == token and size} == shown


def _tops(engine: Engine, market_id: MarketId) -> set[tuple[TokenId, Price | None, Price | None]]:
    rules = engine.rules(market_id)
    books = [engine.book(token) for token in (rules.yes, rules.no)]
    return {(b.token_id, b.bids[0].price if b.bids else None, b.asks[0].price if b.asks else None) for b in books}


@given(st.lists(st.tuples(st.integers(40, 50), st.integers(5, 20), st.booleans()), min_size=2, max_size=8))
@settings(max_examples=50, deadline=None)
def test_makers_are_met_by_price_and_then_by_time_in_both_forms(makers: list[tuple[int, int, bool]]) -> None:
    engine = run([(START, operation) for operation in OPENING])
    rain = MARKETS[0]
    placed: list[tuple[int, int]] = []
    for number, (cents, shares, as_no) in enumerate(makers):
        order = PlaceOrder(
            account=ACCOUNTS[0],
            order_id=ExchangeOrderId(f"m{number}"),
            token_id=rain.no if as_no else rain.yes,
            side=Side.BUY if as_no else Side.SELL,
            price=Price((100 - cents if as_no else cents) * 10_000),
            size=Size(shares * MICRO),
        )
        if isinstance(engine.apply(order, START)[0], Placed):
            placed.append((cents, number))
    engine.apply(
        PlaceOrder(
            account=ACCOUNTS[1],
            order_id=ExchangeOrderId("taker"),
            token_id=rain.yes,
            side=Side.BUY,
            price=Price(500_000),
            budget=Notional(60 * MICRO),
            order_type=OrderType.FAK,
        ),
        START,
    )
    met = [leg.order_id for trade in engine.trades for leg in trade.legs]
    assert met == [f"m{number}" for _, number in sorted(placed)][: len(met)]


# --- the judges can fail ---------------------------------------------------------------------------------------------


def traded() -> tuple[Timed, Engine]:
    rain, (ann, bob, _) = MARKETS[0], ACCOUNTS
    sell = PlaceOrder(
        account=ann, order_id=ExchangeOrderId("o1"), token_id=rain.yes, side=Side.SELL, price=Price(500_000),
        size=Size(20 * MICRO),
    )  # fmt: skip
    buy = PlaceOrder(
        account=bob, order_id=ExchangeOrderId("o2"), token_id=rain.yes, side=Side.BUY, price=Price(520_000),
        size=Size(10 * MICRO),
    )  # fmt: skip
    log: Timed = [(START, operation) for operation in (*OPENING, sell, buy)]
    engine = run(log)
    assert len(engine.trades) == 1
    assert all_faults(log, engine) == []
    return log, engine


def test_the_judges_see_a_coin_from_nowhere() -> None:
    _, engine = traded()
    engine.ledger._add(ACCOUNTS[0], CASH, 1)
    assert conservation_faults(engine) != []


def test_the_judges_see_a_trade_booked_twice() -> None:
    log, engine = traded()
    engine.ledger.book(engine.trades[0])
    assert conservation_faults(engine) == []  # both sides doubled: only the audit of the trade log can tell
    assert audit_faults(log, engine) != []


def test_the_judges_see_a_wrong_fee() -> None:
    log, engine = traded()
    trade = engine.trades[0]
    engine._trades.replace(msgspec.structs.replace(trade, fee=Notional(trade.fee + 10)))
    assert audit_faults(log, engine) != []


def test_the_judges_see_a_price_beyond_the_limit_and_an_overfill() -> None:
    _, engine = traded()
    trade = engine.trades[0]
    engine._trades.replace(msgspec.structs.replace(trade, price=Price(530_000)))
    taker = engine._orders.get(ExchangeOrderId("o2"))
    assert taker is not None
    taker.size_matched += MICRO
    assert len(trade_faults(engine)) >= 2
    assert order_faults(engine) != []


def test_the_judges_see_a_wrong_level() -> None:
    _, engine = traded()
    engine._books[MARKETS[0].market_id].asks._totals[500_000] += 1
    assert book_faults(engine) != []


def test_the_judges_see_dust_that_rests() -> None:
    _, engine = traded()
    maker = engine._orders.get(ExchangeOrderId("o1"))
    assert maker is not None
    maker.size_matched = maker.place.size - DUST + 1
    assert order_faults(engine) != []
