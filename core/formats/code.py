"""A model as one file of source code without dependencies."""

import json
from typing import Any, ClassVar, Final, final

from core.formats.base import Model
from core.layers import Dense

PYTHON: Final = '''"""A neural network in plain Python without dependencies.

    python network.py '[[...], [...]]'     prints the result for each row

`predict(row)` returns the outputs and `classify(row)` the class. A row is a list of raw values.
"""

import json
import math
import sys

MODEL = json.loads(r"""
@MODEL@
""")


def _sigmoid(z):
    return 1.0 / (1.0 + math.exp(-z)) if z >= 0.0 else math.exp(z) / (1.0 + math.exp(z))


def _softmax(z):
    top = max(z)
    powers = [math.exp(value - top) for value in z]
    total = sum(powers)
    return [power / total for power in powers]


def _activate(layer, z):
    name = layer["activation"]
    if name == "softmax":
        return _softmax(z)
    functions = {
        "linear": lambda value: value,
        "relu": lambda value: max(value, 0.0),
        "leaky_relu": lambda value: value if value > 0.0 else layer["negative_slope"] * value,
        "sigmoid": _sigmoid,
        "tanh": math.tanh,
    }
    return [functions[name](value) for value in z]


def predict(row):
    """Return the outputs for one row."""
    if len(row) != MODEL["inputs"]:
        raise ValueError(f"expected {MODEL['inputs']} values, got {len(row)}")
    x = [float(value) for value in row]
    if MODEL["input_scale"]:
        x = [(v - m) / s for v, m, s in zip(x, MODEL["input_mean"], MODEL["input_scale"])]
    for layer in MODEL["layers"]:
        z = list(layer["biases"])
        for value, weights in zip(x, layer["weights"]):
            for unit, weight in enumerate(weights):
                z[unit] += value * weight
        x = _activate(layer, z)
    if MODEL["output_scale"]:
        x = [v * s + m for v, m, s in zip(x, MODEL["output_mean"], MODEL["output_scale"])]
    return x


def classify(row):
    """Return the most probable class of one row, with all probabilities."""
    if MODEL["labels"] is None:
        raise ValueError("the outputs of this network are not probabilities; use predict")
    outputs = predict(row)
    probabilities = [1.0 - outputs[0], outputs[0]] if len(outputs) == 1 else outputs
    best = max(range(len(probabilities)), key=probabilities.__getitem__)
    return {
        "label": MODEL["labels"][best],
        "class_index": best,
        "probability": probabilities[best],
        "probabilities": probabilities,
    }


if __name__ == "__main__":
    function = predict if MODEL["labels"] is None else classify
    for row in json.loads(sys.argv[1]):
        print(json.dumps(function(row)))
'''

JAVASCRIPT: Final = """// A neural network in plain JavaScript without dependencies.
//
//   import { classify, predict } from './network.mjs';
//
// predict(row) returns the outputs and classify(row) the class. A row is an array of raw values.

const MODEL = @MODEL@;

const softmax = (z) => {
  const top = Math.max(...z);
  const powers = z.map((value) => Math.exp(value - top));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
};

const activate = (layer, z) => {
  const functions = {
    linear: (value) => value,
    relu: (value) => Math.max(value, 0),
    leaky_relu: (value) => (value > 0 ? value : layer.negative_slope * value),
    sigmoid: (value) => 1 / (1 + Math.exp(-value)),
    tanh: Math.tanh,
  };
  return layer.activation === 'softmax' ? softmax(z) : z.map(functions[layer.activation]);
};

/** Return the outputs for one row. */
export function predict(row) {
  if (row.length !== MODEL.inputs) {
    throw new RangeError(`expected ${MODEL.inputs} values, got ${row.length}`);
  }
  let x = row.map(Number);
  if (MODEL.input_scale) {
    x = x.map((value, i) => (value - MODEL.input_mean[i]) / MODEL.input_scale[i]);
  }
  for (const layer of MODEL.layers) {
    const z = [...layer.biases];
    x.forEach((value, i) => {
      layer.weights[i].forEach((weight, unit) => {
        z[unit] += value * weight;
      });
    });
    x = activate(layer, z);
  }
  if (MODEL.output_scale) {
    x = x.map((value, i) => value * MODEL.output_scale[i] + MODEL.output_mean[i]);
  }
  return x;
}

/** Return the most probable class of one row, with all probabilities. */
export function classify(row) {
  if (MODEL.labels === null) {
    throw new TypeError("the outputs of this network are not probabilities; use predict");
  }
  const outputs = predict(row);
  const probabilities = outputs.length === 1 ? [1 - outputs[0], outputs[0]] : outputs;
  const best = probabilities.indexOf(Math.max(...probabilities));
  return {
    label: MODEL.labels[best],
    class_index: best,
    probability: probabilities[best],
    probabilities,
  };
}
"""


@final
class PythonCode:
    """A Python file that computes predictions without any package."""

    type: ClassVar[str] = "python"
    media_type: ClassVar[str] = "text/x-python"
    suffix: ClassVar[str] = ".py"

    def write(self, model: Model) -> bytes:
        """Return the file."""
        # ASCII JSON never contains three consecutive quotes, so it cannot end the raw string.
        return PYTHON.replace("@MODEL@", _model_json(model)).encode()


@final
class JavaScriptCode:
    """A JavaScript module that computes predictions without any package."""

    type: ClassVar[str] = "javascript"
    media_type: ClassVar[str] = "text/javascript"
    suffix: ClassVar[str] = ".mjs"

    def write(self, model: Model) -> bytes:
        """Return the file."""
        return JAVASCRIPT.replace("@MODEL@", _model_json(model)).encode()


def _model_json(model: Model) -> str:
    """Return the model as ASCII JSON with shortest round-trip decimals."""
    layers: list[dict[str, Any]] = []
    for layer, part in zip(model.network.layers, model.network.layer_weights(), strict=True):
        if isinstance(layer, Dense) and part is not None:
            layers.append(
                {
                    "activation": layer.activation.type,
                    "negative_slope": getattr(layer.activation, "negative_slope", None),
                    "weights": part.weights.astype(float).tolist(),
                    "biases": part.biases.astype(float).tolist(),
                }
            )
    preprocessing = model.preprocessing.config() or {}
    inputs, targets = preprocessing.get("inputs") or {}, preprocessing.get("targets") or {}
    data = {
        "inputs": model.network.inputs,
        "labels": None if model.labels is None else list(model.labels),
        "input_mean": inputs.get("mean"),
        "input_scale": inputs.get("scale"),
        "output_mean": targets.get("mean"),
        "output_scale": targets.get("scale"),
        "layers": layers,
    }
    return json.dumps(data, ensure_ascii=True, separators=(",", ":"))
