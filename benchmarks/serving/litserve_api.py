"""The network as a LitServe API."""

import os
import sys
from typing import Any

import litserve
import numpy as np
from fastapi import Request

from benchmarks.serving.network import forward, parameters


class Network(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self._layers = parameters(int(os.environ.get("PEER_INPUTS", "25")))

    def decode_request(self, request: Request, **_: Any) -> Any:
        return np.array(request["x"], np.float32)

    def predict(self, x: Any, **_: Any) -> Any:
        return forward(self._layers, x)

    def encode_response(self, output: Any, **_: Any) -> Any:
        return {"y": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Network(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
