"""How the secrets of an account reach the bot: environment variables, or the private files they point to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tbot.errors import ConfigError
from tbot.exchanges.polymarket.keys import ApiCredentials, SigningKey, demand_header_text
from tbot.secret import secret_from_environment

PRIVATE_KEY: Final = "TBOT_PRIVATE_KEY"
API_KEY: Final = "TBOT_API_KEY"
API_SECRET: Final = "TBOT_API_SECRET"
API_PASSPHRASE: Final = "TBOT_API_PASSPHRASE"


def signing_key_of(environ: Mapping[str, str]) -> SigningKey:
    """Take the key that signs orders from TBOT_PRIVATE_KEY, or the file named by TBOT_PRIVATE_KEY_FILE.

    Raises:
        ConfigError: It is missing, or no key; the message names the variable and never quotes the key.
    """
    secret = secret_from_environment(PRIVATE_KEY, environ)
    try:
        return SigningKey.from_hex(secret.reveal())
    except ConfigError as error:
        raise ConfigError(f"{PRIVATE_KEY}: {error}") from None


def api_credentials_of(environ: Mapping[str, str]) -> ApiCredentials | None:
    """Take API credentials from TBOT_API_KEY, TBOT_API_SECRET and TBOT_API_PASSPHRASE; None = derive them from the key.

    Raises:
        ConfigError: Some of the three are set and others are not, or one cannot be used.
    """
    names = (API_KEY, API_SECRET, API_PASSPHRASE)
    if not any(name in environ or f"{name}_FILE" in environ for name in names):
        return None
    found = {name: secret_from_environment(name, environ).reveal() for name in names}
    for name, value in found.items():
        demand_header_text(name, value)
    api_key, secret, passphrase = found.values()
    return ApiCredentials(api_key=api_key, secret=secret, passphrase=passphrase)


def secrets_of(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return every secret an account brought, for the list of what logs must cut out.

    Raises:
        ConfigError: One cannot be read.
    """
    names = (PRIVATE_KEY, API_KEY, API_SECRET, API_PASSPHRASE)
    present = [name for name in names if name in environ or f"{name}_FILE" in environ]
    return tuple(secret_from_environment(name, environ).reveal().strip() for name in present)
