"""One request and its answer: gate, headers, time limits, and library exceptions turned into ours.

The one distinction that matters for a write is kept sharp: `NotSent` means that the exchange surely never saw it;
any other failure leaves its outcome open. No transport-level retries: only the caller knows what may be repeated.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

import httpx2
import msgspec
import trio

from tbot.core.exchange_mode import believed_wait_s
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.errors import BadFrame, Disconnected, TimedOut
from tbot.exchanges.polymarket.auth import RequestSigner
from tbot.exchanges.polymarket.limits import Lane, RateGate
from tbot.exchanges.polymarket.retry_after import RETRY_AFTER_S_DEFAULT, header_wait_s
from tbot.exchanges.polymarket.settings import TimeoutSettings
from tbot.exchanges.polymarket.tls import tls_context
from tbot.exchanges.polymarket.wire import Complaint, decode

USER_AGENT = "tbot"
CONNECTIONS_MAX = 20
# Longer than the 5 s default, as a new TLS connection costs more than a round trip; shorter than the usual 60 s at
# which servers drop idle ones, so that we are seldom the one to find out.
KEEPALIVE_S = 55.0
# Four times what a hundred full books are; an answer without an end would fill the memory.
ANSWER_BYTES_MAX = 32 << 20
CLOSE_S = 1.0

_REMAINING, _RESET, _WARNING = (f"poly-ratelimit-{name}" for name in ("remaining", "reset", "warning"))
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_NEVER_LEFT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
_COMPLAINT = msgspec.json.Decoder(Complaint)


class NotSent(Disconnected):
    """No connection could be made: the request never left this machine."""


class NotAdmitted(NotSent):
    """Refused at the door while there is no time to sign by, which may be why: nobody looked at it."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came back, whole.

    Attributes:
        status: HTTP status.
        content: Body, as sent.
        retry_after_s: Wait the exchange asks for, from header or body, as far as it is believed (see
            `core.exchange_mode.believed_wait_s`); None when it names none.
    """

    status: int
    content: bytes
    retry_after_s: float | None = None

    @property
    def complaint(self) -> str:
        """The error text; the beginning of the body when it is not one of their error shapes."""
        try:
            return decode(_COMPLAINT, self.content).text
        except BadFrame:
            return self.content[:200].decode("utf-8", "replace")

    @property
    def is_foreign(self) -> bool:
        """Whether the body is none of the exchange's own shapes, so that somebody else answered for it."""
        try:
            return not decode(_COMPLAINT, self.content).text
        except BadFrame:
            return True


class StampDoubt(Protocol):
    """Who can tell whether a request was refused for the time it was stamped with."""

    @property
    def corrected_ns(self) -> int:
        """By how much stamps are corrected now; a change of it means that another stamp may do."""
        ...

    async def recheck(self) -> bool:
        """Measure that anew at once, and tell whether it is right now; without an answer it stays as it is."""
        ...


class _Received(NamedTuple):
    status_code: int
    headers: httpx2.Headers
    content: bytes


class Http:
    """A pool of HTTP/1.1 connections to one host, behind the rate gate. One for each restart unit."""

    def __init__(
        self,
        base_url: str,
        *,
        gate: RateGate,
        timeouts: TimeoutSettings,
        now_ns: Callable[[], Nanos],
        signer: RequestSigner | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
        doubt: StampDoubt | None = None,
    ) -> None:
        """Prepare the pool; nothing is connected yet.

        Args:
            base_url: Scheme, host and port.
            gate: Shared by all requests of one account.
            timeouts: Bounds of every wait.
            now_ns: Wall time, for signatures.
            signer: Signs private requests; None where there are none.
            transport: For tests and simulations; None = sockets.
            doubt: Asked when a signed request is refused; None = nobody is.
        """
        bounds = httpx2.Timeout(
            connect=timeouts.connect_s, read=timeouts.read_s, write=timeouts.write_s, pool=timeouts.pool_s
        )
        # No proxy from the environment and no redirect: a signed request goes where the settings say, or nowhere.
        self._client = httpx2.AsyncClient(
            base_url=base_url,
            timeout=bounds,
            headers={"User-Agent": USER_AGENT},
            trust_env=False,
            follow_redirects=False,
            transport=transport or _sockets(base_url),
        )
        self._gate = gate
        self._now_ns = now_ns
        self._signer = signer
        self._doubt = doubt

    async def call(
        self,
        method: str,
        path: str,
        *,
        lane: Lane,
        by_ns: Nanos,
        total_s: float,
        body: bytes = b"",
        query: Mapping[str, str] = _NO_HEADERS,
        headers: Mapping[str, str] = _NO_HEADERS,
        is_private: bool = False,
        cost: int = 1,
    ) -> Answer:
        """Send one request and read its whole answer.

        A 401 says that credentials or time are wrong. If the time is, the request goes once more with the right one:
        nobody looked at what it asks for. While no right one is to be had, it says nothing of the credentials.

        Args:
            method: Upper case.
            path: Begins with a slash; the query is not signed.
            lane: Kind of request at the gate.
            by_ns: Not sent after this.
            total_s: Bound of sending and reading together; waiting at the gate is not counted.
            body: Exact bytes.
            query: Parameters.
            headers: More headers.
            is_private: Sign it.
            cost: Tokens at the gate.

        Raises:
            RateLimited: It could not leave in time, and was not sent.
            NotSent: No connection; not sent.
            NotAdmitted: Refused while the right time is not known, or differs by more than is followed.
            TimedOut: No whole answer in time.
            Disconnected: The connection broke under it.
        """

        async def once() -> Answer:
            await self._gate.enter(lane, cost, by_ns=by_ns, path=(method, path))
            request = self._client.build_request(
                method,
                path,
                params=dict(query),
                content=body,
                headers={**headers, **self._auth(method, path, body, is_private=is_private)},
            )
            return self._answer(await self._exchange(request, total_s), lane)

        if self._doubt is None or not is_private:
            return await once()
        corrected_ns, answer = self._doubt.corrected_ns, await once()
        if answer.status != 401:
            return answer
        is_time_right = await self._doubt.recheck()
        if self._doubt.corrected_ns != corrected_ns:
            return await once()
        if not is_time_right:
            raise NotAdmitted(f"{method} {path}: {answer.complaint}, and no time to sign it by")
        return answer

    async def aclose(self) -> None:
        """Close all connections, within a second whatever the far side does."""
        with trio.move_on_after(CLOSE_S, shield=True):
            await self._client.aclose()

    def _auth(self, method: str, path: str, body: bytes, *, is_private: bool) -> dict[str, str]:
        headers = {"Content-Type": "application/json"} if body else {}
        if not is_private:
            return headers
        assert self._signer is not None, "a private request needs credentials"
        stamp_s = self._now_ns() // NANOS_PER_S
        return headers | self._signer.headers(method, path, body, timestamp_s=stamp_s)

    async def _exchange(self, request: httpx2.Request, total_s: float) -> _Received:
        name = f"{request.method} {request.url.path}"
        try:
            with trio.fail_after(total_s):
                return await self._whole(await self._client.send(request, stream=True), name)
        except _NEVER_LEFT as error:
            raise NotSent(f"{name}: {type(error).__name__} {error}") from error
        except (httpx2.TimeoutException, trio.TooSlowError) as error:
            raise TimedOut(f"{name}: {type(error).__name__}") from error
        except httpx2.LocalProtocolError:
            # Its text quotes the header it dislikes, which may be a secret; so does the chained traceback.
            raise Disconnected(f"{name}: LocalProtocolError, a request that cannot be sent as it is") from None
        except httpx2.RequestError as error:
            raise Disconnected(f"{name}: {type(error).__name__} {error}") from error

    async def _whole(self, response: httpx2.Response, name: str) -> _Received:
        """Read an answer to its end, or to the size at which it cannot be one of theirs.

        Raises:
            Disconnected: It is too long; the connection is closed.
        """
        content = bytearray()
        try:
            # Cancelled from inside, so that every generator of the library below us comes to its end.
            with trio.CancelScope() as reading:
                async for piece in response.aiter_bytes():
                    content += piece
                    if len(content) > ANSWER_BYTES_MAX:
                        reading.cancel()
        finally:
            with trio.move_on_after(CLOSE_S, shield=True):
                await response.aclose()
        if len(content) > ANSWER_BYTES_MAX:
            raise Disconnected(f"{name}: an answer of more than {ANSWER_BYTES_MAX >> 20} MiB")
        return _Received(response.status_code, response.headers, bytes(content))

    def _answer(self, response: _Received, lane: Lane) -> Answer:
        content = response.content
        self._gate.learn_tier(response.headers.get("poly-ratelimit-tier", ""))
        is_refusal = response.status_code >= 400
        retry_after_s = _retry_after_s(response.headers, content, self._now_ns()) if is_refusal else None
        is_warning = response.headers.get(_WARNING, "").strip().lower() == "true"
        if response.status_code == 429 or is_warning:
            # A warning would have been a refusal, and will be one when the exchange is done with warning.
            wait_s = self._reset_s(response.headers) if retry_after_s is None else retry_after_s
            retry_after_s = wait_s if response.status_code == 429 else retry_after_s
            self._gate.close(lane, RETRY_AFTER_S_DEFAULT if wait_s is None else wait_s)
        if lane in (Lane.CANCEL, Lane.ORDER) and (left := _number(response.headers.get(_REMAINING, ""))) is not None:
            self._gate.learn(lane, left)
        return Answer(status=response.status_code, content=content, retry_after_s=retry_after_s)

    def _reset_s(self, headers: httpx2.Headers) -> float | None:
        """Read when there will be tokens enough, in seconds from now; only a refusal or a warning means that by it."""
        told_s = _number(headers.get(_RESET, ""))
        return None if told_s is None else believed_wait_s(told_s - self._now_ns() / NANOS_PER_S)


def _number(text: str) -> int | None:
    """Read a whole number of a header; None when it is none, or none of a sane length."""
    digits = text.strip().removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) < 12 else None


def _sockets(base_url: str) -> httpx2.AsyncHTTPTransport:
    limits = httpx2.Limits(
        max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX, keepalive_expiry=KEEPALIVE_S
    )
    # Loading the system's certificates takes tens of milliseconds: not for plain loopback.
    verify: ssl.SSLContext | bool = tls_context() if base_url.startswith("https:") else False
    return httpx2.AsyncHTTPTransport(verify=verify, trust_env=False, http2=False, limits=limits, retries=0)


def _retry_after_s(headers: httpx2.Headers, content: bytes, now_ns: Nanos) -> float | None:
    """Read the wait asked for: the header, else the field of the body."""
    wait_s = header_wait_s(headers.get("retry-after", ""), now_ns)
    if wait_s is not None:
        return wait_s
    try:
        told = decode(_COMPLAINT, content).retry_after_seconds
    except BadFrame:
        return None
    return None if told is None or told.is_nan() else believed_wait_s(float(told))
