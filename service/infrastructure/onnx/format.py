"""The format: files written, held against ONNX Runtime, and read."""

from typing import ClassVar, Final, final

import numpy as np

from core.arrays import Array
from core.formats import Model
from core.inference import Forward
from service.domain.errors import ConflictError

CHECKED_ROWS: Final = 64
TOLERANCE: Final = 1e-5


class ExportMismatchError(ConflictError):
    """The written graph does not answer as the network does."""

    code = "export_differs"


@final
class Onnx:
    """Written, checked and read: `core.formats.Writes`, `Reads` and `weights.Checks` in one."""

    type: ClassVar[str] = "onnx"
    media_type: ClassVar[str] = "application/onnx"
    suffix: ClassVar[str] = ".onnx"

    def write(self, model: Model) -> bytes:
        """Return the file."""
        from service.infrastructure.onnx.writer import Writer  # noqa: PLC0415 - slow to load

        data: bytes = Writer(model).graph().SerializeToString(deterministic=True)
        return data

    def check(self, model: Model, data: bytes) -> dict[str, str]:
        """Run the file through ONNX Runtime, where there is one, and tell how it compares.

        Raises
        ------
        ExportDiffers
            When an output is off by more than `TOLERANCE`.
        """
        try:
            import onnxruntime  # noqa: PLC0415 - optional, and slow to load
        except ImportError:
            return {"Neurond-Export-Check": "skipped; onnxruntime is not installed"}
        rows = _sample(model)
        ours = Forward(model.network, model.preprocessing)(rows)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(data, options, ["CPUExecutionProvider"])
        told = session.run(None, {"input": rows.astype(model.network.dtype)})
        scale = max(1.0, float(np.abs(ours).max()))
        difference = float(np.abs(told[0].astype(np.float64) - ours).max()) / scale
        if not difference <= TOLERANCE:
            problem = f"ONNX Runtime's outputs differ from ours by {difference:.2e}"
            raise ExportMismatchError(problem)
        headers = {"Neurond-Export-Difference": f"{difference:.3e}"}
        if model.labels is not None:
            same = np.array(_labels(model.labels, ours)) == told[1]
            headers["Neurond-Export-Label-Agreement"] = f"{np.mean(same):.4f}"
        return headers

    def read(self, data: bytes, max_parameters: int) -> Model:
        """Return the model of a file."""
        from service.infrastructure.onnx.reader import read  # noqa: PLC0415 - slow to load

        return read(data, max_parameters)


def _sample(model: Model) -> Array:
    """Return rows like those that the network is made for, the same for the same network."""
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(CHECKED_ROWS, model.network.inputs))
    if model.preprocessing.inputs is not None:
        rows = model.preprocessing.inputs.invert(rows)
    # The graph takes rows in the network's dtype, so both are given what that holds.
    return np.asarray(rows.astype(model.network.dtype).astype(np.float64))


def _labels(labels: tuple[str, ...], outputs: Array) -> list[str]:
    best = outputs[:, 0] > 0.5 if outputs.shape[1] == 1 else outputs.argmax(axis=1)
    return [labels[int(at)] for at in best]
