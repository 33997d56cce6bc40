"""Types that all bodies of the native API share."""

from datetime import datetime
from typing import Annotated, TypeVar

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from service.api.encoding import rfc3339, uri_path
from service.domain.identifiers import MAX_NAME_LENGTH

Time = Annotated[
    datetime,
    PlainSerializer(rfc3339, return_type=str),
    Field(json_schema_extra={"format": "date-time"}),
]
Name = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_NAME_LENGTH,
        description="Unique name, without control characters. The default is the id.",
    ),
]
MAX_SEED = 2**53 - 1
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Item = TypeVar("Item")


class Body(BaseModel):
    """A request body without unknown fields, type conversion, NaN or infinities."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Links(BaseModel):
    """Paths of related resources."""

    model_config = ConfigDict(extra="allow")
    self: str


def links(path: str, **children: str) -> Links:
    """Return the links of a resource: its own path, and the named paths below it."""
    return Links.model_validate(
        {"self": path, **{name: f"{path}/{part}" for name, part in children.items()}}
    )


def page_links(
    request: Request, response: Response, items: list[Item], limit: int, ids: list[str]
) -> tuple[list[Item], bool]:
    """Return the items of a page, and True if there are more; add a link to the next page.

    Parameters
    ----------
    items
        The items of the page, and one more if there is a next page.
    ids
        The id of each item.
    """
    has_more = len(items) > limit
    if has_more:
        query = request.url.include_query_params(limit=limit, after=ids[limit - 1]).query
        path = uri_path(request.scope["path"])
        response.headers["Link"] = f'<{path}?{query}>; rel="next"'
    return items[:limit], has_more
