"""Signed requests go where they are allowed to, encrypted, straight, and nowhere else."""

from __future__ import annotations

import random
import ssl
from pathlib import Path

import httpx2
import pytest
import trio
import trio.testing

from tbot.errors import ConfigError, ExchangeUnavailable
from tbot.exchanges.polymarket.credentials import obtain_credentials
from tbot.exchanges.polymarket.gateway import PolymarketGateway
from tbot.exchanges.polymarket.hosts import OFFICIAL, check_addresses
from tbot.exchanges.polymarket.http import Http
from tbot.exchanges.polymarket.limits import RateGate
from tbot.exchanges.polymarket.public import PublicMarkets
from tbot.exchanges.polymarket.rest import Rest
from tbot.exchanges.polymarket.settings import LimitSettings, PolymarketSettings, TimeoutSettings
from tbot.exchanges.polymarket.sockets import tcp_connector
from tests.contract.stage import now_ns
from tests.exchanges.polymarket.answers import CONDITION, CREDENTIALS, KEY


@pytest.mark.parametrize(
    "address",
    [
        *(f"https://{host}" for host in OFFICIAL),
        "wss://ws-subscriptions-clob.polymarket.com/ws/user",
        "http://127.0.0.1:8080",
        "ws://[::1]:1/ws",
        "http://localhost",
        "",
    ],
)
def test_official_hosts_and_this_machine_are_reached(address: str) -> None:
    check_addresses({"rest_url": address})


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("https://clob.polymarket.com.evil.test", "hosts_allowed"),
        ("https://evil.test/clob.polymarket.com", "hosts_allowed"),
        ("https://clob.polymarket.com@evil.test", "expected an address"),
        ("https://127.0.0.1.evil.test", "hosts_allowed"),
        ("http://clob.polymarket.com", "in clear"),
        ("ws://ws-subscriptions-clob.polymarket.com/ws/user", "in clear"),
        ("ftp://clob.polymarket.com", "expected an address"),
        ("clob.polymarket.com", "expected an address"),
        ("https://10.0.0.1", "hosts_allowed"),
        ("https://[bad", "no address"),
        ("http://127.0.0.1:99999", "no address"),
    ],
)
def test_other_addresses_are_refused_by_the_name_of_their_setting(address: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as refusal:
        check_addresses({"rest_url": address})
    assert str(refusal.value).startswith("rest_url: ")


async def test_no_gateway_over_real_sockets_is_made_for_a_stranger() -> None:
    for field in ("rest_url", "ws_market_url", "ws_user_url", "geoblock_url", "gamma_url"):
        scheme = "wss" if "ws" in field else "https"
        settings = PolymarketSettings(condition_ids=(CONDITION,), **{field: f"{scheme}://evil.test"})  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=field):
            PolymarketGateway(settings, key=KEY, credentials=CREDENTIALS, now_ns=now_ns, rng=random.Random(1))
        with pytest.raises(ConfigError, match=field):
            await obtain_credentials(settings, key=KEY, now_ns=now_ns)


def test_a_host_on_the_list_of_the_settings_is_reached() -> None:
    settings = PolymarketSettings(
        condition_ids=(CONDITION,), rest_url="https://sandbox.test", hosts_allowed=("sandbox.test", *OFFICIAL)
    )
    PolymarketGateway(settings, key=KEY, credentials=CREDENTIALS, now_ns=now_ns, rng=random.Random(1))


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:9/geo", "https://polymarket.com/other", "https://sandbox.test/"])
def test_beyond_this_machine_nobody_trades_without_the_official_geoblock(url: str) -> None:
    official = PolymarketSettings(hosts_allowed=("sandbox.test", *OFFICIAL), geoblock_url=url)
    sandbox = PolymarketSettings(
        hosts_allowed=official.hosts_allowed, geoblock_url=url, rest_url="https://sandbox.test"
    )
    for settings in (official, sandbox):
        with pytest.raises(ConfigError, match=r"^geoblock_url: expected https://polymarket\.com/"):
            PublicMarkets(settings, now_ns=now_ns)


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:9/geo", "https://polymarket.com/api/geoblock"])
def test_an_exchange_on_this_machine_may_ask_elsewhere_or_nobody(url: str) -> None:
    PublicMarkets(PolymarketSettings(rest_url="http://127.0.0.1:9", geoblock_url=url), now_ns=now_ns)


def http_to(url: str) -> Http:
    return Http(url, gate=RateGate(LimitSettings(), now_ns), timeouts=TimeoutSettings(), now_ns=now_ns)


async def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody listens
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, _answer_time, 0)
        port = listeners[0].socket.getsockname()[1]
        http = http_to(f"http://127.0.0.1:{port}")
        assert await Rest(http, timeouts=TimeoutSettings(), now_ns=now_ns).time_s() == 17
        await http.aclose()
        nursery.cancel_scope.cancel()


async def test_no_key_log_is_written_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(path))
    assert ssl.create_default_context().keylog_filename == str(path)  # what a library would do
    path.unlink()
    transport = http_to("https://clob.polymarket.com")._client._transport
    assert isinstance(transport, httpx2.AsyncHTTPTransport)
    context = transport._pool._ssl_context
    assert context is not None
    assert not context.keylog_filename
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, _answer_time, 0)
        stream = await tcp_connector(f"wss://127.0.0.1:{listeners[0].socket.getsockname()[1]}/ws")()
        assert isinstance(stream, trio.SSLStream)
        await trio.aclose_forcefully(stream)
        nursery.cancel_scope.cancel()
    assert not path.exists()  # it is made together with a context that obeys


async def _answer_time(stream: trio.SocketStream) -> None:
    await stream.receive_some(4_096)
    await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n17")


async def test_a_server_without_a_certificate_is_not_believed() -> None:
    transport = http_to("https://clob.polymarket.com")._client._transport
    assert isinstance(transport, httpx2.AsyncHTTPTransport)
    context = transport._pool._ssl_context
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, _answer_time, 0)
        http = http_to(f"https://127.0.0.1:{listeners[0].socket.getsockname()[1]}")
        with pytest.raises(ExchangeUnavailable):
            await Rest(http, timeouts=TimeoutSettings(), now_ns=now_ns).time_s()
        await http.aclose()
        nursery.cancel_scope.cancel()
