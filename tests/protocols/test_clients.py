"""The clients that people already have, unmodified, over real sockets."""

import os
from typing import Any

import numpy as np
import pytest

from tests.protocols.conftest import LABELS, World

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"


@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client(world: World, binary: bool) -> None:
    triton = pytest.importorskip("tritonclient.http")
    with triton.InferenceServerClient(f"127.0.0.1:{world.server.port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("digits")
        assert client.get_server_metadata()["name"] == "neurond"
        assert client.get_model_metadata("digits", "0")["versions"] == ["0", "1"]
        assert client.get_model_config("digits")["input"][0]["dims"] == [25]
        assert client.get_model_repository_index()
        sent = triton.InferInput("input", [7, 25], "FP32")
        sent.set_data_from_numpy(world.rows, binary_data=binary)
        wanted = [
            triton.InferRequestedOutput("output", binary_data=binary),
            triton.InferRequestedOutput("label", binary_data=binary),
        ]

        answer = client.infer("digits", [sent], outputs=wanted, request_id="r1")
        plain = client.infer("digits", [sent], model_version="1")

        assert answer.get_response()["id"] == "r1"
        assert np.array_equal(answer.as_numpy("output"), world.outputs.astype(np.float32))
        assert np.array_equal(plain.as_numpy("output"), answer.as_numpy("output"))
        words = [
            word.decode() if isinstance(word, bytes) else word for word in answer.as_numpy("label")
        ]
        assert words == [LABELS[at] for at in world.outputs.argmax(axis=1)]
        assert client.get_inference_statistics("digits")["model_stats"]
        client.unload_model("line")
        assert not client.is_model_ready("line")
        client.load_model("line")
        assert client.is_model_ready("line")
        with pytest.raises(triton.InferenceServerException, match="there is no network") as caught:
            client.infer("nobody", [sent])
        assert caught.value.status() == "404"


@pytest.mark.parametrize("datatype", ["FP64", "INT32", "INT64", "UINT8"])
def test_tritons_client_with_other_numbers(world: World, datatype: str) -> None:
    triton = pytest.importorskip("tritonclient.http")
    kind = {"FP64": "f8", "INT32": "i4", "INT64": "i8", "UINT8": "u1"}[datatype]
    rows = np.random.default_rng(1).integers(0, 3, (2, 25)).astype(kind)
    native = world.client.post("/v1/networks/digits/predict", json={"inputs": rows.tolist()})
    with triton.InferenceServerClient(f"127.0.0.1:{world.server.port}") as client:
        for binary in (True, False):
            sent = triton.InferInput("input", [2, 25], datatype)
            sent.set_data_from_numpy(rows, binary_data=binary)

            told = client.infer("digits", [sent]).as_numpy("output")

            assert np.array_equal(told, np.array(native.json()["outputs"], np.float32))


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_tritons_client_with_packed_bodies(world: World, algorithm: str) -> None:
    triton = pytest.importorskip("tritonclient.http")
    rows = np.tile(world.rows, (50, 1))
    with triton.InferenceServerClient(f"127.0.0.1:{world.server.port}") as client:
        sent = triton.InferInput("input", list(rows.shape), "FP32")
        sent.set_data_from_numpy(rows)

        told = client.infer(
            "digits",
            [sent],
            request_compression_algorithm=algorithm,
            response_compression_algorithm=algorithm,
        ).as_numpy("output")

        assert np.allclose(told, np.tile(world.outputs, (50, 1)), atol=1e-6)


async def test_tritons_asynchronous_client(world: World) -> None:
    triton = pytest.importorskip("tritonclient.http.aio")
    async with triton.InferenceServerClient(f"127.0.0.1:{world.server.port}") as client:
        assert await client.is_server_live()
        assert (await client.get_model_metadata("digits"))["name"] == "digits"
        for binary in (True, False):
            sent = triton.InferInput("input", [7, 25], "FP32")
            sent.set_data_from_numpy(world.rows, binary_data=binary)
            wanted = [triton.InferRequestedOutput("output", binary_data=binary)]

            told = await client.infer("digits", [sent], outputs=wanted)

            assert np.array_equal(told.as_numpy("output"), world.outputs.astype(np.float32))


async def test_kserves_client_speaks_the_first_protocol(world: World) -> None:
    kserve = pytest.importorskip("kserve")
    config = kserve.RESTConfig(protocol="v1", retries=0)
    async with kserve.InferenceRESTClient(config) as client:
        base: Any = world.server.url
        assert await client.is_server_live(base)
        assert await client.is_model_ready(base, "digits")

        told = await client.infer(base, {"instances": world.rows.tolist()}, model_name="digits")

        assert np.array_equal(np.array(told["predictions"]), world.outputs)


@pytest.mark.parametrize("binary", [True, False])
async def test_kserves_client_speaks_the_second_protocol(world: World, binary: bool) -> None:
    kserve = pytest.importorskip("kserve")
    types = pytest.importorskip("kserve.protocol.infer_type")
    config = kserve.RESTConfig(protocol="v2", retries=0)
    async with kserve.InferenceRESTClient(config) as client:
        base: Any = world.server.url
        assert await client.is_server_live(base)
        assert await client.is_server_ready(base)
        assert await client.is_model_ready(base, "digits")
        sent = kserve.InferInput("input", [7, 25], "FP32")
        sent.set_data_from_numpy(world.rows, binary_data=binary)
        wish = [types.RequestedOutput("output", parameters={"binary_data": binary})]
        request = kserve.InferRequest(
            model_name="digits", infer_inputs=[sent], request_outputs=wish
        )

        told = await client.infer(base, request, model_name="digits")

        assert np.array_equal(told.outputs[0].as_numpy(), world.outputs.astype(np.float32))


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")
def test_mlflows_client(world: World) -> None:
    scoring = pytest.importorskip("mlflow.pyfunc.scoring_server.client")
    pandas = pytest.importorskip("pandas")
    client = scoring.ScoringServerClient("127.0.0.1", world.server.port)
    client.wait_server_ready(5)

    told = client.invoke(world.rows).get_predictions("ndarray")
    frame = client.invoke(pandas.DataFrame(world.rows)).get_predictions("ndarray")

    assert np.array_equal(told, world.outputs)
    assert np.array_equal(frame, world.outputs)
