"""A moment in one plain line."""

from __future__ import annotations

import msgspec
from hypothesis import given

from tbot.core.messages import Side
from tbot.ui.line import line, progress
from tbot.ui.status import status_of
from tests.ui.moments import NOW_NS, RUN, held, is_printable, market, order, snapshot, usual, view, words

RAIN = market()


def test_a_line_says_what_matters() -> None:
    orders = [order(RAIN.yes, Side.BUY, 460_000), order(RAIN.no, Side.BUY, 500_000)]
    now = snapshot(orders=orders, positions=[held(RAIN.yes, 12)], counts={"fills_buy": 4, "fills_sell": 3})
    assert line(status_of(now, {RAIN.market_id: view(RAIN)}, [RAIN], run=RUN, now_ns=NOW_NS)) == (
        "00:10 / 02:00  TRADING  feed live  rain bid 0.47 ask 0.49 own 0.46/0.50 12 YES  fills 4 buy 3 sell  "
        "pnl +1.23 cash 987.12  restarts 0 reconnects 0 faults 0"
    )


def test_a_stale_book_and_a_halt_are_told() -> None:
    now = snapshot(mode="HALTED", halt_reason="loss limit")
    text = line(
        status_of(now, {RAIN.market_id: view(RAIN, is_stale=True, age_ms=7000)}, [RAIN], run=RUN, now_ns=NOW_NS)
    )
    assert "HALTED (loss limit)" in text
    assert "own -/- stale 7.0 s" in text


def test_what_the_exchange_does_not_take_is_told() -> None:
    restarting = snapshot(exchange_takes="nothing (restarting)")
    assert "  TRADING (exchange takes nothing (restarting))  feed" in line(
        status_of(restarting, {}, [], run=RUN, now_ns=NOW_NS)
    )
    both = snapshot(mode="HALTED", halt_reason="by hand", exchange_takes="cancels only (cancel_only)")
    text = line(status_of(both, {}, [], run=RUN, now_ns=NOW_NS))
    assert "  HALTED (by hand; exchange takes cancels only (cancel_only))  feed" in text


def test_markets_beyond_the_third_are_counted() -> None:
    assert "and 2 more" in line(usual(count=5))
    assert "more" not in line(usual(count=3))


def test_progress_is_in_simulated_time() -> None:
    status = msgspec.structs.replace(usual(), elapsed_s=1390.0, duration_s=3600.0)
    assert progress(status) == "simulated 00:23:10 of 01:00:00 (38 %)  fills 7  pnl +1.23"


def test_progress_never_passes_the_end() -> None:
    assert "(100 %)" in progress(msgspec.structs.replace(usual(), elapsed_s=130.0))


@given(words, words)
def test_a_line_is_one_line(slug: str, reason: str) -> None:
    now = snapshot(mode="HALTED", halt_reason=reason)
    assert is_printable(line(status_of(now, {}, [market(slug=slug)], run=RUN, now_ns=NOW_NS)))
