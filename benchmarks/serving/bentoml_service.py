"""The network as a BentoML service."""

import os

import bentoml
import numpy as np

from benchmarks.serving.network import forward, parameters


@bentoml.service(workers=1)
class Network:
    def __init__(self) -> None:
        self._layers = parameters(int(os.environ.get("PEER_INPUTS", "25")))

    @bentoml.api
    async def predict(self, x: list[list[float]]) -> list[list[float]]:
        outputs: list[list[float]] = forward(self._layers, np.array(x, np.float32)).tolist()
        return outputs
