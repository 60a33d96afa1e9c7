"""Positions, trades, activity and approvals as Polymarket's Data API spells them.

Amounts are JSON numbers in shares and dollars, moments whole Unix seconds, what is unknown an empty text; fields as the
official client polymarket-client 0.14.0 reads them (2026-11-26). How production takes a cost apart is documented by
field names only. Read here: `entry_*` is of what is held, `total_*` of everything ever acquired, and percentages are of
`total_cost_usdc`.
"""

from __future__ import annotations

import msgspec

from tbot.core.market import TokenId
from tbot.core.messages import Side
from tbot.core.units import MICRO, NANOS_PER_S
from tbot.exchanges.simulated.catalog import EventListing, Listing, opposite
from tbot.exchanges.simulated.portfolio import Fill, Movement, Stake
from tbot.exchanges.simulated.wire_books import transaction_hash
from tbot.exchanges.simulated.wire_markets import OUTCOMES, json_number

NO_OUTCOME = 999
"""Outcome index of a row that is of no single outcome."""

OPEN, REDEEMABLE, CLOSED = "OPEN", "REDEEMABLE", "CLOSED"


class WirePosition(msgspec.Struct, frozen=True, kw_only=True):
    """What a wallet has or had of one outcome."""

    proxy_wallet: str
    token_id: str
    condition_id: str
    current_size: float
    avg_price: float
    entry_cost_usdc: float
    entry_fees_usdc: float
    total_cost_usdc: float
    current_price: float
    current_value: float
    total_size: float
    realized_pnl: float
    unrealized_pnl: float
    total_pnl: float
    percent_pnl: float
    percent_realized_pnl: float
    status: str
    redeemable: bool
    mergeable: bool
    negative_risk: bool
    archived: bool = False
    verified: bool = False
    title: str
    slug: str
    icon: str
    event_id: int
    event_slug: str
    outcome: str
    outcome_index: int
    opposite_outcome: str
    opposite_token_id: str
    end_date: str
    first_entry_at: int
    last_event_at: int
    name: str = ""
    profile_image: str = ""


class WireTrade(msgspec.Struct, frozen=True, kw_only=True):
    """One wallet's part of a settled trade."""

    proxy_wallet: str
    token_id: str
    condition_id: str
    side: Side
    size: float
    price: float
    timestamp: int
    transaction_hash: str
    title: str
    slug: str
    icon: str
    event_slug: str
    outcome: str
    outcome_index: int
    name: str = ""
    pseudonym: str = ""
    bio: str = ""
    profile_image: str = ""
    profile_image_optimized: str = ""


class WireActivity(msgspec.Struct, frozen=True, kw_only=True):
    """One thing a wallet did; what does not apply is empty or zero."""

    type: str
    proxy_wallet: str
    token_id: str = ""
    condition_id: str = ""
    side: str = ""
    size: float
    usdc_size: float
    price: float = 0
    timestamp: int
    transaction_hash: str
    is_combo: bool = False
    title: str = ""
    slug: str = ""
    icon: str = ""
    event_slug: str = ""
    outcome: str = ""
    outcome_index: int = NO_OUTCOME
    name: str = ""
    pseudonym: str = ""
    bio: str = ""
    profile_image: str = ""
    profile_image_optimized: str = ""


class WireApproval(msgspec.Struct, frozen=True, kw_only=True):
    """Whether one contract may move one token of a wallet; `amount` only where the standard knows amounts."""

    token: str
    spender: str
    standard: str
    approved: bool
    amount: str | None


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """A stake with everything its row is made of.

    Attributes:
        wallet: Its owner's address.
        price: Of the token, micro-dollars: its payout once resolved.
        pairs: What the owner could merge, micro-shares.
    """

    wallet: str
    token_id: TokenId
    stake: Stake
    listing: Listing
    event: EventListing
    pairs: int

    @property
    def price(self) -> int:
        """Give what one share is worth, micro-dollars."""
        return self.listing.price_of(self.token_id)

    @property
    def value(self) -> int:
        """Give what it is worth, micro-dollars."""
        return self.stake.size * self.price // MICRO

    @property
    def unrealized(self) -> int:
        """Give the profit of what is held, micro-dollars."""
        return self.value - self.stake.cost

    @property
    def is_resolved(self) -> bool:
        """Tell whether the market is decided."""
        return self.listing.rules.yes_payout is not None

    @property
    def status(self) -> str:
        """Name its place in life; a position that lost is redeemable too, for nothing."""
        if not self.stake.size:
            return CLOSED
        return REDEEMABLE if self.is_resolved else OPEN


def wire_position(holding: Holding) -> WirePosition:
    """Show a position."""
    stake, listing, is_no = holding.stake, holding.listing, holding.token_id == holding.listing.rules.no
    size, cost = (stake.size, stake.cost) if stake.size else (stake.size_total, stake.cost_total)
    total = stake.realized + holding.unrealized
    return WirePosition(
        proxy_wallet=holding.wallet,
        token_id=holding.token_id,
        condition_id=listing.rules.market_id,
        current_size=json_number(stake.size),
        avg_price=json_number(cost * MICRO // size),
        entry_cost_usdc=json_number(stake.cost),
        entry_fees_usdc=json_number(stake.fees),
        total_cost_usdc=json_number(stake.cost_total),
        current_price=json_number(holding.price),
        current_value=json_number(holding.value),
        total_size=json_number(stake.size_total),
        realized_pnl=json_number(stake.realized),
        unrealized_pnl=json_number(holding.unrealized),
        total_pnl=json_number(total),
        percent_pnl=_percent(total, stake.cost_total),
        percent_realized_pnl=_percent(stake.realized, stake.cost_total),
        status=holding.status,
        redeemable=holding.status == REDEEMABLE,
        mergeable=holding.pairs > 0,
        negative_risk=listing.rules.is_neg_risk,
        title=listing.subject.title,
        slug=listing.rules.slug,
        icon=listing.subject.icon,
        event_id=holding.event.number,
        event_slug=listing.event_slug,
        outcome=OUTCOMES[is_no],
        outcome_index=int(is_no),
        opposite_outcome=OUTCOMES[not is_no],
        opposite_token_id=opposite(listing.rules, holding.token_id),
        end_date=listing.subject.end.date().isoformat(),
        first_entry_at=stake.first_ns // NANOS_PER_S,
        last_event_at=stake.last_ns // NANOS_PER_S,
    )


def wire_trade(fill: Fill, wallet: str, listing: Listing) -> WireTrade:
    """Show one wallet's part of a trade."""
    is_no = fill.token_id == listing.rules.no
    return WireTrade(
        proxy_wallet=wallet,
        token_id=fill.token_id,
        condition_id=listing.rules.market_id,
        side=fill.side,
        size=json_number(fill.size),
        # Money by shares, as of every row captured on 2026-02-28, makers' too: 0.4199998... of an order at 0.42.
        price=fill.notional / fill.size,
        timestamp=fill.at_ns // NANOS_PER_S,
        transaction_hash=transaction_hash(fill.trade_id),
        title=listing.subject.title,
        slug=listing.rules.slug,
        icon=listing.subject.icon,
        event_slug=listing.event_slug,
        outcome=OUTCOMES[is_no],
        outcome_index=int(is_no),
    )


def trade_activity(fill: Fill, wallet: str, listing: Listing) -> WireActivity:
    """Show one wallet's part of a trade among everything else it did."""
    trade = wire_trade(fill, wallet, listing)
    return WireActivity(
        type="TRADE",
        proxy_wallet=wallet,
        token_id=trade.token_id,
        condition_id=trade.condition_id,
        side=trade.side,
        size=trade.size,
        usdc_size=json_number(fill.notional),
        price=trade.price,
        timestamp=trade.timestamp,
        transaction_hash=trade.transaction_hash,
        title=trade.title,
        slug=trade.slug,
        icon=trade.icon,
        event_slug=trade.event_slug,
        outcome=trade.outcome,
        outcome_index=trade.outcome_index,
    )


def movement_activity(
    movement: Movement,
    kind: str,
    wallet: str,
    listing: Listing | None,
    *,
    size: int,
    cash: int,
    token_id: TokenId | None = None,
) -> WireActivity:
    """Show a movement of collateral.

    Args:
        movement: Where it stands in the log.
        kind: Name of its type.
        wallet: Whose it is.
        listing: Its market; None = it has none.
        size: Micro-shares.
        cash: Micro-dollars.
        token_id: The outcome it is about; None = both, or none.
    """
    index = NO_OUTCOME if listing is None or token_id is None else int(token_id == listing.rules.no)
    return WireActivity(
        type=kind,
        proxy_wallet=wallet,
        token_id=token_id or "",
        condition_id=listing.rules.market_id if listing else "",
        size=json_number(size),
        usdc_size=json_number(cash),
        timestamp=movement.at_ns // NANOS_PER_S,
        transaction_hash=transaction_hash(f"movement {movement.place}"),
        title=listing.subject.title if listing else "",
        slug=listing.rules.slug if listing else "",
        icon=listing.subject.icon if listing else "",
        event_slug=listing.event_slug if listing else "",
        outcome="" if index == NO_OUTCOME else OUTCOMES[index],
        outcome_index=index,
    )


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 4) if whole else 0
