"""One sweep over what the exchange holds of our account, as an `ExchangeReport`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from tbot.core.market import TokenId
from tbot.core.messages import ExchangeOrderId, ExchangeReport, Fill
from tbot.core.units import NANOS_PER_S, Nanos, Notional, Size
from tbot.errors import BadFrame, ExchangeUnavailable
from tbot.exchanges.polymarket.fills import FeeOf, Ownership, fills_of, open_order, order_lookup, was_taker
from tbot.exchanges.polymarket.rest import Rest
from tbot.exchanges.polymarket.wire import TradeRow

# The window of this path lets 10 a second pass, and each is a round trip: more would hold the next look at orders and
# trades back. 200 tokens are told within two minutes.
BALANCES_EACH = 10
# Of those that are wanted: what the window gives in ten seconds, so that no report looks like a wedged task.
BALANCES_MOST = 100


class Reporter:
    """Reads reports for one account."""

    def __init__(
        self, rest: Rest, *, ours: Ownership, fee_of: FeeOf, signature_type: int, now_ns: Callable[[], Nanos]
    ) -> None:
        """Keep what every report needs.

        Args:
            rest: Signed for the account.
            ours: What marks an order as ours.
            fee_of: Taker fee of a token at a price and size.
            signature_type: Chooses the wallet whose balances are told.
            now_ns: Wall time.
        """
        self._rest = rest
        self._ours = ours
        self._fee_of = fee_of
        self._signature_type = signature_type
        self._now_ns = now_ns
        self._told: dict[TokenId, int] = {}
        self._reports = 0

    async def report(
        self,
        since_ns: Nanos,
        lookups: Sequence[ExchangeOrderId],
        tokens: Collection[TokenId],
        balances_of: Collection[TokenId] = (),
    ) -> ExchangeReport:
        """Read open orders, then trades, then single orders, then balances.

        In this order: an order filled between the first two reads is missing from the list but present in the fills,
        never missing from both.

        Args:
            since_ns: Fills at or after this moment.
            lookups: Orders to ask for one by one.
            tokens: Whose fills are told, and whose balances in turn; other markets of the account are left out.
            balances_of: Those of them whose balances go first; beyond a hundred they take several reports.

        Raises:
            ExchangeUnavailable: Nothing is known; try again later.
            AuthenticationFailed: The credentials are refused.
        """
        requested_ns = self._now_ns()
        orders = await self._rest.open_orders()
        trades = await self._trades_since(since_ns)
        found = [(each, await self._rest.order(each)) for each in lookups]
        balances = [(token, Size(await self._balance(token))) for token in self._turn(tokens, balances_of)]
        cash = Notional(await self._balance(None))
        received_ns = self._now_ns()
        with undecodable_is_unavailable("report"):
            return ExchangeReport(
                requested_ns=requested_ns,
                received_ns=received_ns,
                open_orders=tuple(map(open_order, orders)),
                fills=tuple(fill for fill in self._fills(trades, received_ns) if fill.token_id in tokens),
                lookups=tuple(order_lookup(each, row) for each, row in found),
                balances=tuple(balances),
                cash=cash,
            )

    def _turn(self, tokens: Collection[TokenId], wanted: Collection[TokenId]) -> list[TokenId]:
        """Choose whose balances this report tells: what is wanted first, then those not told for longest."""
        self._reports += 1
        count = min(max(BALANCES_EACH, len(wanted)), BALANCES_MOST)
        in_turn = sorted(tokens, key=lambda token: (token not in wanted, self._told.get(token, 0)))
        chosen = dict.fromkeys(in_turn[:count], self._reports)
        self._told |= chosen
        return [token for token in tokens if token in chosen]

    async def _trades_since(self, since_ns: Nanos) -> list[TradeRow]:
        # A second earlier: whether their `after` includes its own second is not documented.
        trades = await self._rest.trades(after=str(max(0, since_ns // NANOS_PER_S - 1)))
        whole: list[TradeRow] = []
        for trade in trades:
            # Lists may come without the maker legs, and then do not say which orders of ours were hit, nor always our
            # role in it; nor, where a taker met several prices and is told their average, what he paid to the unit.
            is_bare = not trade.maker_orders and (not was_taker(trade, self._ours) or _is_averaged(trade.price))
            whole += await self._rest.trades(id=trade.id) if is_bare else [trade]
        return whole

    def _fills(self, trades: Sequence[TradeRow], received_ns: Nanos) -> Iterator[Fill]:
        for trade in trades:
            yield from fills_of(trade, self._ours, self._fee_of, received_ns)

    async def _balance(self, token_id: TokenId | None) -> int:
        return await self._rest.balance(token_id, signature_type=self._signature_type)


# No grid is finer than four decimals.
def _is_averaged(price: str) -> bool:
    return len(price.partition(".")[2].rstrip("0")) > 4


@contextmanager
def undecodable_is_unavailable(what: str) -> Iterator[None]:
    """Tell callers of reads the one thing they handle: nothing is known, try again."""
    try:
        yield
    except BadFrame as error:
        raise ExchangeUnavailable(f"{what}: {error}") from error
