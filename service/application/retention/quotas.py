"""Quotas of tenants, checked in the transaction that stores something."""

from collections.abc import Callable
from typing import final

from service.application.ports.database import UnitOfWork
from service.domain.errors import ServiceError
from service.domain.retention import Quotas


class QuotaExceededError(ServiceError):
    """The tenant has as much as it may have."""

    code = "quota_exceeded"


@final
class QuotaCheck:
    """Rejects what would exceed a quota.

    Attributes
    ----------
    of
        Returns the quotas of a tenant.
    """

    def __init__(self, of: Callable[[str], Quotas]) -> None:
        self.of = of

    async def check(
        self,
        work: UnitOfWork,
        tenant: str,
        *,
        networks: int = 0,
        datasets: int = 0,
        size: int = 0,
    ) -> None:
        """Raise QuotaExceededError unless the tenant may store this in addition.

        Parameters
        ----------
        size
            Bytes of weights or rows.
        """
        quotas = self.of(tenant)
        if quotas.bytes is quotas.networks is quotas.datasets is None:
            return
        usage = await work.retention.usage(tenant)
        for kind, limit, used, added in (
            ("networks", quotas.networks, usage.networks, networks),
            ("datasets", quotas.datasets, usage.datasets, datasets),
            ("bytes", quotas.bytes, usage.bytes, size),
        ):
            if limit is not None and added and used + added > limit:
                detail = f"the quota is {limit} {kind}: {used} are used, and this needs {added}"
                raise QuotaExceededError(detail, quota=kind, limit=limit, used=used)
