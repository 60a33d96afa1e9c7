"""How the secrets of an account reach the bot: environment variables, or the private files they point to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tbot.errors import ConfigError
from tbot.exchanges.polymarket.keys import SigningKey
from tbot.secret import secret_from_environment

PRIVATE_KEY: Final = "TBOT_PRIVATE_KEY"


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
