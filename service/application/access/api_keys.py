"""Keys, and what their holders may do."""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, final

from service.application.ports import Database, Page, UnitOfWork
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

ANONYMOUS: Final = Caller(DEFAULT_TENANT, frozenset({Scope.ADMIN}))
"""Who calls while there are no keys: only this machine can, unless the settings allow more."""

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1", ""})
"""Addresses of callers on this machine; a Unix socket has none."""

_UNKNOWN_KEY_DIGEST: Final = "0" * 64


class UnauthorizedError(ServiceError):
    """No key, or none that is known."""

    code = "unauthorized"


class ForbiddenError(ServiceError):
    """The key's scopes do not allow it."""

    code = "insufficient_scope"


@final
class Authenticator:
    """Keys, held in memory so that a request is answered without asking the store.

    Parameters
    ----------
    anywhere
        Whether callers without a key are answered on every address while there is no key.
    """

    def __init__(self, database: Database, *, anywhere: bool) -> None:
        self._database, self._anywhere = database, anywhere
        self._keys: dict[str, tuple[Key, Caller]] = {}
        self._known = (0, "")
        self._any = False

    @property
    def anonymous(self) -> bool:
        """Tell whether there are no keys, and everyone may do everything."""
        return not self._any

    @property
    def anywhere(self) -> bool:
        """Tell whether callers without a key are answered on every address."""
        return self._anywhere

    async def refresh(self) -> None:
        """Read the keys again where any was made or revoked since, by whichever process."""
        async with self._database.read() as work:
            state = await work.keys.state()
            if state == self._known:
                return
            keys = await work.keys.every()
        self._known = state
        self._any = bool(keys)
        self._keys = {key.prefix: (key, _caller(key)) for key in keys if key.revoked_at is None}

    def authenticate(self, authorization: str, address: str) -> Caller:
        """Return who sends this Authorization header from this address.

        Raises
        ------
        Unauthorized
            With the same words whatever is wrong with it.
        """
        if not self._any:
            if self._anywhere or address in LOOPBACK:
                return ANONYMOUS
            raise UnauthorizedError(
                "there is no key yet, and only this machine is answered without"
            )
        kind, _, secret = authorization.partition(" ")
        secret = secret.strip()
        key, caller = self._keys.get(prefix_of(secret) or "", (None, ANONYMOUS))
        # Compared also when there is no such key: a guess takes the same time either way.
        right = secrets.compare_digest(
            digest_of(secret), _UNKNOWN_KEY_DIGEST if key is None else key.sha256
        )
        if kind.lower() != "bearer" or key is None or not right or _expired(key):
            raise UnauthorizedError("a valid key is due: Authorization: Bearer <key>")
        return caller

    async def create(self, name: str, **options: Any) -> tuple[Key, str]:
        """Make a key in a transaction of its own; see `add`."""
        async with self._database.write() as work:
            made = await self.add(work, name, **options)
        await self.refresh()
        return made

    async def create_bootstrap_key(self, secret: str) -> None:
        """Make the first key, unless another server did so meanwhile."""
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
    ) -> tuple[Key, str]:
        """Make a key; its secret is told here, and is not remembered.

        Parameters
        ----------
        secret
            A key made elsewhere; None draws one.
        """
        if not is_tenant(tenant):
            problem = "a tenant is 1 to 64 small letters, digits, '.', '_' and '-'"
            raise InvalidRequestError.at("/tenant", "invalid_tenant", problem)
        check_name(name)
        if self.anonymous and Scope.ADMIN not in scopes:
            problem = "the first key must have the scope admin: with it, calls without a key end"
            raise InvalidRequestError.at("/scopes", "no_admin", problem)
        secret = new_secret() if secret is None else secret
        prefix = prefix_of(secret)
        if prefix is None:
            problem = "a key has the form nrd_<12 hexadecimal digits>_<at least 22 signs>"
            raise InvalidRequestError.at("", "invalid_key", problem)
        now = datetime.now(UTC)
        ordered = [scope.value for scope in Scope if scope in set(scopes)]
        key = Key(new_id("key"), prefix, digest_of(secret), name, tenant, ordered, now, expires_at)
        await work.keys.add(key)
        return key, secret

    async def list_keys(self, page: Page) -> list[Key]:
        """Return a page of keys and one more, the revoked ones too."""
        async with self._database.read() as work:
            return await work.keys.page(page)

    async def revoke(self, key_id: str) -> Key:
        """Let a key open nothing any more; repeating it changes nothing."""
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
        """Return whose network, dataset or job has this id."""
        async with self._database.read() as work:
            return await work.keys.tenant_of(reference)


def allowed(caller: Caller, scope: Scope) -> Caller:
    """Return the caller, or say which scope is missing."""
    if not caller.may(scope):
        held = ", ".join(sorted(caller.scopes)) or "none"
        raise ForbiddenError(f"this takes a key with the scope {scope}; this one has {held}")
    return caller


def _caller(key: Key) -> Caller:
    return Caller(key.tenant, frozenset(Scope(scope) for scope in key.scopes), key.id)


def _expired(key: Key) -> bool:
    return key.expires_at is not None and key.expires_at <= datetime.now(UTC)
