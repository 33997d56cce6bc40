"""ONNX files with shared initializers, whose layers have more parameters than the file stores."""

import numpy as np
import pytest

from core.errors import FormatError

onnx = pytest.importorskip("onnx")

from service.infrastructure.onnx.reader import read  # noqa: E402 - an extra


def chain(tensor: object, layers: int) -> bytes:
    nodes = [
        onnx.helper.make_node("MatMul", [f"x{index}", "w"], [f"x{index + 1}"])
        for index in range(layers)
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "chain",
        [onnx.helper.make_tensor_value_info("x0", onnx.TensorProto.FLOAT, [None, 300])],
        [onnx.helper.make_tensor_value_info(f"x{layers}", onnx.TensorProto.FLOAT, [None, 300])],
        [tensor],
    )
    data: bytes = onnx.helper.make_model(graph).SerializeToString()
    return data


def test_shared_initializers_count_for_each_layer() -> None:
    tensor = onnx.numpy_helper.from_array(np.ones((300, 300), np.float32), "w")

    with pytest.raises(FormatError, match="more than 1000000 parameters"):
        read(chain(tensor, 60), 1_000_000)


@pytest.mark.parametrize("dims", [(-1, 300), (300, -1), (1,) * 9, (2**40, 2**40)])
def test_impossible_shapes_are_rejected_before_they_are_used(dims: tuple[int, ...]) -> None:
    tensor = onnx.numpy_helper.from_array(np.ones((300, 300), np.float32), "w")
    del tensor.dims[:]
    tensor.dims.extend(dims)

    with pytest.raises(FormatError, match=r"invalid shape|more than 1000000 parameters"):
        read(chain(tensor, 2), 1_000_000)


def test_a_graph_is_read_with_a_note_about_dropout() -> None:
    tensor = onnx.numpy_helper.from_array(np.ones((300, 300), np.float32), "w")

    model = read(chain(tensor, 2), 1_000_000)

    assert model.network.widths == [300, 300, 300]
    assert any("dropout" in note for note in model.notes)
