"""API keys: authentication, and use cases to create, list and revoke keys."""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, final

from service.application.ports.database import Database, UnitOfWork
from service.application.ports.repositories import Page
from service.domain.errors import InvalidRequestError, NotFoundError, ServiceError
from service.domain.identifiers import check_name, new_id
from service.domain.keys import (
    DEFAULT_TENANT,
    Caller,
    Key,
    Scope,
    digest_of,
    is_tenant,
    new_secret,
    prefix_of,
)
from service.domain.retention import Quotas

ANONYMOUS: Final = Caller(DEFAULT_TENANT, frozenset({Scope.ADMIN}))
"""The caller of requests without a key, which are allowed only until a key exists."""

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1", ""})
"""Addresses of callers on this machine; a Unix socket has none."""

NO_QUOTAS: Final = Quotas()
_UNKNOWN_KEY_DIGEST: Final = "0" * 64


class UnauthorizedError(ServiceError):
    """The request has no valid API key."""

    code = "unauthorized"


class ForbiddenError(ServiceError):
    """The key does not have the required scope."""

    code = "insufficient_scope"


@final
class Authenticator:
    """Authenticates callers and manages API keys.

    Keys are cached in memory, so that authentication does not read the database.

    Parameters
    ----------
    anywhere
        True if anonymous requests from all addresses are allowed until a key exists. Otherwise only
        anonymous requests from this machine are allowed.
    quotas
        Quotas of tenants whose keys set none.
    """

    def __init__(self, database: Database, *, anywhere: bool, quotas: Quotas = NO_QUOTAS) -> None:
        self._database, self._anywhere = database, anywhere
        self._keys: dict[str, tuple[Key, Caller]] = {}
        self._state = (0, "")
        self._has_keys = False
        self._default_quotas = quotas
        self._quotas: dict[str, Quotas] = {}

    @property
    def anonymous(self) -> bool:
        """Return True if no API key exists, so that anonymous callers have full access."""
        return not self._has_keys

    @property
    def anywhere(self) -> bool:
        """Return True if anonymous requests are allowed from all addresses."""
        return self._anywhere

    async def refresh(self) -> None:
        """Reload the keys if any process has created or revoked one since the last call."""
        async with self._database.read() as work:
            state = await work.keys.state()
            if state == self._state:
                return
            keys = await work.keys.every()
        self._state = state
        self._has_keys = bool(keys)
        active = sorted((key for key in keys if key.revoked_at is None), key=lambda key: key.id)
        self._keys = {key.prefix: (key, _caller(key)) for key in active}
        quotas: dict[str, Quotas] = {}
        for key in active:  # the newest key counts
            base = quotas.get(key.tenant, self._default_quotas)
            quotas[key.tenant] = replace(base, **(key.quotas or {}))
        self._quotas = quotas

    def quotas_of(self, tenant: str) -> Quotas:
        """Return the quotas of a tenant; if several keys set one, the newest key's."""
        return self._quotas.get(tenant, self._default_quotas)

    def authenticate(self, authorization: str, address: str) -> Caller:
        """Return the caller that an Authorization header and an address identify.

        Raises
        ------
        UnauthorizedError
            If the key is missing or invalid. The message does not depend on the reason.
        """
        if not self._has_keys:
            if self._anywhere or address in LOOPBACK:
                return ANONYMOUS
            raise UnauthorizedError("no API key is configured; only local requests are allowed")
        kind, _, secret = authorization.partition(" ")
        secret = secret.strip()
        key, caller = self._keys.get(prefix_of(secret) or "", (None, ANONYMOUS))
        # Compare digests for unknown keys too, so that timing does not reveal which keys exist.
        matches = secrets.compare_digest(
            digest_of(secret), _UNKNOWN_KEY_DIGEST if key is None else key.sha256
        )
        if kind.lower() != "bearer" or key is None or not matches or _expired(key):
            raise UnauthorizedError(
                "missing or invalid API key; expected the header Authorization: Bearer <key>"
            )
        return caller

    def knows(self, secret: str) -> bool:
        """Return True if a key with this prefix is active."""
        return prefix_of(secret) in self._keys

    async def create(self, name: str, **options: Any) -> tuple[Key, str]:
        """Create a key in its own transaction; see `add`."""
        async with self._database.write() as work:
            created = await self.add(work, name, **options)
        await self.refresh()
        return created

    async def create_bootstrap_key(self, secret: str) -> None:
        """Create the first key, unless another server has created one concurrently."""
        async with self._database.write() as work:
            if await work.keys.every():
                return
            await self.add(work, "first key", scopes=[Scope.ADMIN], secret=secret)

    async def add(
        self,
        work: UnitOfWork,
        name: str,
        *,
        tenant: str = DEFAULT_TENANT,
        scopes: Sequence[str] = (Scope.READ, Scope.PREDICT, Scope.TRAIN),
        expires_at: datetime | None = None,
        secret: str | None = None,
        quotas: dict[str, int] | None = None,
    ) -> tuple[Key, str]:
        """Create a key; return it with its secret, which is not stored.

        Parameters
        ----------
        secret
            The secret to use; None generates one.

        Raises
        ------
        InvalidRequestError
            If an argument is invalid, or if the first key does not have the admin scope.
        """
        if not is_tenant(tenant):
            problem = "expected a tenant of 1 to 64 lowercase letters, digits, '.', '_' and '-'"
            raise InvalidRequestError.at("/tenant", "invalid_tenant", problem)
        check_name(name)
        if self.anonymous and Scope.ADMIN not in scopes:
            problem = (
                "the first key must have the admin scope, because anonymous access ends once a key "
                "exists"
            )
            raise InvalidRequestError.at("/scopes", "no_admin", problem)
        secret = new_secret() if secret is None else secret
        prefix = prefix_of(secret)
        if prefix is None:
            problem = (
                "expected a key of the form nrd_<12 hexadecimal digits>_<at least 22 characters>"
            )
            raise InvalidRequestError.at("", "invalid_key", problem)
        now = datetime.now(UTC)
        ordered = [scope.value for scope in Scope if scope in set(scopes)]
        key = Key(
            new_id("key"),
            prefix,
            digest_of(secret),
            name,
            tenant,
            ordered,
            now,
            expires_at,
            quotas=quotas,
        )
        await work.keys.add(key)
        return key, secret

    async def list_keys(self, pagination: Page) -> list[Key]:
        """Return a page of keys, including revoked ones, plus one key if there are more."""
        async with self._database.read() as work:
            return await work.keys.page(pagination)

    async def revoke(self, key_id: str) -> Key:
        """Revoke a key; a repeated call changes nothing."""
        async with self._database.write() as work:
            key = await work.keys.get(key_id)
            if key is None:
                raise NotFoundError("key", key_id)
            if key.revoked_at is None:
                key = replace(key, revoked_at=datetime.now(UTC))
                await work.keys.revoke(key.id, key.revoked_at or datetime.now(UTC))
        await self.refresh()
        return key

    async def tenant_of(self, reference: str) -> str | None:
        """Return the tenant of the network, dataset or job with this id."""
        async with self._database.read() as work:
            return await work.keys.tenant_of(reference)


def allowed(caller: Caller, scope: Scope) -> Caller:
    """Return the caller; raise ForbiddenError if it does not have the scope."""
    if not caller.may(scope):
        granted = ", ".join(sorted(caller.scopes)) or "none"
        raise ForbiddenError(
            f"expected a key with the scope {scope}; the scopes of this key are: {granted}"
        )
    return caller


def _caller(key: Key) -> Caller:
    return Caller(key.tenant, frozenset(Scope(scope) for scope in key.scopes), key.id)


def _expired(key: Key) -> bool:
    return key.expires_at is not None and key.expires_at <= datetime.now(UTC)
