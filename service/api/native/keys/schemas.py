"""Bodies of keys."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainValidator

from service.api.schemas import Body, Name, Time
from service.domain.keys import DEFAULT_TENANT, Key, Scope


def _moment(value: object) -> object:
    """Return a time of JSON; strict models take none from text."""
    message = "a time with its offset is due, as 2030-01-31T00:00:00Z"
    try:
        moment = datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError(message) from None
    if moment.tzinfo is None:
        raise ValueError(message)
    return moment.astimezone(UTC)


class CreateKey(Body):
    """A key to make."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "web shop", "scopes": ["predict"]}]}
    )

    name: Name = "key"
    tenant: str = Field(DEFAULT_TENANT, max_length=64, description="Whose things it sees.")
    scopes: Annotated[list[str], Field(min_length=1, max_length=4)] = Field(
        default=[Scope.READ, Scope.PREDICT, Scope.TRAIN],
        json_schema_extra={"items": {"enum": [scope.value for scope in Scope], "type": "string"}},
    )
    expires_at: Annotated[datetime | None, PlainValidator(_moment)] = Field(
        None, json_schema_extra={"format": "date-time", "type": ["string", "null"]}
    )


class KeyBody(BaseModel):
    """A key, without its secret."""

    id: str
    prefix: str = Field(description="The part of the key that is no secret.")
    name: str
    tenant: str
    scopes: list[str]
    created_at: Time
    expires_at: Time | None
    revoked_at: Time | None


class NewKeyBody(KeyBody):
    """A key with its secret, told this once."""

    key: str


class KeyList(BaseModel):
    """A page of keys, newest first."""

    data: list[KeyBody]
    has_more: bool


def key_body(key: Key) -> KeyBody:
    """Return what is told of a key."""
    return KeyBody(
        id=key.id,
        prefix=key.prefix,
        name=key.name,
        tenant=key.tenant,
        scopes=key.scopes,
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
    )
