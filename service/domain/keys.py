"""API keys, scopes and callers."""

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
    """A permission of a caller."""

    READ = "read"
    PREDICT = "predict"
    TRAIN = "train"
    ADMIN = "admin"
    METRICS = "metrics"


@dataclass(frozen=True, slots=True)
class Key:
    """The stored record of a key, without the key itself.

    Attributes
    ----------
    prefix
        The part of the key that is not secret; it is used to look up the key.
    sha256
        Digest of the whole key. A fast digest is enough: the secret is random, not a password.
    quotas
        Limits of the key's tenant by kind, instead of those of the settings.
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
    quotas: dict[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """The authenticated or anonymous sender of a request.

    Attributes
    ----------
    tenant
        The tenant whose networks, datasets and jobs are visible.
    key_id
        None for an anonymous caller.
    """

    tenant: str
    scopes: frozenset[Scope]
    key_id: str | None = None

    def may(self, scope: Scope) -> bool:
        """Return True if the caller has a scope; admin includes all scopes."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


def new_secret() -> str:
    """Return a new key: a 48-bit prefix for look-up and a 256-bit random secret."""
    return f"nrd_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}"


def prefix_of(secret: str) -> str | None:
    """Return the prefix by which a key is looked up, or None if the key is malformed."""
    match = _KEY.fullmatch(secret)
    return match and match[1]


def digest_of(secret: str) -> str:
    """Return the digest that is stored for a key."""
    return hashlib.sha256(secret.encode()).hexdigest()


def is_tenant(name: str) -> bool:
    """Return True if a text is a valid tenant name."""
    return _TENANT.fullmatch(name) is not None
