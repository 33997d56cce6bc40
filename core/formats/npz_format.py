"""NumPy's npz."""

import io
from typing import ClassVar, Final, final

import numpy as np

from core.errors import FormatError
from core.formats.base import Model
from core.formats.named_arrays import (
    MAX_DESCRIPTION_BYTES,
    description_json,
    read_described,
    read_undescribed,
    weights_by_name,
)
from core.npz import read_archive, write_archive

DESCRIPTION: Final = "description"


@final
class Npz:
    """Named arrays, and the description as an array of its UTF-8 bytes."""

    type: ClassVar[str] = "npz"
    media_type: ClassVar[str] = "application/x-npz"
    suffix: ClassVar[str] = ".npz"

    def write(self, model: Model) -> bytes:
        """Return the file."""
        description = np.frombuffer(description_json(model).encode(), np.uint8)
        return write_archive({DESCRIPTION: description, **weights_by_name(model)})

    def read(self, data: bytes, max_parameters: int) -> Model:
        """Return the model of a file.

        Files of this server are supported, and lists of arrays of scikit-learn or Keras, saved by
        ``savez``.
        """
        arrays = read_archive(io.BytesIO(data), MAX_DESCRIPTION_BYTES + 8 * max_parameters)
        description = arrays.pop(DESCRIPTION, None)
        if description is None:
            return read_undescribed(arrays, max_parameters, is_ordered=True)
        if description.nbytes > MAX_DESCRIPTION_BYTES:
            raise FormatError(f"the description exceeds {MAX_DESCRIPTION_BYTES} bytes")
        try:
            text = description.astype(np.uint8).tobytes().decode()
            return read_described(text, arrays, max_parameters)
        except UnicodeDecodeError as error:
            raise FormatError("the description is not UTF-8") from error
