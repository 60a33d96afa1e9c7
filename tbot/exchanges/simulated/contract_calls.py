"""What contracts are asked without a transaction: balances and approvals, in the ABI of their token standards.

Balances are those on the chain: nothing that is matched and not MINED has moved there. Anything else is answered as a
contract answers a function that it does not have: it reverts.

Sources: ERC-20, ERC-1155, the ABI specification; which of them the official client polymarket-client 0.14.0 asks, and
where it asks for neg-risk tokens, read 2026-11-26.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tbot.errors import TbotError
from tbot.exchanges.simulated.contracts import SELECTOR_BYTES, AssetType, asset_held_by, selector_of
from tbot.exchanges.simulated.typed_data import checksummed
from tbot.exchanges.simulated.wallets import DEPOSIT_BEACON, DEPOSIT_FACTORY

NEG_RISK_ADAPTER = "0xd91E80cF2E7be2e162c6513ceD06f1dD0dA35296"
BATCH_MAX = 100
COLLATERAL_DECIMALS = 6

_WORD = 32


class Reverted(TbotError):
    """A contract refused a call."""


@dataclass(frozen=True, kw_only=True)
class ChainView:
    """What the chain knows of wallets; owners and spenders are checksummed addresses.

    Attributes:
        cash: Collateral of an owner, base units.
        tokens: Of an owner, by kind and number of the token.
        allowance: What of an owner's asset a spender may move; of tokens anything but 0 is all.
    """

    cash: Callable[[str], int]
    tokens: Callable[[str, AssetType, int], int]
    allowance: Callable[[str, AssetType, str], int]


def call_contract(view: ChainView, to: str, data: bytes) -> bytes:
    """Answer a call.

    Raises:
        Reverted: The contract, or this function of it, is not there.
    """
    selector, words = data[:SELECTOR_BYTES], _words(data)
    if to.lower() == DEPOSIT_FACTORY.lower():
        return _factory(selector, words)
    # The adapter is a view of the same tokens: neg-risk balances are read there.
    kind = AssetType.CONDITIONAL if to.lower() == NEG_RISK_ADAPTER.lower() else asset_held_by(to)
    if kind is None:
        raise Reverted("execution reverted: no such contract here")
    return _collateral(view, selector, words) if kind is AssetType.COLLATERAL else _token(view, kind, selector, words)


def _collateral(view: ChainView, selector: bytes, words: list[bytes]) -> bytes:
    if selector == _BALANCE_OF_CASH and len(words) == 1:
        return _number(view.cash(_address(words[0])))
    if selector == _ALLOWANCE and len(words) == 2:
        return _number(view.allowance(_address(words[0]), AssetType.COLLATERAL, _address(words[1])))
    if selector == _DECIMALS:
        return _number(COLLATERAL_DECIMALS)
    raise Reverted("execution reverted")


def _token(view: ChainView, kind: AssetType, selector: bytes, words: list[bytes]) -> bytes:
    if selector == _IS_APPROVED_FOR_ALL and len(words) == 2:
        return _number(view.allowance(_address(words[0]), kind, _address(words[1])) > 0)
    if selector == _BALANCE_OF_TOKEN and len(words) == 2:
        return _number(view.tokens(_address(words[0]), kind, int.from_bytes(words[1], "big")))
    if selector == _BALANCE_OF_BATCH:
        owners, token_ids = _arrays(words)
        amounts = [
            view.tokens(_address(owner), kind, int.from_bytes(token_id, "big"))
            for owner, token_id in zip(owners, token_ids, strict=True)
        ]
        return b"".join(map(_number, (_WORD, len(amounts), *amounts)))
    raise Reverted("execution reverted")


# Deposit wallets here are beacon proxies, which a client sees from the factory's having a beacon.
def _factory(selector: bytes, words: list[bytes]) -> bytes:
    if selector == _BEACON and not words:
        return bytes.fromhex(DEPOSIT_BEACON[2:]).rjust(_WORD, b"\0")
    raise Reverted("execution reverted")


def _arrays(words: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    first, second = (_array(words, position) for position in (0, 1))
    if len(first) != len(second):
        raise Reverted("execution reverted: ERC1155: owners and IDs must have same lengths")
    return first, second


def _array(words: list[bytes], position: int) -> list[bytes]:
    begin, rest = divmod(_size(words, position), _WORD)
    length = _size(words, begin)
    if rest or length > BATCH_MAX or begin + 1 + length > len(words):
        raise Reverted("execution reverted")
    return words[begin + 1 : begin + 1 + length]


def _size(words: list[bytes], position: int) -> int:
    if position >= len(words):
        raise Reverted("execution reverted")
    return int.from_bytes(words[position], "big")


def _words(data: bytes) -> list[bytes]:
    arguments = data[SELECTOR_BYTES:]
    if len(data) < SELECTOR_BYTES or len(arguments) % _WORD:
        raise Reverted("execution reverted")
    return [arguments[start : start + _WORD] for start in range(0, len(arguments), _WORD)]


def _address(word: bytes) -> str:
    if any(word[:12]):
        raise Reverted("execution reverted")
    return checksummed(word[12:])


def _number(value: int) -> bytes:
    return int(value).to_bytes(_WORD, "big")


_BALANCE_OF_CASH = selector_of("balanceOf(address)")
_ALLOWANCE = selector_of("allowance(address,address)")
_DECIMALS = selector_of("decimals()")
_IS_APPROVED_FOR_ALL = selector_of("isApprovedForAll(address,address)")
_BALANCE_OF_TOKEN = selector_of("balanceOf(address,uint256)")
_BALANCE_OF_BATCH = selector_of("balanceOfBatch(address[],uint256[])")
_BEACON = selector_of("BEACON()")
