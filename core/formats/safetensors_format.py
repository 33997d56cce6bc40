"""Safetensors: a JSON header, then raw numbers; nothing in it can run code."""

from typing import ClassVar, Final, final

from core import safetensors as tensors
from core.formats.base import Model
from core.formats.named_arrays import arrays_of, description_of, model_of, model_of_others

DESCRIPTION: Final = "neurond"


@final
class Safetensors:
    """Named arrays, and the description in the header's metadata."""

    type: ClassVar[str] = "safetensors"
    media_type: ClassVar[str] = "application/vnd.safetensors"
    suffix: ClassVar[str] = ".safetensors"

    def write(self, model: Model) -> bytes:
        """Return the file."""
        return tensors.encode(arrays_of(model), {DESCRIPTION: description_of(model)})

    def read(self, data: bytes, max_parameters: int) -> Model:
        """Return the model of a file: ours, or a PyTorch state dictionary of linear layers."""
        arrays, metadata = tensors.decode(data)
        described = metadata.get(DESCRIPTION)
        if described is None:
            return model_of_others(arrays, max_parameters)
        return model_of(described, arrays, max_parameters)
