"""The network as an MLServer runtime."""

import os

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.serving.network import forward, parameters


class Network(MLModel):
    async def load(self) -> bool:
        self._layers = parameters(int(os.environ.get("PEER_INPUTS", "25")))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = NumpyCodec.decode_input(payload.inputs[0])
        output = NumpyCodec.encode_output("predict", forward(self._layers, rows))
        return InferenceResponse(model_name=self.name, outputs=[output])
