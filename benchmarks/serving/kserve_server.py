"""The network as a KServe V1 model."""

import argparse
import os
from typing import Any

import kserve
import numpy as np

from benchmarks.serving.network import forward, parameters


class Network(kserve.Model):
    def __init__(self) -> None:
        super().__init__("mlp")
        self._layers = parameters(int(os.environ.get("PEER_INPUTS", "25")))
        self.ready = True

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        rows = np.array(payload["instances"], np.float32)
        return {"predictions": forward(self._layers, rows).tolist()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[kserve.model_server.parser])
    arguments = parser.parse_args()
    kserve.ModelServer(
        http_port=arguments.http_port, workers=1, enable_grpc=False, access_log_format=None
    ).start([Network()])
