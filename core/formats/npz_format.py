"""NumPy's npz."""

from typing import ClassVar, Final, final

import numpy as np

from core.errors import FormatError
from core.formats.base import Model
from core.formats.named_arrays import (
    MAX_DESCRIPTION_BYTES,
    arrays_of,
    description_of,
    model_of,
    model_of_others,
)
from core.npz import read_archive, write_archive

DESCRIPTION: Final = "description"


@final
class Npz:
    """Named arrays, and the description as the bytes of its UTF-8."""

    type: ClassVar[str] = "npz"
    media_type: ClassVar[str] = "application/x-npz"
    suffix: ClassVar[str] = ".npz"

    def write(self, model: Model) -> bytes:
        """Return the file."""
        described = np.frombuffer(description_of(model).encode(), np.uint8)
        return write_archive({DESCRIPTION: described, **arrays_of(model)})

    def read(self, data: bytes, max_parameters: int) -> Model:
        """Return the model of a file: ours, scikit-learn's or Keras' lists as savez has them."""
        arrays = read_archive(data, MAX_DESCRIPTION_BYTES + 8 * max_parameters)
        described = arrays.pop(DESCRIPTION, None)
        if described is None:
            return model_of_others(arrays, max_parameters)
        if described.nbytes > MAX_DESCRIPTION_BYTES:
            raise FormatError(f"the description is longer than {MAX_DESCRIPTION_BYTES} bytes")
        try:
            text = described.astype(np.uint8).tobytes().decode()
            return model_of(text, arrays, max_parameters)
        except UnicodeDecodeError as error:
            raise FormatError("the description is not UTF-8") from error
