"""The REST endpoints we use, each as one typed call.

Reads raise: `ExchangeUnavailable` and its kinds when nothing is known, `AuthenticationFailed` when the credentials are
refused. Writes return the raw answer for `outcomes` to judge, and raise only what `http` raises.
Source: polymarket API reference, sections of the CLOB (read 2026-11-22).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import ExchangeOrderId, RejectCode
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.errors import AuthenticationFailed, BadFrame, ConfigError, Disconnected, ExchangeUnavailable, RateLimited
from tbot.exchanges.polymarket.asset_ids import balance_type
from tbot.exchanges.polymarket.auth import l1_headers
from tbot.exchanges.polymarket.http import Answer, Http, NotSent
from tbot.exchanges.polymarket.keys import ApiCredentials, SigningKey
from tbot.exchanges.polymarket.limits import Lane
from tbot.exchanges.polymarket.outcomes import mode_code
from tbot.exchanges.polymarket.retry_after import RETRY_AFTER_S_DEFAULT
from tbot.exchanges.polymarket.settings import TimeoutSettings
from tbot.exchanges.polymarket.wire import (
    RAWS,
    BalanceAnswer,
    BookBody,
    ClobMarket,
    ClosedOnlyAnswer,
    FullMarket,
    GeoblockAnswer,
    KeyAnswer,
    NegRiskAnswer,
    OrderRow,
    Page,
    TickSizeAnswer,
    VersionAnswer,
    decode,
)

T = TypeVar("T")

CURSOR_FIRST: Final = "MA=="
CURSORS_LAST: Final = ("LTE=", "")
# 100 rows a page: more than 20 000 orders or trades in one sweep means that we read in circles.
PAGES_MAX: Final = 200
# One request may carry 500 ids; beyond that the exchange refuses.
BOOKS_MAX: Final = 500
# The year 5138; beyond it arithmetic in floats would fail somewhere else, and with less to say.
TIME_S_MAX: Final = 10**11

_KEY_CALLS = (("GET", "/auth/derive-api-key"), ("POST", "/auth/api-key"))
# Rows stay bytes: one that cannot be read concerns itself alone.
_PAGE = msgspec.json.Decoder(Page[msgspec.Raw])


class NotFound(ExchangeUnavailable):
    """HTTP 404: no such market, book, order or key."""


class Blocked(ExchangeUnavailable):
    """HTTP 403 from the edge in front of the exchange: a geoblock, or a caller it does not like."""


class Restricted(RateLimited):
    """HTTP 425, or a 503 that names its reason: the exchange restarts, or takes only some requests.

    Attributes:
        code: Which restriction.
    """

    def __init__(self, message: str, *, retry_after_s: float, code: RejectCode) -> None:
        """Keep the code beside the wait."""
        super().__init__(message, retry_after_s=retry_after_s)
        self.code = code


class Rest:
    """Typed calls over one `Http`."""

    def __init__(
        self,
        http: Http,
        *,
        timeouts: TimeoutSettings,
        now_ns: Callable[[], Nanos],
        signed_ns: Callable[[], Nanos] | None = None,
    ) -> None:
        """Wrap a connection pool, which stays the caller's to close.

        Args:
            http: The pool.
            timeouts: Bounds of every wait.
            now_ns: Our clock, for those bounds.
            signed_ns: The exchange's clock, for what the key signs; None = ours is taken for it.
        """
        self._signed_ns = signed_ns or now_ns
        self._http = http
        self._timeouts = timeouts
        self._now_ns = now_ns

    # --- writes -------------------------------------------------------------------------------------------------

    async def post_orders(self, bodies: Sequence[bytes], *, by_ns: Nanos) -> Answer:
        """Send one or several signed orders; costs one order token each. Raises what `Http.call` raises."""
        is_single = len(bodies) == 1
        return await self._http.call(
            "POST",
            "/order" if is_single else "/orders",
            lane=Lane.ORDER,
            by_ns=by_ns,
            total_s=self._timeouts.order_s,
            body=bodies[0] if is_single else b"[" + b",".join(bodies) + b"]",
            is_private=True,
            cost=len(bodies),
        )

    async def delete_orders(self, order_ids: Sequence[ExchangeOrderId]) -> Answer:
        """Cancel one or many orders; costs one cancel token an id. Raises what `Http.call` raises."""
        is_single = len(order_ids) == 1
        return await self._http.call(
            "DELETE",
            "/order" if is_single else "/orders",
            lane=Lane.CANCEL,
            by_ns=self._patience_ns(),
            total_s=self._timeouts.order_s,
            body=msgspec.json.encode({"orderID": order_ids[0]} if is_single else list(order_ids)),
            is_private=True,
            cost=len(order_ids),
        )

    async def cancel_all(self) -> Answer:
        """Cancel every open order of the account, whoever placed it.

        Needs one cancel token to start; the others are taken afterwards, and the answer's headers tell.
        """
        return await self._http.call(
            "DELETE",
            "/cancel-all",
            lane=Lane.CANCEL,
            by_ns=self._patience_ns(),
            total_s=self._timeouts.order_s,
            is_private=True,
        )

    async def heartbeat(self, heartbeat_id: str) -> Answer:
        """Tell the dead-man switch that we live, with the id told last. Raises what `Http.call` raises."""
        return await self._http.call(
            "POST",
            "/v1/heartbeats",
            lane=Lane.BEAT,
            by_ns=self._patience_ns(),
            total_s=self._timeouts.order_s,
            body=msgspec.json.encode({"heartbeat_id": heartbeat_id}),
            is_private=True,
        )

    # --- account ------------------------------------------------------------------------------------------------

    async def open_orders(self) -> list[bytes]:
        """List every open order of the account, each an `OrderRow` to be decoded."""
        return await self._pages("/data/orders", {})

    async def trades(self, **query: str) -> list[bytes]:
        """List trades, newest or oldest first as they send them, each a `TradeRow` to be decoded.

        Args:
            query: Filters: `after` and `before` in Unix seconds, `id`, `market`, `asset_id`.
        """
        return await self._pages("/data/trades", query)

    async def order(self, order_id: ExchangeOrderId) -> OrderRow | None:
        """Read one order in whatever state; None when they do not know it."""
        decoder = msgspec.json.Decoder(OrderRow | None)
        try:
            return await self._read(decoder, f"/data/order/{order_id}", is_private=True)
        except NotFound:
            return None

    async def balance(self, token_id: TokenId | None, *, signature_type: int) -> int:
        """Read what the exchange counts as ours, in millionths: of a token, or of collateral when None."""
        query = balance_query(token_id, signature_type)
        answer = await self._get(BalanceAnswer, "/balance-allowance", query, is_private=True)
        if not (answer.balance.isascii() and answer.balance.isdigit() and len(answer.balance) < 40):
            raise ExchangeUnavailable(f"/balance-allowance: not a whole number: {answer.balance[:40]!r}")
        return int(answer.balance)

    async def refresh_balance(self, token_id: TokenId | None, *, signature_type: int) -> None:
        """Make the exchange read one balance from the chain anew; its cache can be old for minutes after a trade.

        Source: `updateBalanceAllowance` of the official clients, read 2026-11-26.
        """
        # Whatever a 200 holds, often nothing, means that it was done.
        await self._ask("/balance-allowance/update", balance_query(token_id, signature_type), is_private=True)

    async def is_closed_only(self) -> bool:
        """Tell whether the account may only reduce."""
        return (await self._get(ClosedOnlyAnswer, "/auth/ban-status/closed-only", is_private=True)).closed_only

    # --- public -------------------------------------------------------------------------------------------------

    async def book(self, token_id: TokenId) -> BookBody:
        """Read one book. Raises `NotFound` for an unknown token."""
        return await self._get(BookBody, "/book", {"token_id": token_id})

    async def books(self, token_ids: Sequence[TokenId]) -> list[bytes]:
        """Read many books, each a `BookBody` to be decoded; unknown ones are left out."""
        found: list[bytes] = []
        for start in range(0, len(token_ids), BOOKS_MAX):
            body = msgspec.json.encode([{"token_id": each} for each in token_ids[start : start + BOOKS_MAX]])
            rows = await self._read(RAWS, "/books", method="POST", body=body)
            found += map(bytes, rows)
        return found

    async def time_s(self) -> int:
        """Read their clock, Unix seconds; a number that is no time of this age is no answer."""
        told = await self._read(msgspec.json.Decoder(int), "/time")
        if not 0 < told < TIME_S_MAX:
            raise ExchangeUnavailable(f"/time: expected Unix seconds, found a number of {told.bit_length()} bits")
        return told

    async def version(self) -> int:
        """Read the order protocol in force."""
        return (await self._get(VersionAnswer, "/version")).version

    async def tick_size(self, token_id: TokenId) -> TickSizeAnswer:
        """Read the tick in force."""
        return await self._get(TickSizeAnswer, "/tick-size", {"token_id": token_id})

    async def is_neg_risk(self, token_id: TokenId) -> bool:
        """Tell which contract orders of a token are signed for."""
        return (await self._get(NegRiskAnswer, "/neg-risk", {"token_id": token_id})).neg_risk

    async def clob_market(self, market_id: MarketId) -> ClobMarket:
        """Read a market's trading parameters. Raises `NotFound`."""
        return await self._get(ClobMarket, f"/clob-markets/{market_id}")

    async def full_market(self, market_id: MarketId) -> FullMarket:
        """Read a market's description. Raises `NotFound`."""
        return await self._get(FullMarket, f"/markets/{market_id}")

    async def is_blocked_here(self, url: str) -> GeoblockAnswer:
        """Ask whether this place may trade.

        Args:
            url: Absolute address of the geoblock service, which is another host.
        """
        return await self._get(GeoblockAnswer, url)

    async def get(
        self, shape: type[T], path: str, query: Mapping[str, str] | None = None, *, is_private: bool = False
    ) -> T:
        """Read anything else that only one caller needs, as a shape of its own."""
        return await self._get(shape, path, query, is_private=is_private)

    # --- keys ---------------------------------------------------------------------------------------------------

    async def obtain_credentials(
        self, key: SigningKey, *, chain_id: int, is_derived_only: bool = False
    ) -> ApiCredentials:
        """Derive the account's API credentials, or create them when there are none yet and that is wanted.

        Raises:
            AuthenticationFailed: Both were refused.
        """
        refusals = []
        for method, path in _KEY_CALLS[: 1 if is_derived_only else None]:
            answer = await self._key_call(method, path, key, chain_id)
            if answer.status == 200:
                told = _decoded(msgspec.json.Decoder(KeyAnswer), answer)
                return _credentials(told)
            refusals.append(f"{method} {path}: {answer.status} {answer.complaint}")
            if answer.status >= 500 or answer.status in (425, 429):
                raise ExchangeUnavailable(refusals[-1])
        raise AuthenticationFailed("no API credentials: " + "; ".join(refusals))

    # --- plumbing -----------------------------------------------------------------------------------------------

    async def _key_call(self, method: str, path: str, key: SigningKey, chain_id: int) -> Answer:
        headers = l1_headers(key, chain_id=chain_id, timestamp_s=self._signed_ns() // NANOS_PER_S)
        total_s = self._timeouts.read_total_s
        return await self._http.call(
            method, path, lane=Lane.READ, by_ns=self._patience_ns(), total_s=total_s, headers=headers
        )

    async def _pages(self, path: str, query: Mapping[str, str]) -> list[bytes]:
        rows: list[bytes] = []
        cursor = CURSOR_FIRST
        for _ in range(PAGES_MAX):
            page = await self._read(_PAGE, path, {**query, "next_cursor": cursor}, is_private=True)
            rows += map(bytes, page.data)
            if page.next_cursor is None or page.next_cursor in CURSORS_LAST:
                return rows
            cursor = page.next_cursor
        # A partial list would read as "these orders are gone".
        raise ExchangeUnavailable(f"{path}: no end after {PAGES_MAX} pages")

    async def _get(
        self, shape: type[T], path: str, query: Mapping[str, str] | None = None, *, is_private: bool = False
    ) -> T:
        return await self._read(msgspec.json.Decoder(shape), path, query, is_private=is_private)

    async def _read(
        self,
        decoder: msgspec.json.Decoder[T],
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        body: bytes = b"",
        is_private: bool = False,
    ) -> T:
        return _decoded(decoder, await self._ask(path, query, method=method, body=body, is_private=is_private))

    async def _ask(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        body: bytes = b"",
        is_private: bool = False,
    ) -> Answer:
        async def once() -> Answer:
            return await self._http.call(
                method,
                path,
                lane=Lane.READ,
                by_ns=self._patience_ns(),
                total_s=self._timeouts.read_total_s,
                query=query or {},
                body=body,
                is_private=is_private,
            )

        try:
            answer = await once()
        except NotSent:
            raise
        except Disconnected:
            # Most often an idle connection that they had just closed; a read may be asked twice.
            answer = await once()
        raise_for_status(answer, is_private=is_private)
        return answer

    def _patience_ns(self) -> Nanos:
        return Nanos(self._now_ns() + int(self._timeouts.patience_s * NANOS_PER_S))


def balance_query(token_id: TokenId | None, signature_type: int) -> dict[str, str]:
    """Ask for what a wallet holds of an asset: of a token, or of collateral when None."""
    asset = {"asset_type": balance_type(token_id)} | ({} if token_id is None else {"token_id": token_id})
    return asset | {"signature_type": str(signature_type)}


def _credentials(told: KeyAnswer) -> ApiCredentials:
    try:
        return ApiCredentials(api_key=told.apiKey, secret=told.secret, passphrase=told.passphrase)
    except ConfigError as error:
        raise ExchangeUnavailable(f"undecodable answer: {error}") from None


def raise_for_status(answer: Answer, *, is_private: bool) -> None:
    """Raise what an answer other than 200 means for a read.

    Args:
        answer: Of whatever status.
        is_private: Whether the request was signed. One that was not can say nothing about credentials: whoever answers
            it with 401 is somebody in between, or a server out of order.

    Raises:
        AuthenticationFailed: 401 to a signed request.
        Blocked: 403 from the edge.
        NotFound: 404.
        Restricted: 425, or a 503 that names a mode.
        RateLimited: 429.
        ExchangeUnavailable: Everything else.
    """
    told = f"{answer.status} {answer.complaint}" if answer.status != 200 else ""
    wait_s = RETRY_AFTER_S_DEFAULT if answer.retry_after_s is None else answer.retry_after_s
    match answer.status:
        case 200:
            return
        case 401 if is_private:
            raise AuthenticationFailed(f"{told}: check the API credentials and this machine's clock")
        case 404:
            raise NotFound(told)
        case 403 if answer.is_foreign:
            raise Blocked(f"{told}: the edge in front of the exchange refuses us")
        case 429:
            raise RateLimited(told, retry_after_s=wait_s)
        case 425 | 503 if (code := mode_code(answer)) is not RejectCode.UNAVAILABLE:
            raise Restricted(told, retry_after_s=wait_s, code=code)
        case _:
            raise ExchangeUnavailable(told)


def _decoded(decoder: msgspec.json.Decoder[T], answer: Answer) -> T:
    try:
        return decode(decoder, answer.content)
    except BadFrame as error:
        raise ExchangeUnavailable(f"undecodable answer: {error}") from error
