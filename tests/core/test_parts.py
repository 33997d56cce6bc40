"""Schedules, initializers, metrics, preprocessing, data sets, and how parts are described."""

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
def test_every_part_is_built_again_from_its_description(kind: str, table: dict) -> None:  # type: ignore[type-arg]
    for name in table:
        part = build(table, kind, name)

        assert describe(part)["type"] == name
        assert build(table, kind, describe(part)) == part
        with pytest.raises(ConfigurationError, match="unknown"):
            build(table, kind, {"type": name, "surprise": 1})
    with pytest.raises(UnknownTypeError, match="known are"):
        build(table, kind, "nonsense")


@pytest.mark.parametrize("value", [True, "1", None, -1.0, float("nan"), float("inf"), [1]])
def test_a_learning_rate_that_is_no_number_or_out_of_range_is_refused(value: object) -> None:
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
def test_values_out_of_range_are_refused(kind: str, table: dict, config: dict) -> None:  # type: ignore[type-arg]
    with pytest.raises(ConfigurationError):
        build(table, kind, config)


def test_schedules_give_the_rates_of_their_equations() -> None:
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


def test_a_leaky_rectifier_leaks_a_hundredth_unless_told() -> None:
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


def test_metrics_agree_with_a_case_worked_out_by_hand() -> None:
    actual = np.array([0, 0, 1, 1, 2, 2])
    predicted = np.array([0, 1, 1, 1, 2, 0])

    confusion = confusion_matrix(predicted, actual, 3)
    precision, recall, f1 = precision_recall_f1(confusion)

    assert confusion.tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 1]]
    np.testing.assert_allclose(precision, [1 / 2, 2 / 3, 1.0])
    np.testing.assert_allclose(recall, [1 / 2, 1.0, 1 / 2])
    np.testing.assert_allclose(f1, [1 / 2, 4 / 5, 2 / 3])


def test_top_k_counts_a_hit_among_the_best() -> None:
    outputs = np.array([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]])

    assert top_k_accuracy(outputs, np.array([1, 2]), 1) == 0.0
    assert top_k_accuracy(outputs, np.array([1, 2]), 2) == 0.5
    assert top_k_accuracy(outputs, np.array([1, 2]), 9) == 1.0


def test_one_sigmoid_is_reported_as_two_classes() -> None:
    report = classification_report(np.array([[0.2], [0.9]]), np.array([0, 1]), 2)

    assert report["accuracy"] == 1.0
    assert report["confusion_matrix"] == [[1, 0], [0, 1]]
    assert report["top_3_accuracy"] == 1.0


def test_r2_is_one_for_the_truth_and_zero_for_the_mean() -> None:
    targets = np.array([[1.0], [2.0], [3.0]])

    assert r2_score(targets, targets) == 1.0
    assert r2_score(np.full((3, 1), 2.0), targets) == 0.0
    assert r2_score(targets, np.ones((3, 1))) == 0.0
    assert regression_report(targets + 2.0, targets) == {"mse": 4.0, "mae": 2.0, "r2": -5.0}
    both = np.hstack([targets, 10.0 * targets])
    half = np.hstack([targets, np.full((3, 1), 20.0)])
    assert r2_score(half, both) == 0.5


def test_standardising_gives_mean_zero_and_comes_back() -> None:
    rows = np.random.default_rng(0).normal([5.0, -300.0, 7.0], [2.0, 40.0, 0.0], (50, 3))

    found = Standardization.fit(rows)

    applied = found.apply(rows)
    np.testing.assert_allclose(applied.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(applied.std(axis=0), [1.0, 1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(found.invert(applied), rows)


def test_columns_of_one_range_share_a_scale() -> None:
    pixels = np.random.default_rng(0).integers(0, 2, (500, 9)) * 255.0
    pixels[:, 0] = 0.0
    pixels[0, 0] = 255.0  # a pixel that is hardly ever on

    assert len(set(Standardization.fit(pixels).scale.tolist())) == 1


def test_preprocessing_survives_its_document() -> None:
    rows = np.random.default_rng(0).normal(size=(9, 2))
    original = Preprocessing(Standardization.fit(rows), Standardization.fit(rows[:, :1]))

    again = Preprocessing.from_document(original.to_document(), 2, 1)

    assert again.to_document() == original.to_document()
    assert not Preprocessing.from_document(None, 2, 1)


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"strange": 1},
        {"inputs": {"mean": [0.0], "scale": [1.0]}},
        {"inputs": {"mean": [0.0, 0.0]}},
        {"inputs": {"mean": [0.0, 0.0], "scale": [1.0, 0.0]}},
        {"inputs": {"mean": [0.0, "x"], "scale": [1.0, 1.0]}},
        {"inputs": {"mean": [0.0, float("inf")], "scale": [1.0, 1.0]}},
    ],
)
def test_a_wrong_preprocessing_document_is_refused(document: object) -> None:
    with pytest.raises(EngineError):
        Preprocessing.from_document(document, 2, 1)


@pytest.mark.parametrize("name", BUILTINS)
def test_a_builtin_set_is_the_same_for_the_same_seed(name: str) -> None:
    one, same = (builtin(name, 50, 0.1, seed=4) for _ in range(2))
    other = builtin(name, 50, 0.1, seed=5)

    assert one.inputs.shape == (50, len(one.columns))
    assert len(one.targets) == 50
    np.testing.assert_array_equal(one.inputs, same.inputs)
    assert not np.array_equal(one.inputs, other.inputs) or name == "sine"
    assert np.isfinite(builtin(name, None, None, seed=0).inputs).all()


def test_digits_are_flipped_in_a_tenth_of_their_pixels() -> None:
    drawn = builtin("digits", 2000, 0.0, seed=1)

    clean = clean_digits()[drawn.targets]
    assert np.isin(drawn.inputs, (0.0, 1.0)).all()
    assert (drawn.inputs != clean).mean() == pytest.approx(0.1, abs=0.01)
    assert np.bincount(drawn.targets).tolist() == [200] * 10


@pytest.mark.parametrize("name", ["moons", "circles", "spirals", "xor"])
def test_noise_moves_the_points_of_the_plane(name: str) -> None:
    still, moved = builtin(name, 200, 0.0, seed=1), builtin(name, 200, 0.2, seed=1)

    assert 0.05 < np.abs(still.inputs - moved.inputs).mean() < 0.5
    assert len(np.unique(still.targets)) == 2


def test_circles_lie_within_one_another_and_moons_apart() -> None:
    circles, moons = builtin("circles", 200, 0.0, seed=1), builtin("moons", 200, 0.0, seed=1)

    radii = [np.linalg.norm(circles.inputs[circles.targets == c], axis=1) for c in (0, 1)]
    assert max(map(np.ptp, radii)) < 1e-9
    assert abs(radii[0][0] - radii[1][0]) > 0.2
    first, second = (moons.inputs[moons.targets == c] for c in (0, 1))
    gaps = np.linalg.norm(first[:, None] - second[None], axis=2)
    assert gaps.min() > 0.1


def test_an_unknown_builtin_or_noise_is_refused() -> None:
    with pytest.raises(UnknownTypeError):
        builtin("nothing", 10, None, 0)
    with pytest.raises(ConfigurationError):
        builtin("digits", 10, -1.0, 0)
    with pytest.raises(ConfigurationError):
        builtin("digits", 1, 0.1, 0)


@pytest.mark.parametrize(
    ("layer", "place"),
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
def test_a_wrong_layer_is_refused_with_its_place(layer: object, place: tuple[str, ...]) -> None:
    with pytest.raises(EngineError) as caught:
        layer_from(layer)

    assert caught.value.path == place


def test_a_layer_comes_back_from_its_description() -> None:
    for config in (
        {"type": "dense", "units": 3, "activation": "tanh", "initializer": "zeros"},
        {"type": "dense", "units": 3, "activation": "leaky_relu", "negative_slope": 0.2},
        {"type": "dropout", "rate": 0.5},
    ):
        assert layer_from(config).config() == config
    nested = {"type": "leaky_relu", "negative_slope": 0.2}
    told = layer_from({"type": "dense", "units": 3, "activation": nested}).config()
    assert (told["activation"], told["negative_slope"]) == ("leaky_relu", 0.2)


def test_a_network_must_end_in_a_dense_layer() -> None:
    for layers in ([], [{"type": "dropout", "rate": 0.5}]):
        with pytest.raises(ConfigurationError, match="last layer"):
            Network.from_spec({"input_shape": [2], "layers": layers})
    with pytest.raises(ConfigurationError, match="dtype"):
        Network.from_spec({"input_shape": [2], "layers": [], "dtype": "int8"})
    with pytest.raises(ConfigurationError, match="input_shape"):
        Network.from_spec({"input_shape": [2, 2], "layers": []})


def test_predict_refuses_rows_that_do_not_fit() -> None:
    spec = {"input_shape": [2], "layers": [{"type": "dense", "units": 1}]}
    network = Network.from_spec(spec)

    with pytest.raises(ShapeError):
        network.predict([[1.0, 2.0, 3.0]])
    with pytest.raises(NonFiniteError):
        network.predict([[1.0, 1e39]])


def test_weights_of_another_shape_are_refused() -> None:
    spec = {"input_shape": [2], "layers": [{"type": "dense", "units": 1}]}
    network = Network.from_spec(spec)

    with pytest.raises(ShapeError):
        network.load_layer_weights([LayerWeights(np.zeros((3, 1)), np.zeros(1))])
    with pytest.raises(EngineError):
        network.load_layer_weights([None])
    with pytest.raises(ShapeError):
        network.load_bytes(b"\0" * 8)
