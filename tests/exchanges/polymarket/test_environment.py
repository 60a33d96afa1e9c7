"""Credentials that no request can carry are refused when they are read, and never quoted by anybody."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
import trio.testing

from tbot.errors import ConfigError, Disconnected, ExchangeUnavailable
from tbot.exchanges.polymarket.environment import api_credentials_of, secrets_of
from tbot.exchanges.polymarket.http import Http
from tbot.exchanges.polymarket.keys import TEST_KEY_HEX, ApiCredentials
from tbot.exchanges.polymarket.limits import Lane, RateGate
from tbot.exchanges.polymarket.pipes import stream_transport
from tbot.exchanges.polymarket.settings import LimitSettings, TimeoutSettings
from tests.contract.stage import now_ns
from tests.exchanges.polymarket.answers import KEY, answering, gateway_of
from tests.exchanges.polymarket.test_transport import mute

WHOLE = {"TBOT_API_KEY": "key-1-of-us", "TBOT_API_SECRET": "c2VjcmV0c2VjcmV0", "TBOT_API_PASSPHRASE": "hush-hush-hush"}
SPOILT = ["{}\r", "{}\n", " {}", "{} {}", "{}\t", "{}\x00", "{}\x7f", "{}\u00e9", "{}\udc80", "\u201c{}\u201d"]


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("shape", SPOILT)
def test_what_no_header_carries_is_refused_by_the_name_of_its_variable(name: str, shape: str) -> None:
    spoilt = shape.replace("{}", WHOLE[name])
    with pytest.raises(ConfigError, match=f"^{name}: expected printable ASCII") as refusal:
        api_credentials_of(WHOLE | {name: spoilt})
    assert WHOLE[name] not in "".join(traceback.format_exception(refusal.value))


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_one_line_end_of_a_file_is_no_part_of_its_secret(tmp_path: Path, end: str) -> None:
    path = tmp_path / "passphrase"
    path.write_bytes(b"hush-hush-hush" + end.encode())
    path.chmod(0o600)
    given = {name: value for name, value in WHOLE.items() if "PASSPHRASE" not in name}
    found = api_credentials_of(given | {"TBOT_API_PASSPHRASE_FILE": str(path)})
    assert found is not None
    assert found.passphrase == "hush-hush-hush"


@pytest.mark.parametrize("part", ["apiKey", "secret", "passphrase"])
async def test_credentials_of_the_exchange_that_no_header_carries_are_no_credentials(
    autojump_clock: trio.testing.MockClock, part: str
) -> None:
    issued = {"apiKey": "key-1-of-us", "secret": "c2VjcmV0c2VjcmV0", "passphrase": "hush-hush-hush"}
    gateway = gateway_of(answering(200, issued | {part: "hush-hush-hush\r\nX: y"}))
    with pytest.raises(ExchangeUnavailable) as refusal:
        await gateway.rest.obtain_credentials(KEY, chain_id=137)
    assert "hush" not in "".join(traceback.format_exception(refusal.value))


async def test_a_request_that_the_library_refuses_to_send_is_never_quoted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    http = Http(
        "http://exchange.test",
        gate=RateGate(LimitSettings(), now_ns),
        timeouts=TimeoutSettings(),
        now_ns=now_ns,
        transport=stream_transport(mute),
    )
    with pytest.raises(Disconnected, match="GET /time: LocalProtocolError") as refusal:
        await http.call(
            "GET", "/time", lane=Lane.READ, by_ns=now_ns(), total_s=5, headers={"X-Pass": "hush-hush-hush\r"}
        )
    assert "hush" not in "".join(traceback.format_exception(refusal.value))
    await http.aclose()


def test_every_secret_of_the_environment_is_named_to_the_logs(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f" {TEST_KEY_HEX}\n")
    path.chmod(0o600)
    assert secrets_of(WHOLE | {"TBOT_PRIVATE_KEY_FILE": str(path)}) == (TEST_KEY_HEX, *WHOLE.values())
    assert secrets_of({}) == ()


def test_credentials_are_never_kept_in_a_shape_that_cannot_be_sent() -> None:
    with pytest.raises(ConfigError, match="API secret"):
        ApiCredentials(api_key="key-1-of-us", secret="c2Vj cmV0", passphrase="hush")
