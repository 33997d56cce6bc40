"""The pinned requirements are complete, because pip installs them without dependencies."""

import tomllib
from importlib.metadata import distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
RUNTIME = ["requirements.txt", "requirements-build.txt"]


def pinned(files: list[str]) -> dict[str, str]:
    """Return the pinned versions by package name."""
    lines = [line for file in files for line in (ROOT / file).read_text().splitlines()]
    pins = [line.rstrip("\\ ").split("==") for line in lines if line[:1].isalnum()]
    return {canonicalize_name(name): version for name, version in pins}


def requirements_of(name: str, extras: set[str]) -> list[Requirement]:
    """Return the requirements of an installed distribution with these extras."""
    requirements = [Requirement(text) for text in distribution(name).requires or []]
    return [
        requirement
        for requirement in requirements
        if requirement.marker is None
        or any(requirement.marker.evaluate({"extra": extra}) for extra in extras | {""})
    ]


@pytest.mark.parametrize(
    "files", [RUNTIME, [*RUNTIME, "requirements-dev.txt"]], ids=["runtime", "dev"]
)
def test_every_requirement_is_pinned_to_a_matching_version(files: list[str]) -> None:
    pins = pinned(files)
    pending = [("neurond", set[str]()), *((name, set[str]()) for name in pins)]
    seen = set[str]()

    while pending:
        name, extras = pending.pop()
        for requirement in requirements_of(name, extras):
            version = pins.get(canonicalize_name(requirement.name))
            fits = version is not None and requirement.specifier.contains(version)
            assert fits, f"{name} requires {requirement}, but {version} is pinned"
            if requirement.extras and str(requirement) not in seen:
                seen.add(str(requirement))
                pending.append((requirement.name, requirement.extras))


def test_every_pinned_package_supports_the_oldest_python() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest = project["requires-python"].removeprefix(">=") + ".0"
    names = {name for file in ROOT.glob("requirements*.txt") for name in pinned([file.name])}
    rejected = []
    for part in distributions():
        required = str(part.metadata.json.get("requires_python", ""))
        if canonicalize_name(part.name) in names and oldest not in SpecifierSet(required):
            rejected.append(f"{part.name} {part.version}: Python {required}")

    assert rejected == []
