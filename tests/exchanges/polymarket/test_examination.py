"""The examination against the local exchange: all green, and each planted fault is one red line, its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import msgspec
import pytest
import trio

from tbot.core.risk import RiskLimits
from tbot.core.units import MICRO, NANOS_PER_S, Notional, Price, Size
from tbot.errors import AuthenticationFailed
from tbot.exchanges.polymarket import judgement
from tbot.exchanges.polymarket.credentials import WAITING
from tbot.exchanges.polymarket.examination import Examination, Reach
from tbot.exchanges.polymarket.judgement import Finding, Light
from tbot.exchanges.polymarket.keys import ApiCredentials
from tbot.exchanges.polymarket.order_rules import misfits
from tbot.exchanges.polymarket.pipes import stream_transport
from tbot.exchanges.polymarket.public import PublicMarkets
from tbot.exchanges.polymarket.settings import LimitSettings, PolymarketSettings
from tbot.exchanges.polymarket.wallets import WalletKind, wallets_of
from tbot.exchanges.simulated.rest_geoblock import PlaceSettings
from tbot.exchanges.simulated.standalone import public_accounts
from tests.contract.stage import EPOCH_NS, now_ns
from tests.exchanges.polymarket.local import PolymarketStage, polymarket

PLENTY = str(1 << 200)
LIMITS = RiskLimits(
    order_size_max=Size(20 * MICRO),
    position_size_max=Size(60 * MICRO),
    exposure_max=Notional(100 * MICRO),
    collar=Price(50_000),
    loss_max=Notional(10 * MICRO),
    open_orders_max=20,
)
Answer = Callable[[httpx2.Request], httpx2.Response | None]


class Tampered(httpx2.AsyncBaseTransport):
    """Answers what the fault says, and lets the exchange answer everything else."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, answer: Answer) -> None:
        self._inner, self._answer = inner, answer

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        planted = self._answer(request)
        return planted if planted is not None else await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


async def signs_well(_: PolymarketSettings) -> tuple[str, ...]:
    await trio.lowlevel.checkpoint()
    return ("order buy: body",)


async def signs_badly(_: PolymarketSettings) -> tuple[str, ...]:
    await trio.lowlevel.checkpoint()
    raise AuthenticationFailed("signing probe: order buy: body differs")


async def no_socket() -> trio.abc.Stream:
    await trio.lowlevel.checkpoint()
    raise OSError("no route")


def at(path: str, body: object, status: int = 200) -> Answer:
    return lambda request: httpx2.Response(status, json=body) if request.url.path == path else None


def never(_: httpx2.Request) -> httpx2.Response | None:
    return None


def held(kind: str, balance: str, allowed: str) -> Answer:
    def answer(request: httpx2.Request) -> httpx2.Response | None:
        if request.url.path != "/balance-allowance" or request.url.params["asset_type"] != kind:
            return None
        spenders = ("0xE111180000d2663C0091e4f400237545B87B996B", "0xe2222d279d744050d28e00520010520000310F59")
        return httpx2.Response(200, json={"balance": balance, "allowances": dict.fromkeys(spenders, allowed)})

    return answer


def dead(path: str) -> Answer:
    def answer(request: httpx2.Request) -> httpx2.Response | None:
        if request.url.path == path:
            raise httpx2.ConnectError("cut by the test", request=request)
        return None

    return answer


async def examined(
    stage: PolymarketStage,
    answer: Answer = never,
    *,
    changes: dict[str, Any] | None = None,
    probe: Callable[[PolymarketSettings], Awaitable[tuple[str, ...]]] = signs_well,
    has_sockets: bool = True,
    credentials: ApiCredentials | None = None,
    is_start: bool = False,
    on_wait: Callable[[str], None] = lambda _: None,
    limits: dict[str, int] | None = None,
) -> tuple[Finding, ...]:
    transport = Tampered(stream_transport(stage._piped(stage.server.serve_rest)), answer)
    return await Examination(
        msgspec.structs.replace(stage._settings, **(changes or {})),
        key=stage.key,
        credentials=credentials,
        is_play=True,
        is_start=is_start,
        on_wait=on_wait,
        limits=msgspec.structs.replace(LIMITS, **(limits or {})),
        now_ns=now_ns,
        reach=Reach(
            transport=transport,
            relayer=httpx2.MockTransport(lambda request: answer(request) or httpx2.Response(503)),
            market=stage._piped(stage.server.serve_websocket) if has_sockets else no_socket,
            probe=probe,
        ),
    ).findings()


def reds(found: tuple[Finding, ...]) -> list[str]:
    assert all(each.remedy for each in found if each.light is not Light.GREEN)
    return [each.check for each in found if each.light is Light.RED]


async def test_a_play_account_may_trade(autojump_clock: trio.testing.MockClock) -> None:
    async with polymarket() as stage:
        found = await examined(stage, at("/v1/user/rate-limit-tier", {"tier": "Standard"}))
    assert [(each.check, each.found) for each in found if each.light is not Light.GREEN] == []
    checks = {each.check for each in found}
    assert {"requests", "clock", "credentials", "balance", "feed", "allowance pUSD to Exchange V2"} <= checks
    assert "allowance Conditional Tokens to Exchange V2" in checks


def old(kind: str, balance: str, allowed: str) -> Answer:
    """Tell of an asset from an old cache until somebody asks for a newer one."""
    is_old, told = True, held(kind, balance, allowed)

    def answer(request: httpx2.Request) -> httpx2.Response | None:
        nonlocal is_old
        if request.url.path == "/balance-allowance/update" and request.url.params["asset_type"] == kind:
            is_old = False
        return told(request) if is_old else None

    return answer


@pytest.mark.parametrize("fault", [old("COLLATERAL", "0", "0"), old("CONDITIONAL", "0", "0")], ids=["money", "shares"])
async def test_an_old_cache_of_the_exchange_keeps_nobody_from_trading(
    fault: Answer, autojump_clock: trio.testing.MockClock
) -> None:
    async with polymarket() as stage:
        assert reds(await examined(stage, fault)) == []


async def test_a_cache_that_cannot_be_read_anew_is_named_beside_the_deposit(
    autojump_clock: trio.testing.MockClock,
) -> None:
    poor, closed = held("COLLATERAL", "0", PLENTY), at("/balance-allowance/update", {"error": "later"}, 503)
    async with polymarket() as stage:
        found = await examined(stage, lambda request: poor(request) or closed(request))
    (red_line,) = [each for each in found if each.light is Light.RED]
    assert red_line.check == "balance"
    assert red_line.remedy.startswith("Deposit ")
    assert red_line.remedy.endswith("wait: the exchange tells from an old cache.")


FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("requests", {"answer": dead("/time")}),
    ("clock", {"answer": at("/time", EPOCH_NS // NANOS_PER_S + 60)}),
    ("order version", {"answer": at("/version", {"version": 4})}),
    ("credentials", {"answer": at("/auth/derive-api-key", {"error": "Could not derive api key!"}, 400)}),
    ("credentials", {"answer": at("/auth/ban-status/closed-only", {"error": "Unauthorized/Invalid api key"}, 401)}),
    ("standing", {"answer": at("/auth/ban-status/closed-only", {"closed_only": True})}),
    ("balance", {"answer": held("COLLATERAL", "0", PLENTY)}),
    ("allowance pUSD to Exchange V2", {"answer": held("COLLATERAL", "1000000000", "99999999")}),
    ("allowance Conditional Tokens to Exchange V2", {"answer": held("CONDITIONAL", "0", "0")}),
    (
        "rate tier",
        {
            "answer": at("/v1/user/rate-limit-tier", {"tier": "Standard"}),
            "changes": {"limits": LimitSettings(orders_per_s=41.0)},
        },
    ),
    ("markets", {"changes": {"condition_ids": ()}}),
    ("markets", {"changes": {"slugs": ("nobody-asked",), "gamma_url": "http://exchange.test/gamma"}}),
    ("markets", {"changes": {"slugs": ("comet-returns-this-year",), "gamma_url": "http://exchange.test/none"}}),
    ("limits", {"limits": {"order_life_s": 60}}),
    ("limits", {"limits": {"order_size_max": 4_999_999}}),
    ("signing", {"probe": signs_badly}),
    ("feed", {"has_sockets": False}),
]


@pytest.mark.parametrize(("line", "fault"), FAULTS, ids=[f"{i}-{line}" for i, (line, _) in enumerate(FAULTS)])
async def test_a_fault_is_one_red_line(
    line: str, fault: dict[str, Any], autojump_clock: trio.testing.MockClock
) -> None:
    async with polymarket() as stage:
        assert reds(await examined(stage, **fault)) == [line]


@pytest.mark.parametrize(
    ("limits", "is_fit"),
    [
        ({"order_life_s": 0}, True),
        ({"order_life_s": 129}, False),
        ({"order_life_s": 130}, True),
        ({"order_size_max": 5_000_000}, True),
        ({"order_life_s": 1, "order_size_max": 1}, False),
    ],
)
async def test_the_line_of_the_limits_names_every_key_that_keeps_from_trading(
    limits: dict[str, int], is_fit: bool, autojump_clock: trio.testing.MockClock
) -> None:
    async with polymarket() as stage:
        (line,) = [each for each in await examined(stage, limits=limits) if each.check == "limits"]
    assert (line.light is Light.GREEN) == is_fit
    assert is_fit or all(f"limits.{key}: expected" in line.found for key in limits)


async def test_the_size_must_suit_the_strictest_market() -> None:
    async with polymarket() as stage:
        easy = stage.market
    strict = msgspec.structs.replace(easy, slug="strict", size_min=Size(15 * MICRO))
    assert misfits(LIMITS, [easy, strict, easy]) == ()
    (misfit,) = misfits(msgspec.structs.replace(LIMITS, order_size_max=Size(14_500_000)), [easy, strict, easy])
    assert misfit == 'limits.order_size_max: expected at least "15", the smallest order of strict, found "14.5"'


async def test_a_place_that_is_not_served_is_red(autojump_clock: trio.testing.MockClock) -> None:
    async with polymarket() as stage:
        assert await stage.gateway.can_trade() == ""
        stage.server._state.place.told = PlaceSettings(blocked=True, country="US")
        assert reds(await examined(stage)) == ["geoblock"]
        assert await stage.gateway.can_trade() == "the exchange does not serve this place (US)"


async def test_credentials_of_the_environment_are_the_ones_examined(autojump_clock: trio.testing.MockClock) -> None:
    forged = ApiCredentials(api_key="made-up", secret="AAAA", passphrase="hush-hush")
    async with polymarket() as stage:
        assert reds(await examined(stage, credentials=stage.credentials)) == []
        assert reds(await examined(stage, credentials=forged)) == ["credentials"]


async def test_a_market_nobody_knows_is_named(autojump_clock: trio.testing.MockClock) -> None:
    unknown = "0x" + "00" * 32
    async with polymarket() as stage:
        ids = (*stage._settings.condition_ids, unknown)
        assert reds(await examined(stage, changes={"condition_ids": ids})) == [f"market {unknown}"]


async def test_unknown_names_hide_nothing_of_the_markets_that_exist(autojump_clock: trio.testing.MockClock) -> None:
    unknown = "0x" + "00" * 32
    async with polymarket() as stage:
        known = stage._settings.condition_ids
        changes = {
            "condition_ids": (unknown, known[0]),
            "slugs": ("nobody-asked", stage.exchange.markets()[1].slug, "nor-this"),
            "gamma_url": "http://exchange.test/gamma",
        }
        found = await examined(stage, changes=changes)
    assert reds(found) == [f"market {unknown}", "markets", "markets"]
    lights = [each.light for each in found if each.check.startswith("market ")]
    assert lights.count(Light.GREEN) == 2
    checks = {each.check: each.light for each in found}
    assert checks["feed"] is checks["balance"] is checks["allowance pUSD to Exchange V2"] is Light.GREEN
    assert len(judgement.hindrances(found, has_traded=True)) == 3


@pytest.mark.parametrize("kind", [1, 2, 3])
async def test_the_relayer_of_production_is_never_asked_about_a_wallet_of_a_local_exchange(
    kind: int, autojump_clock: trio.testing.MockClock
) -> None:
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response | None:
        asked.append(request.url.host)
        return at("/deployed", {"deployed": True})(request)

    async with polymarket() as stage:
        funder = wallets_of(stage.key.address).of(WalletKind(kind))
        changes = {"signature_type": kind, "funder": funder, "rest_url": "http://127.0.0.1:8137"}
        found = await examined(stage, answer, changes=changes)
        assert set(asked) <= {"127.0.0.1", "exchange.test"}
        (line,) = [each for each in found if each.check == "wallet contract"]
        assert (line.light, "the relayer elsewhere" in line.found) == (Light.YELLOW, True)
        assert "exchange.relayer_url" in line.remedy
        found = await examined(stage, answer, changes=changes | {"relayer_url": "http://127.0.0.1:8138"})
        assert next(each.light for each in found if each.check == "wallet contract") is Light.GREEN


async def test_every_doubt_names_its_own_remedy(autojump_clock: trio.testing.MockClock) -> None:
    def everything_fails(request: httpx2.Request) -> httpx2.Response | None:
        return httpx2.Response(503, json={"error": "down"})

    async with polymarket() as stage:
        changes = {"signature_type": 3, "funder": wallets_of(stage.key.address).deposit}
        down = {each.check: each.remedy for each in await examined(stage, everything_fails, changes=changes)}
        lost = {each.check: each.remedy for each in await examined(stage, changes={"signature_type": 3})}
        off = at("/time", EPOCH_NS // NANOS_PER_S + 60)
        early = {each.check: each.remedy for each in await examined(stage, off, is_start=True)}
    assert "exchange.rest_url" in down["clock"]
    assert "exchange.geoblock_url" in down["geoblock"]
    assert "exchange.relayer_url" in down["wallet contract"]
    assert "condition_ids" in down["feed"]
    assert all("exchange.funder" in lost[check] for check in ("signing", "wallet contract", "balance"))
    assert early["credentials"] == "Mend clock first."


async def test_a_market_named_twice_is_one_line(autojump_clock: trio.testing.MockClock) -> None:
    async with polymarket() as stage:
        slug = stage.market.slug
        changes = {"slugs": (slug,), "gamma_url": "http://exchange.test/gamma"}
        lines = [each.check for each in await examined(stage, changes=changes)]
        assert lines.count(f"market {slug}") == 1
        only = [each.check for each in await examined(stage, changes=changes | {"condition_ids": ()})]
        assert [line for line in only if line.startswith("market ")] == [f"market {slug}"]


async def test_a_funder_of_another_kind_is_the_wallets_line(autojump_clock: trio.testing.MockClock) -> None:
    async with polymarket() as stage:
        safe = wallets_of(stage.key.address).safe
        assert reds(await examined(stage, changes={"funder": safe})) == ["wallet"]


@pytest.mark.parametrize("kind", [1, 2, 3])
async def test_a_wallet_that_nobody_named_is_one_red_line(autojump_clock: trio.testing.MockClock, kind: int) -> None:
    async with polymarket() as stage:
        nothing = held("COLLATERAL", "0", "0")
        found = await examined(stage, nothing, changes={"signature_type": kind, "funder": ""}, probe=signs_badly)
    assert reds(found) == ["wallet"]
    (wallet,) = (each for each in found if each.check == "wallet")
    assert wallets_of(stage.key.address).of(WalletKind(kind)) in wallet.remedy


@pytest.mark.parametrize("is_deployed", [True, False])
async def test_a_wallet_without_a_contract_is_red(is_deployed: bool, autojump_clock: trio.testing.MockClock) -> None:
    rich = held("COLLATERAL", "1000000000", PLENTY)
    deployed = at("/deployed", {"deployed": is_deployed})
    async with polymarket() as stage:
        wallet = {"signature_type": 3, "funder": wallets_of(stage.key.address).deposit}
        changes = wallet | {"relayer_url": "http://relayer.test"}
        found = await examined(stage, lambda request: rich(request) or deployed(request), changes=changes)
    assert reds(found) == ([] if is_deployed else ["wallet contract"])


async def test_a_dead_geoblock_service_is_a_doubt_and_hides_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with polymarket() as stage:
        found = await examined(stage, dead("/api/geoblock"))
    (doubt,) = [each for each in found if each.check == "geoblock"]
    assert doubt.light is Light.YELLOW
    assert reds(found) == []


def test_every_public_account_is_refused_outside_play() -> None:
    for account in public_accounts():
        assert judgement.judge_key(account.address, is_play=False).light is Light.RED
        assert judgement.judge_key(account.address, is_play=True).light is Light.GREEN
    assert len(judgement.WELL_KNOWN) == len(public_accounts())


@pytest.mark.parametrize(
    ("ahead_s", "light", "told"),
    [
        (0, Light.GREEN, "exchange's"),
        (12, Light.GREEN, "corrected"),
        (-29, Light.GREEN, "corrected"),
        (31, Light.RED, "30 s"),
    ],
)
async def test_doctor_and_bot_agree_on_the_clock(
    ahead_s: int, light: Light, told: str, autojump_clock: trio.testing.MockClock
) -> None:
    their_time = at("/time", EPOCH_NS // NANOS_PER_S + ahead_s)
    async with polymarket() as stage:
        clock = next(each for each in await examined(stage, their_time) if each.check == "clock")
        assert (clock.light, told in clock.found) == (light, True)
        transport = Tampered(stream_transport(stage._piped(stage.server.serve_rest)), their_time)
        public = PublicMarkets(stage._settings, now_ns=now_ns, transport=transport, connect=no_socket)
        assert bool(await public.can_trade()) == (light is Light.RED)
        await public.aclose()


async def test_before_a_start_new_credentials_are_made_and_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    asked: list[str] = []

    def refuse_at_first(request: httpx2.Request) -> httpx2.Response | None:
        asked.append(f"{request.method} {request.url.path}")
        if request.url.path == "/auth/derive-api-key" and "POST /auth/api-key" not in asked:
            return httpx2.Response(400, json={"error": "Could not derive api key!"})
        if request.url.path == "/auth/api-key":
            return httpx2.Response(200, json=issued)
        is_new = request.url.path == "/auth/ban-status/closed-only" and trio.current_time() < 100
        return httpx2.Response(401, json={"error": "Unauthorized/Invalid api key"}) if is_new else None

    async with polymarket() as stage:
        issued = {
            "apiKey": stage.credentials.api_key,
            "secret": stage.credentials.secret,
            "passphrase": stage.credentials.passphrase,
        }
        told: list[str] = []
        assert reds(await examined(stage, refuse_at_first, is_start=True, on_wait=told.append)) == []
        assert told == [WAITING]
        assert 100 <= trio.current_time() < 130
        assert asked.count("POST /auth/api-key") == 1
        asked.clear()
        blocked = at("/version", {"version": 4})
        found = await examined(
            stage, lambda r: refuse_at_first(r) if r.url.path != "/version" else blocked(r), is_start=True
        )
        assert reds(found) == ["order version"]
        assert "POST /auth/api-key" not in asked  # nothing is created for a bot that could not trade anyway
        asked.clear()
        found = await examined(stage, refuse_at_first, is_start=True, limits={"order_size_max": 4_999_999})
        assert reds(found) == ["limits"]
        assert "POST /auth/api-key" not in asked


def test_slow_requests_are_red() -> None:
    assert judgement.judge_latency([0.01] * 9 + [5.0]).light is Light.GREEN
    assert judgement.judge_latency([1.2] * 10).light is Light.RED


def test_every_red_line_hinders_a_start_but_what_a_running_bot_may_meet() -> None:
    red, green = judgement.red, judgement.green
    shut, other = red("market a", "takes no orders", "Take it out."), green("market b", "takes orders")
    empty, blocked = red("balance", "$0.00", "Deposit."), red("geoblock", "not served", "Do not trade from here.")
    doubt = judgement.yellow("rate tier", "not told", "Keep the defaults.")
    hindrances = judgement.hindrances
    assert hindrances([doubt, other], has_traded=False) == ()
    assert hindrances([doubt, empty, blocked, shut, other], has_traded=False) == (empty, blocked)
    assert hindrances([empty, blocked, shut], has_traded=True) == (blocked, shut)
    unknown = red("market c", "the exchange does not know it", "Take it out.")
    assert hindrances([unknown, other], has_traded=True) == (unknown,)
    assert hindrances([red("markets", "none is named", "Name some."), other], has_traded=True) != ()
