"""Storms: random orders of many traders under every fault of the catalogue, judged at each step; and planted bugs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from tbot.core.market import TokenId
from tbot.core.messages import OrderType, Settlement
from tbot.core.units import Size
from tbot.exchanges.simulated import checks, matching, planning, turn
from tbot.exchanges.simulated.fault_catalogue import Fault
from tbot.exchanges.simulated.ledger import Ledger
from tbot.exchanges.simulated.matching import Engine
from tbot.exchanges.simulated.planning import MatchPlan
from tests.properties.storm import storm

SEEDS = range(6)
STEPS = 250


@pytest.mark.slow
def test_storms_pass_every_judge_and_have_everything_in_them() -> None:
    struck, seen = Counter[str](), Counter[str]()
    for seed in SEEDS:
        made = storm(seed, STEPS)
        assert made.faults == [], f"seed {seed}"
        struck.update(made.exchange.faults.faults_injected)
        seen.update(made.counts)
    assert [fault for fault in Fault if not struck[fault]] == []
    wanted = (
        *(Settlement.CONFIRMED, Settlement.FAILED, Settlement.RETRYING),
        *(
            "Accepted",
            "Rejected",
            "OutcomeUnknown",
            "/orders 200",
            "ConvertPositions True",
            "MergePair True",
            "resolved",
        ),
    )
    assert [name for name in wanted if not seen[name]] == []
    assert sum(seen[trade] for trade in Settlement) > 100


# --- planted bugs ----------------------------------------------------------------------------------------------------


def keep_the_fee_of_a_failed_trade(patch: pytest.MonkeyPatch) -> None:
    honest = Ledger.reverse

    def reverse(ledger: Ledger, trade: Any) -> None:
        honest(ledger, trade)
        ledger.fees += trade.fee

    patch.setattr(Ledger, "reverse", reverse)


def forget_what_a_mint_locks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("tbot.exchanges.simulated.ledger.locked_by", lambda _: Size(0))


def serve_the_last_comer_first(patch: pytest.MonkeyPatch) -> None:
    def makers(book: Any, *, is_bid: bool, price_yes: int) -> Iterator[Any]:
        side = book.side(is_bid=not is_bid)
        for price in side.prices():
            if price > price_yes if is_bid else price < price_yes:
                return
            yield from reversed(list(side.queue(price)))

    patch.setattr(planning, "_makers", makers)


def fill_fok_in_part(patch: pytest.MonkeyPatch) -> None:
    honest = planning.plan_match

    def plan(order: Any, *where: Any) -> MatchPlan:
        made = honest(order, *where)
        is_partial = order.order_type is OrderType.FOK and made.crosses
        return msgspec.structs.replace(made, is_complete=True) if is_partial else made

    patch.setattr(matching, "plan_match", plan)


def let_post_only_take(patch: pytest.MonkeyPatch) -> None:
    honest = checks.refusal

    def refusal(candidate: Any) -> str:
        order = msgspec.structs.replace(candidate.order, is_post_only=False)
        return honest(msgspec.structs.replace(candidate, order=order))

    patch.setattr(f"{matching.__name__}.refusal", refusal)


def overlook_makers_now_and_then(patch: pytest.MonkeyPatch) -> None:
    honest, calls = planning.plan_match, Counter[str]()

    def plan(order: Any, *where: Any) -> MatchPlan:
        calls["plan"] += 1
        made = honest(order, *where)
        return made if calls["plan"] % 7 else msgspec.structs.replace(made, matches=(), is_complete=False)

    patch.setattr(matching, "plan_match", plan)


def show_the_other_outcome_wrongly(patch: pytest.MonkeyPatch) -> None:
    honest = turn.view_of

    def view_of(book: Any, token_id: TokenId) -> Any:
        view = honest(book, token_id)
        return view if token_id == book.rules.yes else msgspec.structs.replace(view, asks=view.asks[1:])

    patch.setattr(f"{matching.__name__}.view_of", view_of)


def never_release_what_is_held(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Engine, "_release", lambda engine, order, turn: None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bug", "words"),
    [
        (keep_the_fee_of_a_failed_trade, "+ fees"),
        (forget_what_a_mint_locks, "locked"),
        (serve_the_last_comer_first, "in line"),
        (fill_fok_in_part, "FOK filled in part"),
        (let_post_only_take, "post-only order took"),
        (overlook_makers_now_and_then, "crossed"),
        (show_the_other_outcome_wrongly, "mirror"),
        (never_release_what_is_held, "is still DELAYED"),
    ],
)
def test_a_planted_bug_is_seen(
    monkeypatch: pytest.MonkeyPatch, bug: Callable[[pytest.MonkeyPatch], None], words: str
) -> None:
    bug(monkeypatch)
    seen: list[str] = []
    for seed in SEEDS:
        seen = storm(seed, STEPS).faults
        if seen:
            break
    assert any(words in fault for fault in seen), seen[:3]
