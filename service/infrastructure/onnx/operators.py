"""Activations and their ONNX operators."""

from typing import Final

OPERATORS: Final = {
    "relu": "Relu",
    "leaky_relu": "LeakyRelu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "softmax": "Softmax",
}
ACTIVATIONS: Final = {operator: name for name, operator in OPERATORS.items()}
