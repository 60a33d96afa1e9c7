"""REST over any Trio stream: the real HTTP stack without sockets, for byte-level simulations and tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import httpcore2
import httpx2
import trio
from httpcore2 import SOCKET_OPTION, AsyncNetworkBackend, AsyncNetworkStream

Connect = Callable[[], Awaitable[trio.abc.Stream]]


def stream_transport(connect: Connect) -> httpx2.AsyncHTTPTransport:
    """Make a transport whose connections come from a function.

    Args:
        connect: Opens a stream to the exchange; `OSError` means that there is no connection.
    """
    transport = httpx2.AsyncHTTPTransport(verify=False, trust_env=False)
    # The pool takes a network back end, but the transport offers no argument to pass one on.
    transport._pool = httpcore2.AsyncConnectionPool(  # noqa: SLF001
        network_backend=_Backend(connect), max_connections=20, max_keepalive_connections=20, keepalive_expiry=None
    )
    return transport


class _Backend(AsyncNetworkBackend):
    def __init__(self, connect: Connect) -> None:
        self._connect = connect

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109, RUF100 - as the library calls it
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        try:
            with trio.fail_after(timeout if timeout is not None else float("inf")):
                return _Stream(await self._connect())
        except trio.TooSlowError as error:
            raise httpcore2.ConnectTimeout from error
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore2.ConnectError(str(error)) from error

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


class _Stream(AsyncNetworkStream):
    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109, RUF100
        try:
            with trio.fail_after(timeout if timeout is not None else float("inf")):
                return bytes(await self._stream.receive_some(max_bytes))
        except trio.TooSlowError as error:
            raise httpcore2.ReadTimeout from error
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore2.ReadError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109, RUF100
        try:
            with trio.fail_after(timeout if timeout is not None else float("inf")):
                await self._stream.send_all(buffer)
        except trio.TooSlowError as error:
            raise httpcore2.WriteTimeout from error
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore2.WriteError(str(error)) from error

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)

    def get_extra_info(self, info: str) -> Any:
        # "is_readable" asks whether an idle connection was closed; a pipe cannot tell without reading.
        return False if info == "is_readable" else None
