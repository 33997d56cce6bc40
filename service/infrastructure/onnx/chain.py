"""ONNX tensors as functions of the input of the graph: chains of dense layers."""

from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, final

import numpy as np

from core.activations import Activation, Linear, Sigmoid, Softmax
from core.arrays import Array
from core.errors import FormatError
from core.formats import Model
from core.formats.named_arrays import build_model
from core.network import LayerWeights
from core.preprocessing import Preprocessing, Standardization

MAX_LAYERS: Final = 1000


class Affine(NamedTuple):
    """factor * x + offset for each column, both (columns,) or (1,), in float64."""

    factor: Array
    offset: Array

    @property
    def changes(self) -> bool:
        """Whether it is another function than x."""
        return bool((self.factor != 1.0).any() or (self.offset != 0.0).any())


IDENTITY: Final = Affine(np.ones(1), np.zeros(1))


@final
@dataclass(frozen=True, slots=True)
class Chain:
    """Dense layers in the order in which the graph applies them.

    Attributes
    ----------
    mean, scale : (columns,) or (1,)
        The first layer gets (x - mean) / scale. None if the input is not changed.
    layers
        Weights (inputs, units) and biases (units,) of each layer.
    activations
        One for each layer.
    biased
        Whether the last layer has its biases.
    after
        Applied to the outputs of the last layer.
    logarithm
        Whether the graph takes the logarithm of the outputs.
    has_channels
        Whether the rows have more than one dimension, until they are flattened.
    is_list
        Whether the only column was squeezed, so that there is no dimension of columns.
    """

    mean: Array | None = None
    scale: Array | None = None
    layers: tuple[LayerWeights, ...] = ()
    activations: tuple[Activation, ...] = ()
    biased: bool = True
    after: Affine = IDENTITY
    logarithm: bool = False
    has_channels: bool = False
    is_list: bool = False

    def require_rows(self) -> "Chain":
        """Return the chain; raise FormatError unless it has the shape (rows, columns)."""
        if self.has_channels:
            raise FormatError("of an input with channels must come after a Flatten")
        if self.is_list or self.logarithm:
            change = "LogSoftmax" if self.logarithm else "Squeeze"
            raise FormatError(f"after {change} is not supported")
        return self

    @property
    def width(self) -> int | None:
        """Columns of the tensor, or None before the first layer."""
        return self.layers[-1].weights.shape[1] if self.layers else None

    @property
    def is_linear(self) -> bool:
        """Whether the last layer has no activation."""
        return bool(self.layers) and isinstance(self.activations[-1], Linear)

    @property
    def is_probability(self) -> bool:
        """Whether the tensor is the output of a single sigmoid unit."""
        sigmoid = self.width == 1 and isinstance(self.activations[-1], Sigmoid)
        return sigmoid and not self.after.changes

    def multiply(self, weights: Array, biases: Array | None) -> "Chain":
        """Return the chain with another layer."""
        if len(self.layers) == MAX_LAYERS:
            raise FormatError(f"the graph has more than {MAX_LAYERS} layers")
        if self.width is not None and len(weights) != self.width:
            raise FormatError(f"expects {len(weights)} columns, but gets {self.width}")
        before = self._folded() if self.is_linear else self
        values = np.zeros(weights.shape[1], weights.dtype) if biases is None else biases
        layer = LayerWeights(weights, values)
        if before.layers and before.after.changes:
            layer = _fold_before(before.after, layer)
        return replace(
            before,
            layers=(*before.layers, layer),
            activations=(*before.activations, Linear()),
            biased=biases is not None,
            after=IDENTITY,
        )

    def affine(self, factor: Array, offset: Array) -> "Chain":
        """Return the chain followed by factor * x + offset."""
        columns = self.width
        if columns is not None and any(len(part) not in {1, columns} for part in (factor, offset)):
            got = max(len(factor), len(offset))
            raise FormatError(f"has {got} values for {columns} columns")
        if not (np.isfinite(factor).all() and np.isfinite(offset).all()):
            raise FormatError("has a constant that is not finite")
        if not self.layers:
            return self._affine_before(factor, offset)
        if not self.biased and not self.after.changes and (factor == 1.0).all():
            layer = _fold_after(self.layers[-1], Affine(factor, offset))
            return replace(self, layers=(*self.layers[:-1], layer), biased=True)
        with np.errstate(over="ignore", invalid="ignore"):
            after = Affine(self.after.factor * factor, self.after.offset * factor + offset)
        if not (np.isfinite(after.factor).all() and np.isfinite(after.offset).all()):
            raise FormatError("scales the outputs beyond the range of numbers")
        return replace(self, after=after)

    def divide(self, divisor: Array) -> "Chain":
        """Return the chain followed by x / divisor."""
        if not (np.isfinite(divisor).all() and (divisor != 0.0).all()):
            raise FormatError("divides by 0 or by a number that is not finite")
        if self.layers:
            return self.affine(1.0 / divisor, np.zeros(1))
        # Not by way of 1 / divisor, so that a standardization stays the same in every bit.
        return self._affine_before(np.ones(1), np.zeros(1), divisor)

    def _affine_before(
        self, factor: Array, offset: Array, divisor: Array = IDENTITY.factor
    ) -> "Chain":
        """Return the chain with x * factor / divisor + offset before its first layer."""
        if (factor == 0.0).any():
            raise FormatError("multiplies the input by 0")
        mean = np.zeros(1) if self.mean is None else self.mean
        scale = np.ones(1) if self.scale is None else self.scale
        if len({len(part) for part in (mean, scale, factor, offset, divisor)} - {1}) > 1:
            raise FormatError("has another number of values than the operators before it")
        with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
            scale = scale * divisor / factor
            mean = mean - offset * scale
        return replace(self, mean=mean, scale=scale)

    def activate(self, activation: Activation) -> "Chain":
        """Return the chain with an activation of its last layer."""
        if not self.is_linear:
            raise FormatError("is not directly after a layer")
        folded = self._folded()
        return replace(folded, activations=(*folded.activations[:-1], activation))

    def _folded(self) -> "Chain":
        """Return the chain with `after` within its last layer, which is linear."""
        if not self.after.changes:
            return replace(self, biased=True)
        layers = (*self.layers[:-1], _fold_after(self.layers[-1], self.after))
        return replace(self, layers=layers, after=IDENTITY, biased=True)

    def as_pair(self) -> "Chain":
        """Return [1 - p, p] for a unit with the output p: a softmax over [0, z]."""
        layer = self.layers[-1]
        weights = np.hstack([np.zeros_like(layer.weights), layer.weights])
        biases = np.concatenate([np.zeros_like(layer.biases), layer.biases])
        return replace(
            self,
            layers=(*self.layers[:-1], LayerWeights(weights, biases)),
            activations=(*self.activations[:-1], Softmax()),
        )

    def model(self, labels: tuple[str, ...] | None, notes: tuple[str, ...]) -> Model:
        """Return the model.

        Raises
        ------
        FormatError
            If no network computes the same function.
        """
        if not self.layers:
            raise FormatError("the graph contains no dense layer")
        chain, targets = self, None
        if self.after.changes:
            if not self.is_linear:
                raise FormatError(
                    "the outputs of the last activation are scaled or moved, which no layer does"
                )
            factor, offset = (np.broadcast_to(part, self.width or 1) for part in self.after)
            if (factor > 0.0).all() and (factor != 1.0).any():
                targets = Standardization(offset.copy(), factor.copy())
                chain = replace(self, after=IDENTITY)
            else:
                chain = self._folded()
        layers, inputs = _standardization(chain)
        model = build_model(layers, chain.activations, notes, labels)
        return Model(model.network, labels, Preprocessing(inputs, targets), notes)


def _standardization(
    chain: Chain,
) -> tuple[tuple[LayerWeights, ...], Standardization | None]:
    """Return the layers and what is left of the operators before the first one."""
    if chain.mean is None or chain.scale is None:
        return chain.layers, None
    columns = len(chain.layers[0].weights)
    if any(len(part) not in {1, columns} for part in (chain.mean, chain.scale)):
        raise FormatError(f"the standardisation does not match the {columns} inputs of the network")
    mean, scale = (np.broadcast_to(part, columns).copy() for part in (chain.mean, chain.scale))
    if not (np.isfinite(mean).all() and np.isfinite(scale).all() and (scale != 0.0).all()):
        raise FormatError("expected a standardisation with finite means and scales")
    if (scale > 0.0).all():
        return chain.layers, Standardization(mean, scale)
    first = _fold_before(Affine(1.0 / scale, -mean / scale), chain.layers[0])
    return (first, *chain.layers[1:]), None


def _fold_before(affine: Affine, layer: LayerWeights) -> LayerWeights:
    """Return the layer that computes ``layer`` of ``affine``."""
    columns = len(layer.weights)
    factor, offset = (np.broadcast_to(part, columns) for part in affine)
    weights = layer.weights * factor[:, np.newaxis]
    biases = layer.biases + offset @ layer.weights.astype(np.float64)
    return _cast(weights, biases, layer.weights.dtype)


def _fold_after(layer: LayerWeights, affine: Affine) -> LayerWeights:
    """Return the layer that computes ``affine`` of ``layer``."""
    weights, biases = layer.weights * affine.factor, layer.biases * affine.factor + affine.offset
    return _cast(weights, biases, layer.weights.dtype)


def _cast(weights: Array, biases: Array, dtype: np.dtype[Any]) -> LayerWeights:
    """Return weights and biases in a dtype; an overflow is found when the model is built."""
    with np.errstate(over="ignore"):
        return LayerWeights(weights.astype(dtype), biases.astype(dtype))
