"""Request and response bodies of API keys."""

import re
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, PlainValidator

from service.api.schemas import Body, Name, Time
from service.domain.keys import DEFAULT_TENANT, Key, Scope

RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)")


def _parse_expiry(value: object) -> object:
    """Return a time in the future; strict models do not parse texts themselves."""
    message = "expected a time with a UTC offset, for example 2030-01-31T00:00:00Z"
    try:
        text = value if isinstance(value, str) and RFC3339.fullmatch(value) else ""
        time = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(message) from None
    if time <= datetime.now(UTC):
        past = "expected a time in the future"
        raise ValueError(past)
    return time


Quota = Annotated[int, Field(ge=0, le=2**53)]


class QuotasBody(Body):
    """Quotas of a tenant. A missing one is that of the settings."""

    bytes: Quota | None = Field(None, description="Bytes of weights, datasets and checkpoints.")
    networks: Quota | None = None
    datasets: Quota | None = None
    running_jobs: Quota | None = Field(None, description="Jobs that run at the same time.")


class CreateKey(Body):
    """An API key to create."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "me", "scopes": ["admin"]}]})

    name: Name = "key"
    tenant: str = Field(
        DEFAULT_TENANT, max_length=64, description="Tenant whose resources it can access."
    )
    scopes: Annotated[list[str], Field(min_length=1, max_length=len(Scope))] = Field(
        default=[Scope.READ, Scope.PREDICT, Scope.TRAIN],
        json_schema_extra={"items": {"enum": [scope.value for scope in Scope], "type": "string"}},
    )
    quotas: QuotasBody | None = Field(
        None,
        description="Quotas of the tenant. If several keys of a tenant set one, the newest counts.",
    )
    expires_at: Annotated[datetime | None, PlainValidator(_parse_expiry)] = Field(
        None, json_schema_extra={"format": "date-time", "type": ["string", "null"]}
    )


class KeyBody(BaseModel):
    """An API key without its secret."""

    id: str
    prefix: str = Field(description="Public part of the key.")
    name: str
    tenant: str
    scopes: list[str]
    quotas: dict[str, int] | None
    created_at: Time
    expires_at: Time | None
    revoked_at: Time | None


class NewKeyBody(KeyBody):
    """An API key with its secret, which is returned only once."""

    key: str = Field(description="The secret to send as a bearer token.")


class KeyList(BaseModel):
    """A page of keys, newest first."""

    data: list[KeyBody]
    has_more: bool


def key_body(key: Key) -> KeyBody:
    """Return the response body for a key."""
    return KeyBody(
        id=key.id,
        prefix=key.prefix,
        name=key.name,
        tenant=key.tenant,
        scopes=key.scopes,
        quotas=key.quotas,
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
    )
