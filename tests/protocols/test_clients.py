"""Existing clients of the protocols, unmodified, over real sockets."""

import os
from typing import Any

import numpy as np
import pytest

from tests.protocols.conftest import LABELS, World

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"


@pytest.mark.parametrize("binary", [True, False])
def test_the_triton_client_infers_loads_and_unloads(world: World, binary: bool) -> None:
    triton = pytest.importorskip("tritonclient.http")
    with triton.InferenceServerClient(f"127.0.0.1:{world.server.port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("digits")
        assert client.get_server_metadata()["name"] == "neurond"
        assert client.get_model_metadata("digits", "0")["versions"] == ["0", "1"]
        assert client.get_model_config("digits")["input"][0]["dims"] == [25]
        assert client.get_model_repository_index()
        tensor = triton.InferInput("input", [7, 25], "FP32")
        tensor.set_data_from_numpy(world.rows, binary_data=binary)
        outputs = [
            triton.InferRequestedOutput("output", binary_data=binary),
            triton.InferRequestedOutput("label", binary_data=binary),
        ]

        result = client.infer("digits", [tensor], outputs=outputs, request_id="r1")
        second = client.infer("digits", [tensor], model_version="1")

        assert result.get_response()["id"] == "r1"
        assert np.array_equal(result.as_numpy("output"), world.outputs.astype(np.float32))
        assert np.array_equal(second.as_numpy("output"), result.as_numpy("output"))
        labels = [
            label.decode() if isinstance(label, bytes) else label
            for label in result.as_numpy("label")
        ]
        assert labels == [LABELS[index] for index in world.outputs.argmax(axis=1)]
        assert client.get_inference_statistics("digits")["model_stats"]
        client.unload_model("line")
        assert not client.is_model_ready("line")
        client.load_model("line")
        assert client.is_model_ready("line")
        with pytest.raises(
            triton.InferenceServerException, match="network 'missing' not found"
        ) as caught:
            client.infer("missing", [tensor])
        assert caught.value.status() == "404"


@pytest.mark.parametrize("datatype", ["FP64", "INT32", "INT64", "UINT8"])
def test_the_triton_client_sends_other_datatypes(world: World, datatype: str) -> None:
    triton = pytest.importorskip("tritonclient.http")
    dtype = {"FP64": "f8", "INT32": "i4", "INT64": "i8", "UINT8": "u1"}[datatype]
    rows = np.random.default_rng(1).integers(0, 3, (2, 25)).astype(dtype)
    native = world.client.post("/v1/networks/digits/predict", json={"inputs": rows.tolist()})
    with triton.InferenceServerClient(f"127.0.0.1:{world.server.port}") as client:
        for binary in (True, False):
            tensor = triton.InferInput("input", [2, 25], datatype)
            tensor.set_data_from_numpy(rows, binary_data=binary)

            outputs = client.infer("digits", [tensor]).as_numpy("output")

            assert np.array_equal(outputs, np.array(native.json()["outputs"], np.float32))


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_the_triton_client_sends_and_receives_compressed_bodies(
    world: World, algorithm: str
) -> None:
    triton = pytest.importorskip("tritonclient.http")
    rows = np.tile(world.rows, (50, 1))
    with triton.InferenceServerClient(f"127.0.0.1:{world.server.port}") as client:
        tensor = triton.InferInput("input", list(rows.shape), "FP32")
        tensor.set_data_from_numpy(rows)

        outputs = client.infer(
            "digits",
            [tensor],
            request_compression_algorithm=algorithm,
            response_compression_algorithm=algorithm,
        ).as_numpy("output")

        assert np.allclose(outputs, np.tile(world.outputs, (50, 1)), atol=1e-6)


async def test_the_asynchronous_triton_client_infers(world: World) -> None:
    triton = pytest.importorskip("tritonclient.http.aio")
    async with triton.InferenceServerClient(f"127.0.0.1:{world.server.port}") as client:
        assert await client.is_server_live()
        assert (await client.get_model_metadata("digits"))["name"] == "digits"
        for binary in (True, False):
            tensor = triton.InferInput("input", [7, 25], "FP32")
            tensor.set_data_from_numpy(world.rows, binary_data=binary)
            outputs = [triton.InferRequestedOutput("output", binary_data=binary)]

            result = await client.infer("digits", [tensor], outputs=outputs)

            assert np.array_equal(result.as_numpy("output"), world.outputs.astype(np.float32))


async def test_the_kserve_client_infers_with_protocol_v1(world: World) -> None:
    kserve = pytest.importorskip("kserve")
    config = kserve.RESTConfig(protocol="v1", retries=0)
    async with kserve.InferenceRESTClient(config) as client:
        base: Any = world.server.url
        assert await client.is_server_live(base)
        assert await client.is_model_ready(base, "digits")

        result = await client.infer(base, {"instances": world.rows.tolist()}, model_name="digits")

        assert np.array_equal(np.array(result["predictions"]), world.outputs)


@pytest.mark.parametrize("binary", [True, False])
async def test_the_kserve_client_infers_with_protocol_v2(world: World, binary: bool) -> None:
    kserve = pytest.importorskip("kserve")
    types = pytest.importorskip("kserve.protocol.infer_type")
    config = kserve.RESTConfig(protocol="v2", retries=0)
    async with kserve.InferenceRESTClient(config) as client:
        base: Any = world.server.url
        assert await client.is_server_live(base)
        assert await client.is_server_ready(base)
        assert await client.is_model_ready(base, "digits")
        tensor = kserve.InferInput("input", [7, 25], "FP32")
        tensor.set_data_from_numpy(world.rows, binary_data=binary)
        outputs = [types.RequestedOutput("output", parameters={"binary_data": binary})]
        request = kserve.InferRequest(
            model_name="digits", infer_inputs=[tensor], request_outputs=outputs
        )

        result = await client.infer(base, request, model_name="digits")

        assert np.array_equal(result.outputs[0].as_numpy(), world.outputs.astype(np.float32))


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")
def test_the_mlflow_client_predicts(world: World) -> None:
    scoring = pytest.importorskip("mlflow.pyfunc.scoring_server.client")
    pandas = pytest.importorskip("pandas")
    client = scoring.ScoringServerClient("127.0.0.1", world.server.port)
    client.wait_server_ready(5)

    outputs = client.invoke(world.rows).get_predictions("ndarray")
    frame_outputs = client.invoke(pandas.DataFrame(world.rows)).get_predictions("ndarray")

    assert np.array_equal(outputs, world.outputs)
    assert np.array_equal(frame_outputs, world.outputs)
