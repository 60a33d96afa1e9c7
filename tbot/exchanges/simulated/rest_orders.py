"""Orders in, orders out: `POST` and `DELETE` of the trading endpoints, and what goes wrong on their way.

A request passes, in this order: L2 headers, the signer's quota, an injected fault if the dice say so, the signed
order's own checks (here), the engine's checks (there). A fault is drawn once a request, whatever its number of orders.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import ExchangeOrderId, OrderType
from tbot.core.units import NANOS_PER_S, Nanos, Price
from tbot.exchanges.simulated.accounts import Member
from tbot.exchanges.simulated.fault_catalogue import Fault
from tbot.exchanges.simulated.gathering import ITEMS_PER_TURN
from tbot.exchanges.simulated.http import HttpRefusal, NoAnswer, Reply, Request, Response, Routes, json_response
from tbot.exchanges.simulated.modes import PostOnlyMode
from tbot.exchanges.simulated.operations import Account, CancelResult, Placed, PlaceOrder, Refused
from tbot.exchanges.simulated.quota import WARNING, Header
from tbot.exchanges.simulated.state import ServerState
from tbot.exchanges.simulated.wire_account import (
    PlacedAnswer,
    blocked_answer,
    cancel_answer,
    placed_answer,
    refused_alone,
    refused_answer,
)
from tbot.exchanges.simulated.wire_in import (
    IDS_PER_CANCEL_MAX,
    ORDERS_PER_POST_MAX,
    TEXT_PAYLOAD,
    CancelMarket,
    CancelOne,
    PostOrder,
    SignatureType,
    SignedOrder,
    decode,
    wish_of,
)

TEXT_EXPIRATION = "invalid expiration"
TEXT_SIGNATURE = "invalid signature"
TEXT_NOT_INSERTED = "could not insert order"

_ORDER_ID = re.compile(r"0x[0-9a-fA-F]{64}")
# The year 2286: a later expiration is a mistake, and its nanoseconds would not fit the 64 bits of a log record.
_EXPIRATION_DIGITS_MAX = 10
# The tick only serves to round a market order's price; an unknown token is refused by the engine right after.
_TICK_UNKNOWN = Price(10_000)


class OrderRoutes:
    """The endpoints that change something."""

    def __init__(self, state: ServerState) -> None:
        """Trade on this server's exchange."""
        self._state = state

    def routes(self) -> Routes:
        """Give the routing table."""
        signed = self._state.for_member
        return {
            ("POST", "/order"): signed(self._post_order),
            ("POST", "/orders"): signed(self._post_orders),
            ("DELETE", "/order"): signed(self._delete_order),
            ("DELETE", "/orders"): signed(self._delete_orders),
            ("DELETE", "/cancel-all"): signed(self._cancel_all),
            ("DELETE", "/cancel-market-orders"): signed(self._cancel_market),
        }

    # --- placing ----------------------------------------------------------------------------------------------------

    async def _post_order(self, request: Request, member: Member) -> Reply:
        body = decode(request.body, PostOrder, refusal=TEXT_PAYLOAD)
        self._check_mode((body,), is_batch=False)
        headers = self._state.quotas.orders(member.address).take(1, self._state.now_ns())
        return await self._submit((body,), member, headers, is_batch=False)

    async def _post_orders(self, request: Request, member: Member) -> Reply:
        bodies = decode(request.body, list[PostOrder], refusal=TEXT_PAYLOAD)
        if len(bodies) > ORDERS_PER_POST_MAX:
            raise HttpRefusal(f"Too many orders in payload: {len(bodies)}, max allowed: {ORDERS_PER_POST_MAX}")
        self._check_mode(tuple(bodies), is_batch=True)
        headers = self._state.quotas.orders(member.address).take(len(bodies), self._state.now_ns())
        return await self._submit(tuple(bodies), member, headers, is_batch=True)

    def _check_mode(self, bodies: tuple[PostOrder, ...], *, is_batch: bool) -> None:
        modes, now_ns = self._state.modes, self._state.now_ns()
        self._state.place.check_orders()
        modes.check_orders(now_ns)
        if not is_batch and not all(body.post_only for body in bodies):
            modes.check_taking(now_ns)

    async def _submit(
        self, bodies: tuple[PostOrder, ...], member: Member, headers: tuple[Header, ...], *, is_batch: bool
    ) -> Reply:
        token_ids = [body.order.token_id for body in bodies]
        match self._state.exchange.faults.on_submit(*self._keys(token_ids, member)):
            case Fault.POST_RATE_LIMITED:
                raise self._rate_limited()
            case Fault.POST_LOST:
                return NoAnswer.HOLD
            case Fault.POST_LANDS_LATE:
                self._land_later(bodies, member)
                return NoAnswer.HOLD
            case Fault.POST_RESTS_UNANSWERED:
                await self._place_all(bodies, member, is_batch=is_batch)
                return NoAnswer.CUT
            case Fault.ERROR_AFTER_ACCEPT:
                await self._place_all(bodies, member, is_batch=is_batch)
                raise HttpRefusal(TEXT_NOT_INSERTED, status=500)
            case Fault.TICK_CHANGE_IN_FLIGHT:
                for token_id in dict.fromkeys(token_ids):
                    self._state.exchange.coarsen(token_id)
            case _:
                pass
        return _answered(await self._place_all(bodies, member, is_batch=is_batch), headers, is_batch=is_batch)

    def _keys(self, token_ids: list[str], member: Member) -> tuple[str, ...]:
        """Name what an injected fault may be aimed at."""
        markets = (self._state.directory.rules(token_id) for token_id in token_ids)
        market_ids = [rules.market_id for rules in markets if rules is not None]
        return (*self._state.accounts_of(member), *token_ids, *market_ids)

    async def _place_all(
        self, bodies: tuple[PostOrder, ...], member: Member, *, is_batch: bool
    ) -> tuple[PlacedAnswer, ...]:
        token_ids = [body.order.token_id for body in bodies]
        is_partial = is_batch and self._state.exchange.faults.on_batch(*self._keys(token_ids, member))
        # All legs reach the engine in one moment; only then does anybody wait for those that it holds.
        placed = [
            blocked_answer(TEXT_NOT_INSERTED) if is_partial and leg % 2 else self._place(body, member)
            for leg, body in enumerate(bodies)
        ]
        return tuple([leg if isinstance(leg, PlacedAnswer) else await self._final(*leg) for leg in placed])

    def _place(self, body: PostOrder, member: Member) -> PlacedAnswer | tuple[PlaceOrder, Placed | Refused]:
        try:
            if not body.post_only:
                self._state.modes.check_taking(self._state.now_ns())
            order = self._checked(body, member)
        except PostOnlyMode as refusal:
            return blocked_answer(str(refusal))
        except HttpRefusal as refusal:
            return refused_answer(str(refusal))
        exchange = self._state.exchange
        order = exchange.delayed(order, partial(self._keys, [order.token_id], member))
        return order, exchange.place(order)

    async def _final(self, order: PlaceOrder, reply: Placed | Refused) -> PlacedAnswer:
        verdict = await self._state.exchange.verdict(order, reply)
        if isinstance(verdict, Placed):
            return placed_answer(verdict, order.side)
        return refused_answer(verdict.text, order.order_id)

    # A message still on its way when its sender gave up: it lands whether or not the sender still lives.
    def _land_later(self, bodies: tuple[PostOrder, ...], member: Member) -> None:
        exchange = self._state.exchange
        due_ns = Nanos(self._state.now_ns() + int(exchange.faults.settings.late_s * NANOS_PER_S))
        for body in bodies:
            try:
                exchange.schedule(self._checked(body, member), due_ns)
            except HttpRefusal:
                continue  # it would have been refused, and nobody waits for the answer

    def _checked(self, body: PostOrder, member: Member) -> PlaceOrder:
        """Turn a signed order into an operation of the engine.

        Raises:
            HttpRefusal: 400 with the exchange's text: not this key's, wrong version, wrongly signed, misshapen.
        """
        order = body.order
        self._check_parties(body, member)
        rules = self._state.directory.rules(order.token_id)
        is_neg_risk = rules is not None and rules.is_neg_risk
        signer, order_id = self._state.verifier.signer_and_id(order, is_neg_risk=is_neg_risk)
        if signer != member.address:
            raise HttpRefusal(TEXT_SIGNATURE)
        wish = wish_of(order, body.order_type, tick=_TICK_UNKNOWN if rules is None else rules.tick)
        return PlaceOrder(
            account=Account(self._state.keys.wallet_of(member.address, order.signature_type)),
            order_id=order_id,
            token_id=TokenId(order.token_id),
            side=order.side,
            price=wish.price,
            size=wish.size,
            budget=wish.budget,
            order_type=body.order_type,
            is_post_only=body.post_only,
            expires_ns=_expires_ns(order, body.order_type),
            owner=member.api_key,
            spender=self._state.verifier.spender_of(order.token_id, is_neg_risk=is_neg_risk),
        )

    def _check_parties(self, body: PostOrder, member: Member) -> None:
        order = body.order
        if body.owner != member.api_key:
            raise HttpRefusal("the order owner has to be the owner of the API KEY")
        if order.is_v1:
            raise HttpRefusal("order_version_mismatch")
        wallet = self._state.keys.wallet_of(member.address, order.signature_type)
        signs = order.maker if order.signature_type is SignatureType.POLY_1271 else member.address
        if order.signer.lower() != signs.lower():
            raise HttpRefusal("the order signer address has to be the address of the API KEY")
        self._state.standings.check(member.address, order)
        if order.maker.lower() != wallet.lower():
            raise HttpRefusal(TEXT_SIGNATURE)

    # --- cancelling -------------------------------------------------------------------------------------------------

    async def _delete_order(self, request: Request, member: Member) -> Reply:
        body = decode(request.body, CancelOne, refusal=TEXT_PAYLOAD)
        return await self._cancel_ids((body.order_id,), member)

    async def _delete_orders(self, request: Request, member: Member) -> Reply:
        order_ids = tuple(dict.fromkeys(decode(request.body, list[str], refusal=TEXT_PAYLOAD)))
        if len(order_ids) > IDS_PER_CANCEL_MAX:
            raise HttpRefusal(f"Too many orders in payload, max allowed: {IDS_PER_CANCEL_MAX}")
        return await self._cancel_ids(order_ids, member)

    async def _cancel_ids(self, order_ids: tuple[str, ...], member: Member) -> Reply:
        if not all(_ORDER_ID.fullmatch(order_id) for order_id in order_ids):
            raise HttpRefusal("Invalid orderID")
        # A request that the mode turns away costs nothing.
        self._state.modes.check_cancels(self._state.now_ns())
        headers = self._state.quotas.cancels(member.address).take(len(order_ids), self._state.now_ns())
        by_account: dict[Account, list[ExchangeOrderId]] = {}
        for order_id in map(ExchangeOrderId, order_ids):
            by_account.setdefault(self._holder(order_id, member), []).append(order_id)

        async def cancel() -> tuple[CancelResult, tuple[Header, ...]]:
            results = [self._state.exchange.cancel(account, ids) for account, ids in by_account.items()]
            return _joined(results), headers

        return await self._cancelled(cancel)

    async def _cancel_all(self, _: Request, member: Member) -> Reply:
        return await self._cancel_where(member, market_id="", token_id="")

    async def _cancel_market(self, request: Request, member: Member) -> Reply:
        body = decode(request.body, CancelMarket, refusal=TEXT_PAYLOAD)
        if not (body.market or body.asset_id):
            raise HttpRefusal(TEXT_PAYLOAD)
        return await self._cancel_where(member, market_id=body.market, token_id=body.asset_id)

    async def _cancel_where(self, member: Member, *, market_id: str, token_id: str) -> Reply:
        self._state.modes.check_cancels(self._state.now_ns())
        bucket = self._state.quotas.cancels(member.address)
        warning = tuple(each for each in bucket.take(1, self._state.now_ns()) if each[0] == WARNING)

        async def cancel() -> tuple[CancelResult, tuple[Header, ...]]:
            result = await self._cancel_open(member, MarketId(market_id), TokenId(token_id))
            return result, (*bucket.charge(len(result.canceled), self._state.now_ns()), *warning)

        return await self._cancelled(cancel)

    # What is open now, however much it is: others get their turn meanwhile. What is filled before its turn is told.
    async def _cancel_open(self, member: Member, market_id: MarketId, token_id: TokenId) -> CancelResult:
        exchange, results = self._state.exchange, []
        accounts = self._state.accounts_of(member)
        open_ids = {a: exchange.engine.open_ids((a,), market_id=market_id, token_id=token_id) for a in accounts}
        for account, order_ids in open_ids.items():
            for start in range(0, len(order_ids), ITEMS_PER_TURN):
                if start:
                    await trio.lowlevel.checkpoint()
                results.append(exchange.cancel(account, order_ids[start : start + ITEMS_PER_TURN]))
        return _joined(results)

    async def _cancelled(self, cancel: Callable[[], Awaitable[tuple[CancelResult, tuple[Header, ...]]]]) -> Reply:
        match self._state.exchange.faults.on_cancel():
            case Fault.CANCEL_RATE_LIMITED:
                raise self._rate_limited()
            case Fault.CANCEL_LOST:
                return NoAnswer.HOLD
            case Fault.CANCEL_UNANSWERED:
                await cancel()
                return NoAnswer.CUT
            case _:
                result, headers = await cancel()
                return json_response(cancel_answer(result), headers=headers)

    def _holder(self, order_id: ExchangeOrderId, member: Member) -> Account:
        """Name the member's account that placed an order; orders of others are asked for in vain under its own."""
        accounts = self._state.accounts_of(member)
        order = self._state.exchange.order(order_id)
        return order.account if order is not None and order.account in accounts else accounts[0]

    def _rate_limited(self) -> HttpRefusal:
        retry_after_s = math.ceil(self._state.exchange.faults.settings.retry_after_s)
        return HttpRefusal("Too Many Requests", status=429, headers=(("Retry-After", str(retry_after_s)),))


def _answered(answers: tuple[PlacedAnswer, ...], headers: tuple[Header, ...], *, is_batch: bool) -> Response:
    """A refused single order is a 400; a batch is a 200 whatever became of its legs."""
    if is_batch:
        return json_response(answers, headers=headers)
    (answer,) = answers
    if answer.success:
        return json_response(answer, headers=headers)
    return json_response(refused_alone(answer), status=400, headers=headers)


def _expires_ns(order: SignedOrder, order_type: OrderType) -> Nanos:
    digits = order.expiration.lstrip("0")
    if len(digits) > _EXPIRATION_DIGITS_MAX or bool(digits) != (order_type is OrderType.GTD):
        raise HttpRefusal(TEXT_EXPIRATION)
    return Nanos(int(digits or "0") * NANOS_PER_S)


def _joined(results: list[CancelResult]) -> CancelResult:
    return CancelResult(
        canceled=tuple(order_id for result in results for order_id in result.canceled),
        not_canceled=tuple(pair for result in results for pair in result.not_canceled),
    )
