"""Schedules, initializers, metrics, preprocessing, data sets, and component configurations."""

import numpy as np
import pytest

from core.activations import ACTIVATIONS
from core.configuration import build, describe
from core.datasets import BUILTINS, builtin, clean_digits
from core.errors import (
    ConfigurationError,
    EngineError,
    NonFiniteError,
    ShapeError,
    UnknownTypeError,
)
from core.initializers import INITIALIZERS
from core.layers import LAYERS, layer_from
from core.losses import LOSSES
from core.metrics import (
    classification_report,
    confusion_matrix,
    precision_recall_f1,
    r2_score,
    regression_report,
    top_k_accuracy,
)
from core.network import LayerWeights, Network
from core.optimizers import OPTIMIZERS
from core.preprocessing import Preprocessing, Standardization
from core.schedules import SCHEDULES

TABLES = [
    ("activation", ACTIVATIONS),
    ("initializer", INITIALIZERS),
    ("loss", LOSSES),
    ("optimizer", OPTIMIZERS),
    ("schedule", SCHEDULES),
]


@pytest.mark.parametrize(("kind", "table"), TABLES)
def test_every_component_is_rebuilt_from_its_configuration(kind: str, table: dict) -> None:  # type: ignore[type-arg]
    for name in table:
        part = build(table, kind, name)

        assert describe(part)["type"] == name
        assert build(table, kind, describe(part)) == part
        with pytest.raises(ConfigurationError, match="unknown"):
            build(table, kind, {"type": name, "unknown_field": 1})
    with pytest.raises(UnknownTypeError, match="expected one of"):
        build(table, kind, "nonsense")


@pytest.mark.parametrize("value", [True, "1", None, -1.0, float("nan"), float("inf"), [1]])
def test_an_invalid_learning_rate_is_rejected(value: object) -> None:
    with pytest.raises(ConfigurationError):
        build(OPTIMIZERS, "optimizer", {"type": "adam", "learning_rate": value})


@pytest.mark.parametrize(
    ("kind", "table", "config"),
    [
        ("schedule", SCHEDULES, {"type": "step", "every": 0}),
        ("schedule", SCHEDULES, {"type": "step", "every": 1.5}),
        ("schedule", SCHEDULES, {"type": "exponential", "decay": 1.5}),
        ("optimizer", OPTIMIZERS, {"type": "sgd", "nesterov": 1}),
        ("optimizer", OPTIMIZERS, {"type": "adam", "beta1": 1.0}),
        ("activation", ACTIVATIONS, {"type": "leaky_relu", "negative_slope": 2.0}),
        ("loss", LOSSES, {"type": "huber", "delta": 0.0}),
        ("layer", {"dropout": LAYERS["dropout"]}, {"type": "dropout"}),
    ],
)
def test_invalid_fields_are_rejected(kind: str, table: dict, config: dict) -> None:  # type: ignore[type-arg]
    with pytest.raises(ConfigurationError):
        build(table, kind, config)


def test_schedules_follow_their_equations() -> None:
    def rates(config: object) -> list[float]:
        schedule = build(SCHEDULES, "schedule", config)
        return [round(schedule.learning_rate(1.0, epoch, 4), 6) for epoch in range(4)]

    assert rates("constant") == [1.0, 1.0, 1.0, 1.0]
    assert rates("cosine") == [1.0, 0.853553, 0.5, 0.146447]
    assert rates({"type": "step", "every": 2, "factor": 0.1}) == [1.0, 1.0, 0.1, 0.1]
    assert rates({"type": "linear", "min_learning_rate": 0.2}) == [1.0, 0.8, 0.6, 0.4]
    assert rates({"type": "exponential", "decay": 0.5}) == [1.0, 0.5, 0.25, 0.125]
    assert rates({"type": "warmup_cosine", "warmup_epochs": 2}) == [0.5, 1.0, 1.0, 0.5]
    assert rates({"type": "cosine", "min_learning_rate": 0.5}) == [1.0, 0.926777, 0.75, 0.573223]
    warm = {"type": "warmup_cosine", "warmup_epochs": 2, "min_learning_rate": 0.5}
    assert rates(warm) == [0.5, 1.0, 1.0, 0.75]


def test_the_default_slope_of_a_leaky_rectifier_is_a_hundredth() -> None:
    z = np.array([[-2.0, 3.0]])

    assert ACTIVATIONS["leaky_relu"]().forward(z).tolist() == [[-0.02, 3.0]]
    assert build(ACTIVATIONS, "activation", {"type": "leaky_relu", "negative_slope": 0.5}).forward(
        z
    ).tolist() == [[-1.0, 3.0]]


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initial_weights_have_the_variance_of_their_paper(name: str) -> None:
    drawn = INITIALIZERS[name]().draw(400, 200, np.random.default_rng(0))

    variance = {"he": 2.0 / 400, "xavier": 2.0 / 600, "zeros": 0.0}[name.split("_")[0]]
    assert drawn.shape == (400, 200)
    assert abs(drawn.mean()) < 1e-3
    assert drawn.var() == pytest.approx(variance, rel=0.02)


def test_metrics_agree_with_a_case_computed_by_hand() -> None:
    actual = np.array([0, 0, 1, 1, 2, 2])
    predicted = np.array([0, 1, 1, 1, 2, 0])

    confusion = confusion_matrix(predicted, actual, 3)
    precision, recall, f1 = precision_recall_f1(confusion)

    assert confusion.tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 1]]
    np.testing.assert_allclose(precision, [1 / 2, 2 / 3, 1.0])
    np.testing.assert_allclose(recall, [1 / 2, 1.0, 1 / 2])
    np.testing.assert_allclose(f1, [1 / 2, 4 / 5, 2 / 3])


def test_top_k_accuracy_counts_classes_among_the_largest_outputs() -> None:
    outputs = np.array([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]])

    assert top_k_accuracy(outputs, np.array([1, 2]), 1) == 0.0
    assert top_k_accuracy(outputs, np.array([1, 2]), 2) == 0.5
    assert top_k_accuracy(outputs, np.array([1, 2]), 9) == 1.0


def test_one_sigmoid_is_reported_as_two_classes() -> None:
    report = classification_report(np.array([[0.2], [0.9]]), np.array([0, 1]), 2)

    assert report["accuracy"] == 1.0
    assert report["confusion_matrix"] == [[1, 0], [0, 1]]
    assert report["top_3_accuracy"] == 1.0


def test_r2_is_one_for_exact_outputs_and_zero_for_the_mean() -> None:
    targets = np.array([[1.0], [2.0], [3.0]])

    assert r2_score(targets, targets) == 1.0
    assert r2_score(np.full((3, 1), 2.0), targets) == 0.0
    assert r2_score(targets, np.ones((3, 1))) == 0.0
    assert regression_report(targets + 2.0, targets) == {"mse": 4.0, "mae": 2.0, "r2": -5.0}
    both = np.hstack([targets, 10.0 * targets])
    half = np.hstack([targets, np.full((3, 1), 20.0)])
    assert r2_score(half, both) == 0.5


def test_standardization_gives_mean_zero_and_is_invertible() -> None:
    rows = np.random.default_rng(0).normal([5.0, -300.0, 7.0], [2.0, 40.0, 0.0], (50, 3))

    standardization = Standardization.fit(rows)

    applied = standardization.apply(rows)
    np.testing.assert_allclose(applied.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(applied.std(axis=0), [1.0, 1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(standardization.invert(applied), rows)


def test_columns_with_a_common_range_share_a_scale() -> None:
    pixels = np.random.default_rng(0).integers(0, 2, (500, 9)) * 255.0
    pixels[:, 0] = 0.0
    pixels[0, 0] = 255.0  # a pixel that is rarely active

    assert len(set(Standardization.fit(pixels).scale.tolist())) == 1


def test_preprocessing_is_rebuilt_from_its_configuration() -> None:
    rows = np.random.default_rng(0).normal(size=(9, 2))
    original = Preprocessing(Standardization.fit(rows), Standardization.fit(rows[:, :1]))

    again = Preprocessing.from_config(original.config(), 2, 1)

    assert again.config() == original.config()
    assert not Preprocessing.from_config(None, 2, 1)


@pytest.mark.parametrize(
    "config",
    [
        [],
        {"unknown": 1},
        {"inputs": {"mean": [0.0], "scale": [1.0]}},
        {"inputs": {"mean": [0.0, 0.0]}},
        {"inputs": {"mean": [0.0, 0.0], "scale": [1.0, 0.0]}},
        {"inputs": {"mean": [0.0, "x"], "scale": [1.0, 1.0]}},
        {"inputs": {"mean": [0.0, float("inf")], "scale": [1.0, 1.0]}},
    ],
)
def test_an_invalid_preprocessing_configuration_is_rejected(config: object) -> None:
    with pytest.raises(EngineError):
        Preprocessing.from_config(config, 2, 1)


@pytest.mark.parametrize("name", BUILTINS)
def test_a_builtin_data_set_is_reproducible_for_a_seed(name: str) -> None:
    first, repeated = (builtin(name, 50, 0.1, seed=4) for _ in range(2))
    other_seed = builtin(name, 50, 0.1, seed=5)

    assert first.inputs.shape == (50, len(first.columns))
    assert len(first.targets) == 50
    np.testing.assert_array_equal(first.inputs, repeated.inputs)
    assert not np.array_equal(first.inputs, other_seed.inputs) or name == "sine"
    assert np.isfinite(builtin(name, None, None, seed=0).inputs).all()


def test_a_tenth_of_the_pixels_of_digits_is_inverted() -> None:
    drawn = builtin("digits", 2000, 0.0, seed=1)

    clean = clean_digits()[drawn.targets]
    assert np.isin(drawn.inputs, (0.0, 1.0)).all()
    assert (drawn.inputs != clean).mean() == pytest.approx(0.1, abs=0.01)
    assert np.bincount(drawn.targets).tolist() == [200] * 10


@pytest.mark.parametrize("name", ["moons", "circles", "spirals", "xor"])
def test_noise_moves_the_points(name: str) -> None:
    exact, noisy = builtin(name, 200, 0.0, seed=1), builtin(name, 200, 0.2, seed=1)

    assert 0.05 < np.abs(exact.inputs - noisy.inputs).mean() < 0.5
    assert len(np.unique(exact.targets)) == 2


def test_circles_are_concentric_and_moons_are_separate() -> None:
    circles, moons = builtin("circles", 200, 0.0, seed=1), builtin("moons", 200, 0.0, seed=1)

    radii = [np.linalg.norm(circles.inputs[circles.targets == c], axis=1) for c in (0, 1)]
    assert max(map(np.ptp, radii)) < 1e-9
    assert abs(radii[0][0] - radii[1][0]) > 0.2
    first, second = (moons.inputs[moons.targets == c] for c in (0, 1))
    gaps = np.linalg.norm(first[:, None] - second[None], axis=2)
    assert gaps.min() > 0.1


def test_invalid_arguments_of_builtin_are_rejected() -> None:
    with pytest.raises(UnknownTypeError):
        builtin("nothing", 10, None, 0)
    with pytest.raises(ConfigurationError):
        builtin("digits", 10, -1.0, 0)
    with pytest.raises(ConfigurationError):
        builtin("digits", 1, 0.1, 0)


@pytest.mark.parametrize(
    ("layer", "path"),
    [
        ("dense", ()),
        ({"type": "convolution"}, ("type",)),
        ({"units": 3}, ("type",)),
        ({"type": "dense"}, ("units",)),
        ({"type": "dense", "units": 0}, ("units",)),
        ({"type": "dense", "units": True}, ("units",)),
        ({"type": "dense", "units": 2, "colour": "red"}, ("colour",)),
        ({"type": "dense", "units": 2, "activation": "magic"}, ("activation",)),
        ({"type": "dense", "units": 2, "initializer": "magic"}, ("initializer",)),
        ({"type": "dense", "units": 2, "negative_slope": 0.1}, ("negative_slope",)),
        (
            {"type": "dense", "units": 2, "activation": "leaky_relu", "negative_slope": 7.0},
            ("activation", "negative_slope"),
        ),
        ({"type": "dropout", "rate": 1.0}, ("rate",)),
    ],
)
def test_an_invalid_layer_is_rejected_with_the_path(layer: object, path: tuple[str, ...]) -> None:
    with pytest.raises(EngineError) as caught:
        layer_from(layer)

    assert caught.value.path == path


def test_a_layer_is_rebuilt_from_its_configuration() -> None:
    for config in (
        {"type": "dense", "units": 3, "activation": "tanh", "initializer": "zeros"},
        {"type": "dense", "units": 3, "activation": "leaky_relu", "negative_slope": 0.2},
        {"type": "dropout", "rate": 0.5},
    ):
        assert layer_from(config).config() == config
    nested = {"type": "leaky_relu", "negative_slope": 0.2}
    rebuilt = layer_from({"type": "dense", "units": 3, "activation": nested}).config()
    assert (rebuilt["activation"], rebuilt["negative_slope"]) == ("leaky_relu", 0.2)


def test_an_invalid_network_configuration_is_rejected() -> None:
    for layers in ([], [{"type": "dropout", "rate": 0.5}]):
        with pytest.raises(ConfigurationError, match="last layer"):
            Network.from_config({"input_shape": [2], "layers": layers})
    with pytest.raises(ConfigurationError, match="dtype"):
        Network.from_config({"input_shape": [2], "layers": [], "dtype": "int8"})
    with pytest.raises(ConfigurationError, match="input_shape"):
        Network.from_config({"input_shape": [2, 2], "layers": []})


def test_predict_rejects_invalid_rows() -> None:
    config = {"input_shape": [2], "layers": [{"type": "dense", "units": 1}]}
    network = Network.from_config(config)

    with pytest.raises(ShapeError):
        network.predict([[1.0, 2.0, 3.0]])
    with pytest.raises(NonFiniteError):
        network.predict([[1.0, 1e39]])


def test_weights_of_another_shape_are_rejected() -> None:
    config = {"input_shape": [2], "layers": [{"type": "dense", "units": 1}]}
    network = Network.from_config(config)

    with pytest.raises(ShapeError):
        network.load_layer_weights([LayerWeights(np.zeros((3, 1)), np.zeros(1))])
    with pytest.raises(EngineError):
        network.load_layer_weights([None])
    with pytest.raises(ShapeError):
        network.load_bytes(b"\0" * 8)
