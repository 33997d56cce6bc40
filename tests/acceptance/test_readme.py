"""The commands of the README run, and the response has the shape that it shows."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.datasets import clean_digits
from tests.acceptance.server import Server

README = Path(__file__).parents[2] / "README.md"


def shape(value: Any) -> Any:
    """Return the structure of a document without its values."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value else type(value).__name__


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_quickstart_runs_and_returns_what_it_shows(serve: Callable[..., Server]) -> None:
    text = README.read_text()
    story = next(block for block in re.findall(r"```sh\n(.*?)```", text, re.S) if "curl" in block)
    shown = re.search(r"```json\n(.*?)```", text, re.S)
    server = serve(workers=1)
    assert len(story.strip().splitlines()) < 20

    lines = re.split(r"\n(?=curl)", story.strip().replace("http://127.0.0.1:8000", server.url))
    outputs = []
    for line in lines[1:]:
        completed = subprocess.run(  # noqa: S603 - the README's own commands
            ["/bin/bash", "-c", f"set -o pipefail; {lines[0]}\n{line}"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        outputs.append(completed.stdout)

    network, noisy, _, job, events, history, evaluation, classified, weights = outputs
    assert json.loads(network)["parameter_count"] == 1530
    assert json.loads(noisy)["rows"] == 1000
    assert json.loads(job)["status"] == "queued"
    assert '"succeeded"' in events
    assert json.loads(history)["total_epochs"] == 300
    assert json.loads(evaluation)["accuracy"] > 0.9
    assert json.loads(classified)["predictions"][0]["label"] == "7"
    assert json.loads(weights)["format"] == "neurond-weights"
    assert shown is not None
    example = json.loads(shown[1].replace("[...]", "[]"))
    expected, actual = (
        shape(example)["predictions"][0],
        shape(json.loads(classified))["predictions"][0],
    )
    assert expected.keys() == actual.keys()
    body = {"inputs": clean_digits().tolist()}
    predictions = server.client.post("/v1/networks/digits/classify", json=body).json()[
        "predictions"
    ]
    assert [prediction["label"] for prediction in predictions] == list("0123456789")
