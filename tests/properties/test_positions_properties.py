"""The ledger over arbitrary histories: order and repetition do not matter, reversals leave no trace, money adds up."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tbot.core.market import TokenId
from tbot.core.messages import ExchangeOrderId, Fill, Role, Settlement, Side, TradeId
from tbot.core.positions import Ledger
from tbot.core.units import Nanos, Notional, Price, Size

START = Notional(10**9)
TOKENS = (TokenId("yes"), TokenId("no"))
MARKS = {token: Price(500_000) for token in TOKENS}
Status = tuple[TradeId, Settlement]
Event = Fill | Status


@st.composite
def some_fill(draw: st.DrawFn, key: tuple[int, int]) -> Fill:
    size = draw(st.integers(1, 50_000_000))
    return Fill(
        trade_id=TradeId(f"t{key[0]}"),
        exchange_order_id=ExchangeOrderId(f"o{key[1]}"),
        token_id=draw(st.sampled_from(TOKENS)),
        side=draw(st.sampled_from(Side)),
        size=Size(size),
        notional=Notional(draw(st.integers(0, size))),
        fee=Notional(draw(st.integers(0, 1000))),
        role=Role.MAKER,
        settlement=Settlement.MATCHED,
        exchange_ms=0,
        received_ns=Nanos(0),
    )


@st.composite
def some_fills(draw: st.DrawFn) -> list[Fill]:
    keys = draw(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), unique=True, max_size=12))
    return [draw(some_fill(key)) for key in keys]


@st.composite
def some_history(draw: st.DrawFn) -> list[Event]:
    """Fills once or twice, and settlement steps of their trades and of unknown ones, in any order."""
    fills = draw(some_fills())
    repeats = draw(st.lists(st.sampled_from(fills), max_size=4)) if fills else []
    trades = st.builds(TradeId, st.sampled_from([f"t{n}" for n in range(8)]))
    steps = draw(st.lists(st.tuples(trades, st.sampled_from(Settlement)), max_size=16))
    return draw(st.permutations([*fills, *repeats, *steps]))


def feed(ledger: Ledger, events: list[Event]) -> Ledger:
    for event in events:
        if isinstance(event, Fill):
            ledger.book(event)
        else:
            ledger.settle(*event)
    return ledger


def money(ledger: Ledger) -> tuple[object, ...]:
    """Give what must not depend on the order of arrival (cost and realized do: that is average cost)."""
    sizes = [(ledger.position(t).size, ledger.position(t).size_pending, ledger.settled(t)) for t in TOKENS]
    return (sizes, ledger.cash, ledger.fees, ledger.fills_count, ledger.pnl(MARKS))


def standing(ledger: Ledger, events: list[Event]) -> list[Fill]:
    """Pick the distinct fills that count, in order of booking."""
    fills = {(e.trade_id, e.exchange_order_id): e for e in reversed(events) if isinstance(e, Fill)}
    ordered = sorted(fills.values(), key=events.index)
    return [f for f in ordered if ledger.settlement_of(f.trade_id) is not Settlement.FAILED]


def flow(fill: Fill) -> int:
    return (fill.notional if fill.side is Side.SELL else -fill.notional) - fill.fee


@given(some_fills(), st.data())
def test_fills_shuffled_and_repeated_give_one_position_and_cash(fills: list[Fill], data: st.DataObject) -> None:
    shuffled: list[Event] = data.draw(st.permutations([*fills, *fills]))
    assert money(feed(Ledger(START), shuffled)) == money(feed(Ledger(START), list(fills)))


@given(some_history())
def test_money_is_the_sum_of_the_fills_that_stand(history: list[Event]) -> None:
    ledger = feed(Ledger(START), history)
    fills = standing(ledger, history)
    assert ledger.cash == START + sum(flow(f) for f in fills)
    assert ledger.fees == sum(f.fee for f in fills)
    assert ledger.fills_count == len(fills)
    for token in TOKENS:
        signed = [f.size if f.side is Side.BUY else -f.size for f in fills if f.token_id == token]
        assert ledger.position(token).size == sum(signed)


@given(some_history())
def test_reversal_is_as_if_the_fill_had_never_happened(history: list[Event]) -> None:
    ledger = feed(Ledger(START), history)
    stood = standing(ledger, history)
    never = feed(Ledger(START), [e for e in history if not isinstance(e, Fill) or e in stood])
    for token in TOKENS:
        assert ledger.position(token) == never.position(token)
    assert money(ledger) == money(never)


@given(some_history())
def test_cash_and_cost_are_conserved_to_the_micro_dollar(history: list[Event]) -> None:
    ledger = feed(Ledger(START), history)
    positions = [ledger.position(token) for token in TOKENS]
    assert ledger.cash == START + sum(p.realized - p.cost - p.fees for p in positions)
    for position in positions:
        assert position.cost * position.size >= 0
        assert position.size or position.cost == 0


@given(some_history(), some_history())
def test_restored_ledger_behaves_identically(before: list[Event], after: list[Event]) -> None:
    ledger = feed(Ledger(START), before)
    restored = Ledger.restore(ledger.state())
    assert restored.state() == ledger.state()
    assert feed(restored, after).state() == feed(ledger, after).state()
    assert money(restored) == money(ledger)
    assert [restored.position(t) for t in TOKENS] == [ledger.position(t) for t in TOKENS]


@given(some_history())
def test_settle_returns_exactly_the_fills_it_undoes(history: list[Event]) -> None:
    ledger, stood = Ledger(START), dict[tuple[str, str], Fill]()
    for event in history:
        if isinstance(event, Fill):
            if ledger.book(event):
                stood[event.trade_id, event.exchange_order_id] = event
        else:
            for undone in ledger.settle(*event):
                del stood[undone.trade_id, undone.exchange_order_id]
    assert list(stood.values()) == standing(ledger, history)


@given(some_fill((9, 0)))
def test_the_judge_sees_a_fill_booked_twice(fill: Fill) -> None:
    history: list[Event] = [fill]
    ledger = feed(Ledger(START), history)
    ledger.book(msgspec.structs.replace(fill, trade_id=TradeId("planted")))
    assert ledger.cash != START + flow(fill) or flow(fill) == 0
    assert ledger.position(fill.token_id).size != (fill.size if fill.side is Side.BUY else -fill.size)
