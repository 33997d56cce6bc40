"""Safetensors: a JSON header, then raw values. It cannot contain code."""

from typing import ClassVar, Final, final

from core import safetensors as tensors
from core.formats.base import Model
from core.formats.named_arrays import (
    description_json,
    read_described,
    read_undescribed,
    weights_by_name,
)

DESCRIPTION: Final = "neurond"


@final
class Safetensors:
    """Named arrays, and the description in the header's metadata."""

    type: ClassVar[str] = "safetensors"
    media_type: ClassVar[str] = "application/vnd.safetensors"
    suffix: ClassVar[str] = ".safetensors"

    def write(self, model: Model) -> bytes:
        """Return the file."""
        return tensors.encode(weights_by_name(model), {DESCRIPTION: description_json(model)})

    def read(self, data: bytes, max_parameters: int) -> Model:
        """Return the model of a file.

        Files of this server are supported, and PyTorch state dictionaries of linear layers.
        """
        arrays, metadata = tensors.decode(data)
        description = metadata.get(DESCRIPTION)
        if description is None:
            return read_undescribed(arrays, max_parameters, is_ordered=False)
        return read_described(description, arrays, max_parameters)
