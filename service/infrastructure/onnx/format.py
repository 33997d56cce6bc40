"""The ONNX format: write files, compare them with ONNX Runtime, and read them."""

from typing import ClassVar, Final, final

import numpy as np

from core.arrays import Array
from core.formats import Model
from core.inference import Forward
from service.domain.errors import ConflictError

CHECKED_ROWS: Final = 64
TOLERANCE: Final = 1e-5


class ExportMismatchError(ConflictError):
    """The outputs of the exported graph differ from those of the network."""

    code = "export_differs"


@final
class Onnx:
    """A `core.formats.ModelWriter`, a `ModelReader` and a `ExportCheck` in one."""

    type: ClassVar[str] = "onnx"
    media_type: ClassVar[str] = "application/onnx"
    suffix: ClassVar[str] = ".onnx"

    def write(self, model: Model) -> bytes:
        """Return the model as the bytes of an ONNX file."""
        from service.infrastructure.onnx.writer import Writer  # noqa: PLC0415 - slow to load

        data: bytes = Writer(model).graph().SerializeToString(deterministic=True)
        return data

    def check(self, model: Model, data: bytes) -> dict[str, str]:
        """Run the file in ONNX Runtime, if installed, and return the comparison as headers.

        Raises
        ------
        ExportMismatchError
            If the largest difference of an output exceeds `TOLERANCE`, relative to the largest
            absolute output or 1, whichever is larger.
        """
        try:
            import onnxruntime  # noqa: PLC0415 - optional, and slow to load
        except ImportError:
            return {"Neurond-Export-Check": "skipped; onnxruntime is not installed"}
        rows = _sample(model)
        expected = Forward(model.network, model.preprocessing)(rows)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(data, options, ["CPUExecutionProvider"])
        outputs = session.run(None, {"input": rows.astype(model.network.dtype)})
        scale = max(1.0, float(np.abs(expected).max()))
        difference = float(np.abs(outputs[0].astype(np.float64) - expected).max()) / scale
        if not difference <= TOLERANCE:
            problem = (
                f"the outputs of the exported file differ by {difference:.2e} in ONNX Runtime; "
                f"at most {TOLERANCE} is allowed"
            )
            raise ExportMismatchError(problem)
        headers = {"Neurond-Export-Difference": f"{difference:.3e}"}
        if model.labels is not None:
            same = np.array(_labels(model.labels, expected)) == outputs[1]
            headers["Neurond-Export-Label-Agreement"] = f"{np.mean(same):.4f}"
        return headers

    def read(self, data: bytes, max_parameters: int) -> Model:
        """Return the model of an ONNX file."""
        from service.infrastructure.onnx.reader import read  # noqa: PLC0415 - slow to load

        return read(data, max_parameters)


def _sample(model: Model) -> Array:
    """Return typical inputs of the network, of shape (`CHECKED_ROWS`, inputs); deterministic."""
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(CHECKED_ROWS, model.network.inputs))
    if model.preprocessing.inputs is not None:
        rows = model.preprocessing.inputs.invert(rows)
    # The graph takes rows in the dtype of the network, so both get values that it can represent.
    return np.asarray(rows.astype(model.network.dtype).astype(np.float64))


def _labels(labels: tuple[str, ...], outputs: Array) -> list[str]:
    best = outputs[:, 0] > 0.5 if outputs.shape[1] == 1 else outputs.argmax(axis=1)
    return [labels[int(at)] for at in best]
