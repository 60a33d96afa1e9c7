"""The error tree: whose fault it is, and what the caller may do about it.

Answers of the exchange (rejected, unknown id, post-only would cross) are messages, not errors: see `core.messages`.
"""


class TbotError(Exception):
    """Root of everything tbot raises on purpose."""


class ExchangeUnavailable(TbotError):
    """The exchange cannot be reached or will not serve now; the caller backs off and tries again."""


class Disconnected(ExchangeUnavailable):
    """The connection ended, or could not be made."""


class TimedOut(ExchangeUnavailable):
    """No answer within the deadline. For a submit this is no error but the message `OutcomeUnknown`."""


class RateLimited(ExchangeUnavailable):
    """HTTP 429 or its like.

    Attributes:
        retry_after_s: Seconds to wait before the next request, as the exchange stated, else our estimate.
    """

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        """Keep the wait beside the message."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BadFrame(TbotError):
    """Data from outside that cannot be decoded or is impossible; the bytes are theirs, so is the fault.

    Attributes:
        token_ids: The tokens it was about; () = it does not say.
    """

    def __init__(self, message: str = "", *, token_ids: tuple[str, ...] = ()) -> None:
        """Name the tokens beside the message."""
        super().__init__(message)
        self.token_ids = token_ids


class OffGrid(BadFrame):
    """A price that is not on the token's tick grid."""


class InvariantViolated(TbotError):
    """We broke a promise of our own: halt trading, keep the record, call a human. Never restarted."""


class ConfigError(TbotError):
    """Settings or arguments that cannot be used; the message is one sentence naming what, where and the remedy."""


class AuthenticationFailed(TbotError):
    """The exchange refuses our credentials, or the signing probe differs from the reference. Never restarted."""


class AnotherSender(TbotError):
    """Somebody else keeps the dead-man switch of our credentials: two bots on one key. A person must stop one."""


class StateCorrupt(TbotError):
    """The state folder cannot be used as it is. It is left untouched; the message names the remedy."""
