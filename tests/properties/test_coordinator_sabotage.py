"""Every judge of the coordinator's long days can fail: each planted bug must be seen by one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tbot.core import decide as decide_module
from tbot.core import reconcile, risk
from tbot.core.account import Account
from tbot.core.coordinator import Coordinator
from tbot.core.messages import Canceled, Fill, TradeId
from tbot.core.positions import Ledger
from tbot.core.units import Nanos, Notional
from tests.core.coordinators import Desk
from tests.properties.trading_walk import walk

Patch = pytest.MonkeyPatch
SEEDS = 12
SLOW = pytest.mark.slow  # takes several days to show


def drop_a_fill(patch: Patch) -> None:
    book = Ledger.book
    patch.setattr(Ledger, "book", lambda ledger, fill: fill.trade_id != "t2" and book(ledger, fill))


def book_a_fill_twice(patch: Patch) -> None:
    book = Ledger.book

    def twice(ledger: Ledger, fill: Fill) -> bool:
        book(ledger, msgspec.structs.replace(fill, trade_id=TradeId(f"again {fill.trade_id}")))
        return book(ledger, fill)

    patch.setattr(Ledger, "book", twice)


def charge_the_wrong_fee(patch: Patch) -> None:
    book = Ledger.book
    wrong: Callable[[Ledger, Fill], bool] = lambda ledger, fill: book(  # noqa: E731
        ledger, msgspec.structs.replace(fill, fee=Notional(-20 * fill.fee))
    )
    patch.setattr(Ledger, "book", wrong)


def forget_a_reversal(patch: Patch) -> None:
    patch.setattr(Ledger, "_reverse", lambda *_: None)


def free_the_room_with_the_cancel(patch: Patch) -> None:
    canceled = Coordinator._canceled

    def hasty(core: Coordinator, message: Canceled, now_ns: Nanos) -> None:
        canceled(core, message, now_ns)
        order = core.orders.of_exchange(message.exchange_order_id)
        if order is not None:
            order.has_final_word = True

    patch.setattr(Coordinator, "_canceled", hasty)


def lose_a_journal_row(patch: Patch) -> None:
    absorb = Desk.absorb

    def forgetful(desk: Desk, message: Any) -> None:
        absorb(desk, message)
        if isinstance(message, Fill):
            desk.journal.pop()

    patch.setattr(Desk, "absorb", forgetful)


def decide_with_a_side_effect(patch: Patch) -> None:
    refuse = Account.refuse

    def durable(account: Account, limit: str) -> None:
        refuse(account, limit)
        account.count(limit)

    patch.setattr(Account, "refuse", durable)


def ignore_own_orders(patch: Patch) -> None:
    patch.setattr(risk, "_self_cross", lambda *_: None)


def ignore_the_limits(patch: Patch) -> None:
    patch.setattr(risk, "_buy_room", lambda *_: None)


def sell_what_has_not_settled(patch: Patch) -> None:
    patch.setattr(Ledger, "settled", lambda ledger, token: ledger.position(token).size)


def give_up_at_once(patch: Patch) -> None:
    patch.setattr(reconcile, "ABSENT_TWICE", 1)
    patch.setattr(reconcile, "LANDING_HORIZON_NS", 0)


def skip_the_cancels(patch: Patch) -> None:
    patch.setattr(decide_module, "_cancels", lambda *_: [])


def disbelieve_reports(patch: Patch) -> None:
    patch.setattr("tbot.core.coordinator.corrections", lambda *_: ())


def ask_for_nothing(patch: Patch) -> None:
    patch.setattr(decide_module, "_is_doubtful", lambda *_: False)


SABOTAGE = [
    drop_a_fill,
    book_a_fill_twice,
    charge_the_wrong_fee,
    pytest.param(forget_a_reversal, marks=SLOW),
    pytest.param(free_the_room_with_the_cancel, marks=SLOW),
    lose_a_journal_row,
    decide_with_a_side_effect,
    pytest.param(ignore_own_orders, marks=SLOW),
    pytest.param(ignore_the_limits, marks=SLOW),
    sell_what_has_not_settled,
    give_up_at_once,
    pytest.param(skip_the_cancels, marks=SLOW),
    disbelieve_reports,
    ask_for_nothing,
]


def _name(plant: Callable[[Patch], None]) -> str:
    return plant.__name__


@pytest.mark.parametrize("plant", SABOTAGE, ids=_name)
def test_planted_bug_is_seen(plant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError):  # noqa: PT012 - which day shows it is of no interest
        for seed in range(SEEDS):
            walk(seed, 1_200)
