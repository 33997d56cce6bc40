"""API keys: who calls, and what they may do."""

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

_KEY: Final = re.compile(r"nrd_([0-9a-f]{12})_([A-Za-z0-9_-]{22,128})")
_TENANT: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
DEFAULT_TENANT: Final = "default"


class Scope(StrEnum):
    """What a caller may do."""

    READ = "read"
    PREDICT = "predict"
    TRAIN = "train"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is remembered: never the key itself.

    Attributes
    ----------
    prefix
        The part of the key that is no secret, by which it is looked up.
    sha256
        Digest of the whole key. A fast digest is enough: the secret is random, not a password.
    """

    id: str
    prefix: str
    sha256: str
    name: str
    tenant: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Attributes
    ----------
    tenant
        Whose networks, datasets and jobs are seen.
    key_id
        None for an anonymous caller.
    """

    tenant: str
    scopes: frozenset[Scope]
    key_id: str | None = None

    def may(self, scope: Scope) -> bool:
        """Tell whether the caller has a scope; admin has them all."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


def new_secret() -> str:
    """Return a new key: 48 bits to find it by, 256 bits that nobody guesses."""
    return f"nrd_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}"


def prefix_of(secret: str) -> str | None:
    """Return the part by which a key is looked up; None for what is no key."""
    match = _KEY.fullmatch(secret)
    return match and match[1]


def digest_of(secret: str) -> str:
    """Return what is remembered of a key."""
    return hashlib.sha256(secret.encode()).hexdigest()


def is_tenant(name: str) -> bool:
    """Tell whether a text can name a tenant."""
    return _TENANT.fullmatch(name) is not None
