"""Identifiers and prose use the terms of the field."""

import subprocess
from pathlib import Path

import pytest

from tests.architecture.language import in_markdown, in_prose, in_python, problems

ROOT = Path(__file__).parents[2]
SUFFIXES = {".py", ".md", ".ts", ".svelte", ".toml", ".yml", ".sh"}
DEFINITIONS = {"tests/architecture/language.py", "tests/architecture/test_language.py"}


def files() -> list[Path]:
    """Return the files of the project that contain prose."""
    listed = subprocess.run(
        ["git", "ls-files"],  # noqa: S607 - git, from the path
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    names = listed.stdout.splitlines() or [
        str(file.relative_to(ROOT))
        for folder in ("core", "service", "tests", "docs")
        for file in (ROOT / folder).rglob("*")
        if "node_modules" not in file.parts
    ]
    return [
        ROOT / name
        for name in names
        if Path(name).suffix in SUFFIXES and name not in DEFINITIONS and (ROOT / name).is_file()
    ]


def test_identifiers_and_prose_avoid_the_banned_words() -> None:
    found = [problem for file in files() for problem in problems(file)]

    assert len(files()) > 300
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "told = 1",
        "def ask(wanted: int) -> int:\n    return wanted",
        '"""Who asks is told."""',
        "x = 1  # a value that is no number",
        'raise ValueError("a key is due")',
        '"""Return what was found."""',
        '"""Of a CSV the column."""',
    ],
)
def test_a_planted_identifier_or_sentence_is_reported(source: str) -> None:
    assert list(in_python(source))


@pytest.mark.parametrize(
    "text", ["So many requests.", "The server goes on.", "Nobody waits.", "Rows of a crowd."]
)
def test_a_planted_sentence_of_a_page_is_reported(text: str) -> None:
    assert list(in_markdown(text))


@pytest.mark.parametrize(
    "text",
    [
        "There is no network with this name.",
        "The route is no longer used.",
        "Besides the API, for example, a value of a list.",
    ],
)
def test_ordinary_sentences_are_not_reported(text: str) -> None:
    assert list(in_prose(text)) == []
