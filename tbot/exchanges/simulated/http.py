"""HTTP/1.1 for the local exchange, on h11, over any Trio stream.

No socket is opened here: the same code serves loopback TCP and the in-memory pipes of a simulation in virtual time. It
knows nothing of trading. What a client may do wrong ends in a 4xx with a JSON body, or in a closed connection.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from urllib.parse import parse_qsl

import h11
import msgspec
import trio

from tbot.errors import TbotError

# The query limit of `parse_qsl`: more fields than any request of the protocol, few enough to parse in no time.
QUERY_FIELDS_MAX = 128
RECEIVE_BYTES = 65_536
LINGER_S = 1.0


class HttpLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one connection may ask of the server.

    Attributes:
        body_bytes_max: Largest request body; more is answered 413.
        header_bytes_max: Largest request line plus headers; more is answered 431.
        idle_s: Seconds a connection may be silent, between requests or inside one.
        request_s: Seconds a request may take to arrive whole, however busily it drips in.
        write_s: Seconds a client may take to read one answer before it is cut.
        hold_s: Seconds a request that is never answered keeps its connection.
    """

    body_bytes_max: int = 1 << 20
    header_bytes_max: int = 1 << 14
    idle_s: float = 75.0
    request_s: float = 30.0
    write_s: float = 10.0
    hold_s: float = 120.0


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request, as sent.

    Attributes:
        method: Upper case.
        path: Path as sent, without the query; never decoded or normalised, since signatures cover these very bytes.
        query: Decoded query fields; the last of a repeated field wins.
        headers: Names in lower case.
        body: Exact bytes.
        fields: Decoded query fields in order, repeated ones included.
        tail: Last path segment where the route ends in a parameter, else "".
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    tail: str = ""
    fields: tuple[tuple[str, str], ...] = ()

    def values(self, name: str) -> tuple[str, ...]:
        """Give every value of a repeated query field, in order."""
        return tuple(value for field, value in self.fields if field == name)


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """One answer. `body` is JSON unless `content_type` says otherwise."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"


class NoAnswer(Enum):
    """A request that gets no answer, on purpose (an injected fault)."""

    HOLD = "the connection stays open and silent"
    CUT = "the connection is closed at once"


class HttpRefusal(TbotError):
    """A request that is answered with an error; the client's fault or a state of the exchange, never a bug.

    Attributes:
        response: What the client gets.
    """

    def __init__(self, text: str, *, status: int = 400, headers: tuple[tuple[str, str], ...] = ()) -> None:
        """Make the answer `{"error": text}` with the headers given."""
        super().__init__(text)
        self.response = error_response(text, status=status, headers=headers)


Reply = Response | NoAnswer
Handler = Callable[[Request], Awaitable[Reply]]
Routes = Mapping[tuple[str, str], Handler]


def json_response(value: object, *, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """Encode a value as a JSON answer."""
    return Response(status=status, body=msgspec.json.encode(value), headers=headers)


def error_response(text: str, *, status: int = 400, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """Make the error shape used most: `{"error": text}`."""
    return json_response({"error": text}, status=status, headers=headers)


def dispatcher(routes: Routes, refuse: Callable[[str, str, int], Response]) -> Handler:
    """Turn a routing table into one handler.

    Args:
        routes: (method, path) -> handler; a path may end in "/{}", which matches one non-empty last segment. HEAD is
            answered like GET, and `serve_http` leaves out the body.
        refuse: Makes the answer to a path or method that is not there: of the path, a text and a status.
    """
    paths = {path for _, path in routes}

    async def dispatch(request: Request) -> Reply:
        head, _, tail = request.path.rpartition("/")
        pattern = f"{head}/{{}}"
        method = "GET" if request.method == "HEAD" else request.method
        try:
            if (handler := routes.get((method, request.path))) is not None:
                return await handler(request)
            if tail and (handler := routes.get((method, pattern))) is not None:
                return await handler(msgspec.structs.replace(request, tail=tail))
        except HttpRefusal as refusal:
            return refusal.response
        if request.path in paths or (tail and pattern in paths):
            return refuse(request.path, "method not allowed", 405)
        return refuse(request.path, "not found", 404)

    return dispatch


async def serve_http(stream: trio.abc.Stream, handler: Handler, limits: HttpLimits) -> None:
    """Serve one connection until either side ends it; the stream is closed on return.

    Args:
        stream: Any byte stream; owned from here on.
        handler: Gives the reply to each request, in order. Its exceptions go through to the caller.
        limits: Sizes and times.
    """
    connection = _Connection(stream, limits)
    async with stream:
        try:
            while await connection.serve_one(handler):
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            return  # the client left or stopped reading: there is nobody to tell


class _Connection:
    """h11's state machine and its stream."""

    def __init__(self, stream: trio.abc.Stream, limits: HttpLimits) -> None:
        self._stream = stream
        self._limits = limits
        self._due_s = math.inf
        self._is_head = False
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_bytes_max)

    async def serve_one(self, handler: Handler) -> bool:
        """Serve one request; tell whether another may follow on this connection."""
        try:
            head = await self._next_event()
            if not isinstance(head, h11.Request):
                return False
            self._is_head = head.method == b"HEAD"
            self._check_size(head)
            request = _request(head, await self._body())
        except HttpRefusal as refusal:
            await self._send(refusal.response, is_last=True)
            await self._linger()
            return False
        reply = await handler(request)
        if isinstance(reply, NoAnswer):
            await self._give_no_answer(reply)
            return False
        await self._send(reply, is_last=False)
        return self._start_next()

    def _check_size(self, head: h11.Request) -> None:
        # h11 counts only a head that is still incomplete: one that arrives in a single read would pass at any size.
        lines = sum(len(name) + len(value) + 4 for name, value in head.headers)
        if len(head.target) + lines > self._limits.header_bytes_max:
            raise HttpRefusal("request header fields too large", status=431)

    async def _next_event(self) -> object:
        """Read until h11 has an event; a connection idle between two requests just ends."""
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                raise HttpRefusal("malformed request", status=error.error_status_hint) from error
            if event is not h11.NEED_DATA:
                return event
            if self._h11.they_are_waiting_for_100_continue:
                await self._write(h11.InformationalResponse(status_code=100, headers=[]))
            self._h11.receive_data(await self._receive())

    async def _receive(self) -> bytes:
        is_between_requests = self._h11.their_state is h11.IDLE and not self._h11.trailing_data[0]
        left_s = self._limits.idle_s
        if is_between_requests:
            self._due_s = math.inf
        else:
            self._due_s = min(self._due_s, trio.current_time() + self._limits.request_s)
            left_s = min(left_s, max(self._due_s - trio.current_time(), 0.0))
        with trio.move_on_after(left_s):
            return bytes(await self._stream.receive_some(RECEIVE_BYTES))
        if is_between_requests:
            return b""
        raise HttpRefusal("request timeout", status=408)

    async def _body(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            event = await self._next_event()
            if not isinstance(event, h11.Data):
                return b"".join(parts)
            size += len(event.data)
            if size > self._limits.body_bytes_max:
                raise HttpRefusal("payload too large", status=413)
            parts.append(bytes(event.data))

    async def _send(self, response: Response, *, is_last: bool) -> None:
        if self._h11.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        headers = [
            ("content-type", response.content_type),
            ("content-length", str(len(response.body))),
            *response.headers,
            *([("connection", "close")] if is_last else []),
        ]
        head = self._h11.send(h11.Response(status_code=response.status, headers=headers))
        # The length is told all the same: that is what HEAD asks for.
        body = None if self._is_head else self._h11.send(h11.Data(data=response.body))
        end = self._h11.send(h11.EndOfMessage())
        # One write an answer: half of the system calls, and no answer is ever seen in part by a fast reader.
        await self._write_bytes((head or b"") + (body or b"") + (end or b""))

    async def _write(self, event: h11.InformationalResponse) -> None:
        await self._write_bytes(self._h11.send(event) or b"")

    async def _write_bytes(self, data: bytes) -> None:
        with trio.fail_after(self._limits.write_s):
            await self._stream.send_all(data)

    async def _give_no_answer(self, reply: NoAnswer) -> None:
        if reply is NoAnswer.HOLD:
            with trio.move_on_after(self._limits.hold_s):
                await self._read_to_end()

    async def _linger(self) -> None:
        """Read what the client still sends, for a moment: closing with unread bytes would destroy the answer (RST)."""
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()
        with trio.move_on_after(LINGER_S):
            await self._read_to_end()

    async def _read_to_end(self) -> None:
        while await self._stream.receive_some(RECEIVE_BYTES):
            pass

    def _start_next(self) -> bool:
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
            self._due_s, self._is_head = math.inf, False
            return True
        return False


def _request(head: h11.Request, body: bytes) -> Request:
    path, _, query = head.target.decode("ascii").partition("?")
    try:
        fields = parse_qsl(query, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX)
    except ValueError as error:
        raise HttpRefusal("malformed query", status=400) from error
    return Request(
        method=head.method.decode("ascii"),
        path=path,
        query=dict(fields),
        fields=tuple(fields),
        headers={name.decode("ascii"): value.decode("latin-1") for name, value in head.headers},
        body=body,
    )
