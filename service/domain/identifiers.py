"""Identifiers that sort by time, and the names that people give."""

import re
import secrets
import time
import unicodedata
from typing import Final

from service.domain.errors import InvalidRequestError

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32
_ID: Final = re.compile(r"(net|ds|job|ckpt|key)_[0-9A-HJKMNP-TV-Z]{26}")
_ALIAS: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,62}")
RESERVED_ALIASES: Final = frozenset({"latest", "live"})
MAX_NAME_LENGTH: Final = 200
_last = 0


def new_id(prefix: str) -> str:
    """Return an id of 26 signs after its prefix: 48 bits of milliseconds, 80 of chance.

    Ids of one process never sort before an earlier one, also within a millisecond.
    """
    global _last
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    if number <= _last:
        number = _last + 1 + secrets.randbits(32)
    _last = number
    signs = [_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5)]
    return f"{prefix}_{''.join(signs)}"


def is_id(reference: str) -> bool:
    """Tell whether a reference is an id, not a name."""
    return _ID.fullmatch(reference) is not None


def is_plain(text: str, allowed: str = "") -> bool:
    """Tell whether a text holds no control characters but those, and no lone surrogates."""
    return all(sign in allowed or unicodedata.category(sign) not in {"Cc", "Cs"} for sign in text)


def check_name(name: str, place: str = "/name") -> str:
    """Return ``name``, or say why it cannot be one."""
    problem = None
    if not 1 <= len(name) <= MAX_NAME_LENGTH:
        problem = f"a name has 1 to {MAX_NAME_LENGTH} characters"
    elif not is_plain(name):
        problem = "a name holds no control characters and no lone surrogates"
    elif _ID.fullmatch(name):
        problem = "a name must not look like an id"
    if problem is not None:
        raise InvalidRequestError.at(place, "invalid_name", problem)
    return name


def check_alias(alias: str) -> str:
    """Return ``alias``, or say why it cannot be one."""
    if not _ALIAS.fullmatch(alias) or alias in RESERVED_ALIASES:
        problem = (
            "an alias starts with a letter, holds letters from a to z, digits, '.', '_' and '-', "
            "at most 63, and is neither 'latest' nor 'live'"
        )
        raise InvalidRequestError.at("", "invalid_alias", problem)
    return alias
