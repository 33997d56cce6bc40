"""A typical service: FastAPI with pydantic models, on scikit-learn or on NumPy."""

import os
from typing import Any

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.serving.network import forward, parameters

app = FastAPI()
LAYERS = parameters(int(os.environ.get("PEER_INPUTS", "25")))
LABELS = list("0123456789")


class Rows(BaseModel):
    inputs: list[list[float]]


class Prediction(BaseModel):
    label: str
    class_index: int
    probability: float
    probabilities: list[float]


class Response(BaseModel):
    predictions: list[Prediction]


def _to_response(probabilities: Any) -> Response:
    best = probabilities.argmax(axis=1)
    return Response(
        predictions=[
            Prediction(
                label=LABELS[index],
                class_index=int(index),
                probability=float(row[index]),
                probabilities=row.tolist(),
            )
            for index, row in zip(best, probabilities, strict=True)
        ]
    )


@app.post("/numpy")
async def with_numpy(rows: Rows) -> Response:
    return _to_response(forward(LAYERS, np.array(rows.inputs, np.float32)))


def _scikit_learn() -> Any:
    from sklearn.neural_network import MLPClassifier

    inputs = LAYERS[0][0].shape[0]
    hidden = tuple(weights.shape[1] for weights, _ in LAYERS[:-1])
    generator = np.random.default_rng(0)
    model = MLPClassifier(hidden, max_iter=1)
    model.partial_fit(generator.random((20, inputs)), np.arange(20) % 10, np.arange(10))
    model.coefs_ = [weights.astype(float) for weights, _ in LAYERS]
    model.intercepts_ = [biases.astype(float) for _, biases in LAYERS]
    return model


if os.environ.get("PEER_SKLEARN"):
    MODEL = _scikit_learn()

    @app.post("/sklearn")
    async def with_scikit_learn(rows: Rows) -> Response:
        return _to_response(MODEL.predict_proba(np.array(rows.inputs)))
