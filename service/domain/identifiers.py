"""Ids that sort by creation time, and the rules for user-defined names."""

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
    """Return a new id: the prefix, 48 bits of milliseconds and 80 random bits.

    The bits are encoded as 26 characters of Crockford's base 32. Within a process, every id sorts
    after the ids created before it, even in the same millisecond.
    """
    global _last
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    if number <= _last:
        number = _last + 1 + secrets.randbits(32)
    _last = number
    characters = [_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5)]
    return f"{prefix}_{''.join(characters)}"


def is_id(reference: str) -> bool:
    """Return True if a reference is an id, not a name."""
    return _ID.fullmatch(reference) is not None


def is_plain(text: str, allowed: str = "") -> bool:
    """Return True if a text has no lone surrogates and only the ``allowed`` control characters."""
    return all(
        character in allowed or unicodedata.category(character) not in {"Cc", "Cs"}
        for character in text
    )


def check_name(name: str, location: str = "/name") -> str:
    """Return ``name``; raise InvalidRequestError at ``location`` if it is not valid."""
    problem = None
    if not 1 <= len(name) <= MAX_NAME_LENGTH:
        problem = f"a name must have 1 to {MAX_NAME_LENGTH} characters, got {len(name)}"
    elif not is_plain(name):
        problem = "a name must not contain control characters or lone surrogates"
    elif _ID.fullmatch(name):
        problem = "a name must not look like an id"
    if problem is not None:
        raise InvalidRequestError.at(location, "invalid_name", problem)
    return name


def check_alias(alias: str) -> str:
    """Return ``alias``; raise InvalidRequestError if it is not valid."""
    if not _ALIAS.fullmatch(alias) or alias in RESERVED_ALIASES:
        problem = (
            "an alias must have 1 to 63 letters from a to z, digits, '.', '_' and '-', must start "
            "with a letter, and must not be 'latest' or 'live'"
        )
        raise InvalidRequestError.at("", "invalid_alias", problem)
    return alias
