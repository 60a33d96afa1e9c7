"""Orders and cancels of one account: signed here, sent here, and every answer judged here.

It keeps what only the sender can know between two calls: which signed orders have not left yet, which may rest, and
what the exchange has just said it does not take. Doubts and refusals are values; nothing is raised for them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from enum import Enum, auto
from typing import TypeVar

import msgspec
import trio

from tbot.core.exchange_mode import OPEN, may_submit, mode_accepted, mode_refused
from tbot.core.market import Market, TokenId
from tbot.core.messages import (
    Accepted,
    Canceled,
    CancelReply,
    ExchangeOrderId,
    OrderType,
    OutcomeUnknown,
    RejectCode,
    Rejected,
    SubmitOrder,
    SubmitReply,
)
from tbot.core.orders import IMMEDIATE
from tbot.core.units import NANOS_PER_MS, NANOS_PER_S, Nanos
from tbot.errors import ConfigError, Disconnected, ExchangeUnavailable, InvariantViolated, RateLimited, TimedOut
from tbot.exchanges.gateway import PreparedOrder
from tbot.exchanges.polymarket.amounts import amounts_of
from tbot.exchanges.polymarket.doubts import ContractDoubts
from tbot.exchanges.polymarket.http import Answer, NotSent
from tbot.exchanges.polymarket.limits import Lane, RateGate, TooLate
from tbot.exchanges.polymarket.order_rules import EXPIRY_AHEAD_S, EXPIRY_MARGIN_S
from tbot.exchanges.polymarket.outcomes import (
    again_refused,
    cancel_replies,
    cancels_throttled,
    cancels_unknown,
    refused_as_a_whole,
    rejected,
    submit_replies,
    submit_unknown,
)
from tbot.exchanges.polymarket.rest import Rest
from tbot.exchanges.polymarket.signing import OrderSigner

ORDER_TYPES = frozenset({OrderType.GTC, OrderType.GTD, OrderType.FAK, OrderType.FOK})
# Prepared orders are sent at once or never; more than this many unsent ones are the leftovers of crashes.
UNSENT_MAX = 1024
# What so many orders were signed for is remembered, for a refusal of a copy.
SIGNED_MAX = 4096
NOT_SENT_RETRY_S = 0.5
# Reading anew after refusals holds their answers back for so long at most; the next refusal tries again.
LEARN_S = 5.0
# The exchange takes no more orders in one request (API reference, POST /orders).
ORDERS_MAX = 15
# The exchange takes no more ids in one request (changelog of 2026-06-15).
CANCEL_IDS_MAX = 1_000
# A batch of cancels takes what the bucket holds, but for fewer than this a round trip of its own is not worth it.
CANCEL_IDS_MIN = 20


# What was signed for is not what the exchange has: its version, its contract, its grid. Of a wrong contract it says
# nothing but that the signature is invalid.
_OF_STALE_TERMS = frozenset({RejectCode.VERSION_MISMATCH, RejectCode.OFF_GRID, RejectCode.BAD_SIGNATURE})

Kept = TypeVar("Kept")


class _Unsent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    # What must be known of an order between its signature and its sending.
    is_post_only: bool
    may_rest: bool


class _Signed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    # What an order was signed for, told when it is refused.
    token_id: TokenId
    is_neg_risk: bool


class _Outcome(Enum):
    # What came of reading a market anew.
    READ = auto()
    REFUSED = auto()  # it is none that we can trade now; the market feed pauses it
    UNKNOWN = auto()  # no answer, none in time, or two that contradict each other


class _Reading:
    # A market that is being read anew, and what came of it.
    def __init__(self) -> None:
        self.is_done = trio.Event()
        self.outcome = _Outcome.UNKNOWN


class OrderEntry:
    """Signs, sends and cancels for one account."""

    def __init__(
        self,
        rest: Rest,
        signer: OrderSigner,
        gate: RateGate,
        *,
        market_of: Callable[[TokenId], Market],
        refresh: Callable[[TokenId], Awaitable[object]],
        salt: Callable[[], int],
        now_ns: Callable[[], Nanos],
        offset_ns: Callable[[], int],
    ) -> None:
        """Keep the means.

        Args:
            rest: Signed for the account.
            signer: Signs its orders.
            gate: The one that `rest` passes; it is told how many orders may have to be cancelled.
            market_of: The loaded market of a token; raises `InvariantViolated` for an unknown one.
            refresh: Reads anew what orders of a token are signed for.
            salt: A number for each order that makes it unique.
            now_ns: Wall time.
            offset_ns: How far the exchange's clock is ahead.
        """
        self._rest = rest
        self._signer = signer
        self._gate = gate
        self._market_of = market_of
        self._refresh = refresh
        self._salt = salt
        self._now_ns = now_ns
        self._offset_ns = offset_ns
        self._unsent: dict[ExchangeOrderId, _Unsent] = {}
        self._signed: dict[ExchangeOrderId, _Signed] = {}
        self._stale: dict[TokenId, None] = {}
        self._mode = OPEN
        self._readings: dict[TokenId, _Reading] = {}
        self._doubts_of = ContractDoubts()

    def prepare(self, order: SubmitOrder, now_ns: Nanos) -> PreparedOrder:
        """Sign an order without sending it; about 40 us.

        Raises:
            InvariantViolated: The order breaks a rule of the market that the plan should have kept.
        """
        if order.order_type not in ORDER_TYPES:
            raise InvariantViolated(f"order type {order.order_type} is not offered (see capabilities)")
        market = self._market_of(order.token_id)
        signed = self._signer.sign(
            token_id=order.token_id,
            side=order.side,
            amounts=amounts_of(
                order_type=order.order_type, side=order.side, price=order.price, size=order.size, tick=market.tick
            ),
            order_type=order.order_type,
            is_post_only=order.is_post_only,
            is_neg_risk=market.is_neg_risk,
            salt=self._salt(),
            timestamp_ms=(now_ns + self._offset_ns()) // NANOS_PER_MS,
            expiration_s=self._expiration_s(order, now_ns),
        )
        _make_room(self._unsent, UNSENT_MAX)
        _make_room(self._signed, SIGNED_MAX)
        self._signed[signed.order_id] = _Signed(token_id=order.token_id, is_neg_risk=market.is_neg_risk)
        self._unsent[signed.order_id] = _Unsent(
            is_post_only=order.is_post_only,
            may_rest=order.order_type not in IMMEDIATE,
        )
        return PreparedOrder(
            client_order_id=order.client_order_id,
            exchange_order_id=signed.order_id,
            body=signed.body,
            prepared_ns=now_ns,
            deadline_ns=order.deadline_ns,
        )

    async def submit(self, orders: Sequence[PreparedOrder]) -> tuple[SubmitReply, ...]:
        """Send prepared orders in one request, by the first of their deadlines. Doubts are `OutcomeUnknown`.

        Bytes that were, or may have been, sent before can rest already, so for them even a refusal proves nothing and
        is told as unknown.

        A refusal for terms that are not those of the exchange, also of a copy or of a batch as a whole, has its market
        read anew before it is told, so that the next order is planned and signed from what is in force.

        Returns:
            One reply an order, in order.
        """
        unsent = {order.exchange_order_id: self._unsent.pop(order.exchange_order_id, None) for order in orders}
        replies: dict[ExchangeOrderId, SubmitReply] = {}
        for order in orders:
            first = unsent[order.exchange_order_id]
            if first is not None and (refusal := self._held_back(order, first)) is not None:
                replies[order.exchange_order_id] = refusal
        going = [order for order in orders if order.exchange_order_id not in replies]
        while going:
            some, going = going[: self._orders_at_once()], going[self._orders_at_once() :]
            for order in some:
                self._may_rest(order.exchange_order_id)  # before it leaves, so that all on its way can be cancelled
            for order, reply in zip(some, await self._post(some), strict=True):
                replies[order.exchange_order_id] = self._heard(order, unsent[order.exchange_order_id], reply)
        read = await self._learn_anew()
        return tuple(self._explained(order, replies[order.exchange_order_id], read) for order in orders)

    async def cancel(self, order_ids: Sequence[ExchangeOrderId]) -> tuple[CancelReply, ...]:
        """Cancel orders of ours, one reply an id, in order; doubts and rate limits are values."""
        self._gate.resting.claim(order_ids)
        if self._is_cheaper_to_cancel_all(order_ids):
            return tuple(await self._cancel_by(self._rest.cancel_all, order_ids))
        replies: list[CancelReply] = []
        while len(replies) < len(order_ids):
            some = order_ids[len(replies) : len(replies) + self._cancels_at_once()]
            replies += await self._cancel_by(lambda some=some: self._rest.delete_orders(some), some)  # type: ignore[misc]
        return tuple(replies)

    @property
    def open_orders(self) -> Mapping[ExchangeOrderId, Nanos]:
        """Orders of ours that may rest, with the time of their sending; a report corrects it."""
        return self._gate.resting.ours

    def learn_open(self, listed: Collection[ExchangeOrderId], requested_ns: Nanos) -> None:
        """Correct what may rest by a report; see `RestingOrders.correct`."""
        self._gate.resting.correct(listed, requested_ns)

    # --- submits ------------------------------------------------------------------------------------------------

    def _held_back(self, order: PreparedOrder, unsent: _Unsent) -> Rejected | None:
        """Refuse what the exchange has just said it does not take: orders that were under way to us when it said so."""
        mode, now_ns = self._mode, self._now_ns()
        if mode.code is None or may_submit(mode, is_post_only=unsent.is_post_only, now_ns=now_ns):
            return None
        wait_s = max(0.0, (mode.until_ns - now_ns) / NANOS_PER_S)
        return rejected(order, mode.code, f"not sent: the exchange takes {mode.permit.value}", now_ns, wait_s)

    def _expiration_s(self, order: SubmitOrder, now_ns: Nanos) -> int:
        """Return the expiration to state, in Unix seconds of the exchange's clock; 0 = none."""
        if (order.order_type is OrderType.GTD) != bool(order.expires_ns):
            raise InvariantViolated(f"a {order.order_type} order that ends at {order.expires_ns}")
        if not order.expires_ns:
            return 0
        stated_s = -(-(order.expires_ns + self._offset_ns()) // NANOS_PER_S) + EXPIRY_MARGIN_S
        if stated_s * NANOS_PER_S < now_ns + self._offset_ns() + EXPIRY_AHEAD_S * NANOS_PER_S:
            raise InvariantViolated(f"an end in {(order.expires_ns - now_ns) / NANOS_PER_S:.1f} s is too soon")
        return stated_s

    def _orders_at_once(self) -> int:
        return max(1, min(ORDERS_MAX, self._gate.burst(Lane.ORDER)))

    def _heard(self, order: PreparedOrder, first: _Unsent | None, reply: SubmitReply) -> SubmitReply:
        """Draw the conclusions from one reply.

        Args:
            order: That was sent.
            first: What is known of an order that left for the first time; None = a copy.
            reply: As read from the answer.
        """
        if isinstance(reply, Rejected):
            self._mode = mode_refused(self._mode, reply.code, reply.retry_after_s, reply.at_ns)
            if first is None:
                return again_refused(order, f"sent again, then {reply.code}: {reply.reason}", reply)
            self._is_gone(order.exchange_order_id)
        elif isinstance(reply, Accepted) and first is not None:
            if not first.may_rest:
                self._is_gone(order.exchange_order_id)
            self._settle(order)
            self._mode = mode_accepted(
                self._mode, is_post_only=first.is_post_only, sent_ns=order.prepared_ns, at_ns=reply.at_ns
            )
        return reply

    async def _post(self, orders: Sequence[PreparedOrder]) -> list[SubmitReply]:
        by_ns = Nanos(min(order.deadline_ns for order in orders))
        bodies = [order.body for order in orders]
        try:
            answer = await self._rest.post_orders(bodies, by_ns=by_ns)
        except TooLate as error:
            return self._unsent_all(orders, RejectCode.EXPIRED_UNSENT, error)
        except RateLimited as error:
            return self._unsent_all(orders, RejectCode.RATE_LIMITED, error, error.retry_after_s)
        except NotSent as error:
            return self._unsent_all(orders, RejectCode.UNAVAILABLE, error)
        except TimedOut as error:
            return self._doubts(orders, error)
        except Disconnected as error:
            return await self._post_again(orders, bodies, by_ns, error)
        except ExchangeUnavailable as error:
            return self._doubts(orders, error)
        return self._judged(orders, answer)

    async def _post_again(
        self, orders: Sequence[PreparedOrder], bodies: Sequence[bytes], by_ns: Nanos, cause: Disconnected
    ) -> list[SubmitReply]:
        """Send the same bytes once more: most often they closed an idle connection just before we used it.

        Whether the first ones arrived stays open, so no refusal is believed.
        """
        try:
            answer = await self._rest.post_orders(bodies, by_ns=by_ns)
        except ExchangeUnavailable:
            return self._doubts(orders, cause)
        replies = self._judged(orders, answer)
        return [
            again_refused(order, str(cause), reply) if isinstance(reply, Rejected) else reply
            for order, reply in zip(orders, replies, strict=True)
        ]

    def _judged(self, orders: Sequence[PreparedOrder], answer: Answer) -> list[SubmitReply]:
        """Read an answer; what it says of the terms is noted here, as a doubt about a batch does not carry it."""
        replies = submit_replies(orders, answer, self._now_ns())
        whole = refused_as_a_whole(orders, answer, self._now_ns())
        for order, reply in zip(orders, replies, strict=True):
            code = reply.code if isinstance(reply, Rejected | OutcomeUnknown) else None
            signed = self._signed.get(order.exchange_order_id)  # None = signed before a restart, which read all
            if signed is not None and {code, whole} & _OF_STALE_TERMS:
                self._stale[signed.token_id] = None
        return replies

    def _unsent_all(
        self, orders: Sequence[PreparedOrder], code: RejectCode, cause: Exception, retry_after_s: float = 0.0
    ) -> list[SubmitReply]:
        return [rejected(order, code, str(cause), self._now_ns(), retry_after_s) for order in orders]

    def _doubts(self, orders: Sequence[PreparedOrder], cause: Exception) -> list[SubmitReply]:
        return [submit_unknown(order, str(cause), self._now_ns()) for order in orders]

    async def _learn_anew(self) -> Mapping[TokenId, _Outcome]:
        """Read again what orders of stale tokens are signed for: each is in force as soon as it is read.

        Returns:
            What came of it, of those for which there was time.
        """
        stale, self._stale = self._stale, {}
        outcomes: dict[TokenId, _Outcome] = {}
        with trio.move_on_after(LEARN_S):
            for token_id in stale:
                outcomes[token_id] = await self._learn(token_id)
        return outcomes

    async def _learn(self, token_id: TokenId) -> _Outcome:
        if (begun := self._readings.get(token_id)) is not None:
            await begun.is_done.wait()  # one reading is enough for all orders refused together
            return begun.outcome
        reading = self._readings[token_id] = _Reading()
        try:
            await self._refresh(token_id)
            reading.outcome = _Outcome.READ
        except ExchangeUnavailable:
            pass  # the refusal is told all the same, and the side waits before it asks again
        except ConfigError:
            reading.outcome = _Outcome.REFUSED
        finally:
            del self._readings[token_id]
            reading.is_done.set()
        return reading.outcome

    def _explained(self, order: PreparedOrder, reply: SubmitReply, read: Mapping[TokenId, _Outcome]) -> SubmitReply:
        """Tell a signature refused because the market moved to another contract from one that is no good anywhere."""
        signed = self._signed.get(order.exchange_order_id)
        if not isinstance(reply, Rejected) or reply.code is not RejectCode.BAD_SIGNATURE or signed is None:
            return reply
        if not (why := self._why_stale(signed, read.get(signed.token_id, _Outcome.UNKNOWN))):
            return reply
        return msgspec.structs.replace(reply, code=RejectCode.VERSION_MISMATCH, reason=f"{why}: {reply.reason}")

    def _why_stale(self, signed: _Signed, outcome: _Outcome) -> str:
        """Say why a refused signature is no reason to halt, after its market was read or not; "" = it is one."""
        market = self._market_of(signed.token_id)
        is_moved = market.is_neg_risk != signed.is_neg_risk
        if is_moved or outcome is not _Outcome.UNKNOWN:
            self._doubts_of.settle(market.market_id)
            is_left = is_moved or outcome is _Outcome.REFUSED
            return "signed for a contract that its market left" if is_left else ""
        is_young = self._doubts_of.is_young(market.market_id, self._now_ns())
        return "signed for a contract that its market may have left" if is_young else ""

    def _settle(self, order: PreparedOrder) -> None:
        if (signed := self._signed.get(order.exchange_order_id)) is not None:
            self._doubts_of.settle(self._market_of(signed.token_id).market_id)

    # --- cancels ------------------------------------------------------------------------------------------------

    def _is_cheaper_to_cancel_all(self, order_ids: Sequence[ExchangeOrderId]) -> bool:
        """Tell whether one request for everything does the same as a list that the bucket cannot pay for now.

        It needs a single token, however many orders there are. But it also takes orders that are not ours, so a report
        must have shown that we are alone in the account.
        """
        is_everything = set(order_ids) >= set(self.open_orders)
        return is_everything and self._gate.resting.is_alone and len(order_ids) > self._gate.available(Lane.CANCEL)

    def _cancels_at_once(self) -> int:
        held = max(self._gate.available(Lane.CANCEL), CANCEL_IDS_MIN)
        return max(1, min(CANCEL_IDS_MAX, self._gate.burst(Lane.CANCEL), held))

    async def _cancel_by(
        self, send: Callable[[], Awaitable[Answer]], order_ids: Sequence[ExchangeOrderId]
    ) -> list[CancelReply]:
        try:
            answer = await send()
        except RateLimited as error:
            return cancels_throttled(order_ids, error.retry_after_s, self._now_ns(), RejectCode.RATE_LIMITED)
        except NotSent:
            return cancels_throttled(order_ids, NOT_SENT_RETRY_S, self._now_ns(), RejectCode.UNAVAILABLE)
        except ExchangeUnavailable as error:
            return cancels_unknown(order_ids, str(error), self._now_ns())
        replies = cancel_replies(order_ids, answer, self._now_ns())
        for reply in replies:
            if isinstance(reply, Canceled):
                self._is_gone(reply.exchange_order_id)
        return replies

    def _may_rest(self, order_id: ExchangeOrderId) -> None:
        self._gate.resting.sent(order_id, self._now_ns())

    def _is_gone(self, order_id: ExchangeOrderId) -> None:
        self._gate.resting.gone(order_id, self._now_ns())


def _make_room(kept: dict[ExchangeOrderId, Kept], most: int) -> None:
    if len(kept) >= most:
        kept.pop(next(iter(kept)))
