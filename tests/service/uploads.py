"""Uploads of dataset files."""

import io
from typing import Any

import httpx
import numpy as np

CSV = {"content-type": "text/csv"}
NPZ = {"content-type": "application/x-npz"}


async def post_csv(client: httpx.AsyncClient, text: str | bytes, query: str = "") -> httpx.Response:
    return await client.post(f"/v1/datasets{query}", content=text, headers=CSV)


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()
