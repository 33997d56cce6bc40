"""The network as an MLflow model; ``python -m benchmarks.serving.mlflow_model FOLDER`` saves it."""

import os
import sys
from typing import Any

import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from benchmarks.serving.network import forward, parameters

INPUTS = int(os.environ.get("PEER_INPUTS", "25"))


class Network(mlflow.pyfunc.PythonModel):
    def load_context(self, context: Any) -> None:
        self._layers = parameters(INPUTS)

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return forward(self._layers, np.asarray(model_input, np.float32))


if __name__ == "__main__":
    kind = np.dtype(np.float32)
    signature = ModelSignature(
        Schema([TensorSpec(kind, (-1, INPUTS))]), Schema([TensorSpec(kind, (-1, 10))])
    )
    mlflow.pyfunc.save_model(
        sys.argv[1], python_model=__file__, pip_requirements=["mlflow"], signature=signature
    )
else:
    mlflow.models.set_model(Network())
