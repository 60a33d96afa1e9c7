"""`polymarket-client` in front of the exchange that was announced: what its sessions share."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.request import Request, urlopen

import polymarket
from polymarket import environments
from polymarket.errors import RequestRejectedError
from polymarket.models.clob.order_response import AcceptedOrder, OrderResponse

RAIN, COIN, QUIMBY = "rain-in-springfield-tomorrow", "coin-up-or-down-this-week", "springfield-mayor-quimby"
NOBODY = "springfield-mayor-nobody-else"
WALLETS = ("address", "proxy", "safe", "deposit")
PATIENCE_S = 20.0


class House:
    """The exchange that was announced, its markets by slug, and clients for the four wallets of the one test key."""

    def __init__(self, announced: dict[str, Any], *, is_async: bool) -> None:
        self.announced, self.is_async = announced, is_async
        self.account = announced["accounts"][0]
        self.wallets = {"address": self.account["address"], **self.account["wallets"]}
        self.environment = environments._create_environment(
            name="local",
            config=dataclasses.replace(
                environments.PRODUCTION._config,
                clob_url=announced["rest_url"],
                gamma_url=announced["gamma_url"],
                data_url=announced["data_url"],
                relayer_url=announced["relayer_url"],
                clob_market_ws_url=announced["ws_market_url"],
                clob_user_ws_url=announced["ws_user_url"],
                rpc_url=announced["rpc_url"],
                relayer_poll_frequency_ms=20,
            ),
        )

    @asynccontextmanager
    async def client(self, wallet: str | None = "address", **more: Any) -> AsyncIterator[Any]:
        """Log in for a wallet of the test key; None = the one that the client chooses by itself."""
        kind: Any = polymarket.AsyncSecureClient if self.is_async else polymarket.SecureClient
        client = await settled(
            kind.create(
                private_key=self.account["private_key"],
                wallet=None if wallet is None else self.wallets[wallet],
                environment=self.environment,
                **more,
            )
        )
        try:
            yield client
        finally:
            await settled(client.close())

    async def market(self, client: Any, slug: str) -> Market:
        found = await settled(client.get_market(slug=slug))
        outcomes = found.outcomes
        yes, no = (o.token_id or o.position_id for o in (outcomes.yes, outcomes.no))
        # Of a V2 market Gamma spells 31 bytes, the CLOB 32: it filters by its own spelling only.
        book = await settled(client.get_order_book(asset_id=yes))
        assert book.condition_id.startswith(found.condition_id)
        return Market(condition=book.condition_id, yes=yes, no=no, is_v2=found.version == "v2")

    def control(self, verb: str, **body: Any) -> None:
        url = f"{self.announced['rest_url']}/control/{verb}"
        with urlopen(Request(url, data=json.dumps(body).encode(), method="POST")) as answer:
            assert json.load(answer) == {"ok": True}


@dataclasses.dataclass(frozen=True)
class Market:
    condition: str
    yes: str
    no: str
    is_v2: bool


async def settled(value: Any) -> Any:
    """Give what either client returns: the value itself, or the value it is awaited for."""
    return await value if inspect.isawaitable(value) else value


async def first_page(paginator: Any) -> tuple[Any, ...]:
    items: tuple[Any, ...] = (await settled(paginator.first_page())).items
    return items


def accepted(response: OrderResponse) -> Any:
    """Give an accepted order; untyped, so that its decimals may be compared with whole numbers."""
    assert isinstance(response, AcceptedOrder), response
    return response


async def refusal(value: Callable[[], Any]) -> RequestRejectedError:
    try:
        answer = await settled(value())
    except RequestRejectedError as error:
        return error
    raise AssertionError(f"expected a refusal, got {answer}")


class Listener:
    """Takes events of one kind at a time from a stream; those of other kinds are kept, as kinds overtake each other."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self._kept: list[Any] = []

    async def next(self, kind: str) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            while not any(told.type == kind for told in self._kept):
                self._kept.append(await anext(self.stream))
        found = next(told for told in self._kept if told.type == kind)
        self._kept.remove(found)
        return found
