"""The files that pin are whole, for they are installed without a look at what else is needed."""

from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
RUNTIME = ["requirements.txt", "requirements-build.txt"]


def pinned(files: list[str]) -> dict[str, str]:
    """Versions by name."""
    lines = [line for file in files for line in (ROOT / file).read_text().splitlines()]
    pins = [line.rstrip("\\ ").split("==") for line in lines if line[:1].isalnum()]
    return {canonicalize_name(name): version for name, version in pins}


def needed(name: str, extras: set[str]) -> list[Requirement]:
    """What an installed distribution asks for, with these of its extras."""
    asked = [Requirement(text) for text in distribution(name).requires or []]
    return [
        one
        for one in asked
        if one.marker is None or any(one.marker.evaluate({"extra": x}) for x in extras | {""})
    ]


@pytest.mark.parametrize(
    "files", [RUNTIME, [*RUNTIME, "requirements-dev.txt"]], ids=["runtime", "dev"]
)
def test_whatever_is_needed_is_pinned_and_fits(files: list[str]) -> None:
    pins = pinned(files)
    ahead = [("neurond", set[str]()), *((name, set[str]()) for name in pins)]
    seen = set[str]()

    while ahead:
        name, extras = ahead.pop()
        for one in needed(name, extras):
            version = pins.get(canonicalize_name(one.name))
            fits = version is not None and one.specifier.contains(version)
            assert fits, f"{name} needs {one}, pinned is {version}"
            if one.extras and str(one) not in seen:
                seen.add(str(one))
                ahead.append((one.name, one.extras))
