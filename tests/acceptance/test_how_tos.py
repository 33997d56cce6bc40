"""The commands of the tutorial and the how-to guides run and print the output that is shown.

Commands in ``sh`` blocks run in order in one shell, in a copy of ``docs/how-to/files``. Commands in
``bash`` blocks start a server or need another service, such as Docker, and do not run. A ``json``
or ``text`` block after a command shows its output:

* ``...`` matches anything. An object or a list that ends with it may have more items.
* A number with a decimal point matches any number, because results depend on seeds and processors.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.acceptance.server import Server

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
FILES: Final = DOCS / "how-to" / "files"
NEUROND: Final = "from service.cli.main import neurond; neurond()"
SEPARATOR: Final = "=== end of command ==="
ELLIPSIS: Final = "..."
PAGES: Final[dict[str, list[str]]] = {
    "tutorial/first-network.md": [],
    "how-to/train-on-your-csv.md": [],
    "how-to/import-from-javascript.md": [],
    "how-to/serve-other-protocols.md": ["how-to/train-on-your-csv.md"],
    "how-to/give-out-keys.md": [],
    "how-to/run-in-production.md": ["how-to/train-on-your-csv.md"],
    "how-to/troubleshoot.md": [],
}
"""Every page with commands to run, and the pages whose results it uses."""


class Command(NamedTuple):
    """A block of commands, and the output that is shown below it."""

    text: str
    language: str = ""
    output: str = ""


def commands_of(page: str) -> list[Command]:
    """Return the commands of a page that run without another service."""
    commands: list[Command] = []
    is_output = False
    for language, block in blocks_of((DOCS / page).read_text()):
        if language == "sh":
            commands.append(Command(block))
        elif language in {"json", "text"} and is_output:
            commands[-1] = Command(commands[-1].text, language, block)
        is_output = language == "sh"
    return commands


def blocks_of(text: str) -> Iterator[tuple[str, str]]:
    """Yield the language and the text of each fenced block."""
    for match in re.finditer(r"^( *)```(\w+)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
        yield match[2], textwrap.dedent(match[3])


def run(server: Server, commands: list[Command], folder: Path) -> list[str]:
    """Run commands in one shell and return the output of each."""
    programs = folder / ".bin"
    programs.mkdir(exist_ok=True)
    neurond = programs / "neurond"
    neurond.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{NEUROND}' \"$@\"\n")
    neurond.chmod(0o755)
    script = "set -e -o pipefail\n"
    for command in commands:
        text = command.text.replace("http://127.0.0.1:8000", server.url)
        script += f"{text}\nprintf '\\n{SEPARATOR}\\n'\n"
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "NEUROND_DATA_DIR": str(server.folder),
    }
    done = subprocess.run(  # noqa: S603 - the commands of the documentation
        ["/bin/bash", "-c", script],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split(f"\n{SEPARATOR}\n")[:-1]


def parse_shown(text: str) -> Any:
    """Return the JSON of a page, with ``...`` as a string and as a field of that name."""
    text = re.sub(r"([{,]\s*)\.\.\.(\s*})", rf'\1"{ELLIPSIS}": "{ELLIPSIS}"\2', text)
    text = re.sub(r'(?<!")\.\.\.(?!")', f'"{ELLIPSIS}"', text)
    return json.loads(text)


def assert_json(shown: Any, actual: Any, where: str = "") -> None:
    """Assert that a JSON value is what is shown, except where an ellipsis is shown."""
    if shown == ELLIPSIS:
        return
    if isinstance(shown, dict):
        assert isinstance(actual, dict), where
        fields = shown.keys() - {ELLIPSIS}
        assert fields <= actual.keys(), f"{where}: {fields - actual.keys()}"
        assert ELLIPSIS in shown or fields == actual.keys(), f"{where}: {actual.keys() - fields}"
        for name in fields:
            assert_json(shown[name], actual[name], f"{where}/{name}")
    elif isinstance(shown, list):
        assert isinstance(actual, list), where
        is_open = shown[-1:] == [ELLIPSIS]
        items = shown[:-1] if is_open else shown
        assert is_open or len(items) == len(actual), where
        for index, item in enumerate(items):
            assert_json(item, actual[index], f"{where}/{index}")
    elif isinstance(shown, float):
        assert isinstance(actual, int | float), where
    else:
        assert shown == actual, where


def assert_text(shown: str, actual: str) -> None:
    """Assert that the lines that are shown are printed, in this order."""
    lines = iter(actual.splitlines())
    for line in shown.splitlines():
        pattern = ".*".join(map(re.escape, line.split(ELLIPSIS)))
        assert any(re.fullmatch(pattern, printed) for printed in lines), f"{line!r}\n{actual}"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_print_the_output_that_it_shows(
    page: str, serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve(workers=1, NEUROND_DEFAULT_NETWORK="flowers")
    folder = tmp_path / "files"
    shutil.copytree(FILES, folder)
    for earlier in PAGES[page]:
        run(server, commands_of(earlier), folder)
    commands = commands_of(page)

    outputs = run(server, commands, folder)

    assert len(outputs) == len(commands) > 0
    for command, output in zip(commands, outputs, strict=True):
        assert command.output, f"{page} shows no output of {command.text!r}"
        if command.language == "json":
            assert_json(parse_shown(command.output), json.loads(output), command.text)
        else:
            assert_text(command.output, output)


def test_every_page_with_commands_to_run_is_tested() -> None:
    pages = [*DOCS.glob("tutorial/*.md"), *DOCS.glob("how-to/*.md")]
    names = {str(page.relative_to(DOCS)) for page in pages}
    runnable = {name for name in names if commands_of(name)}

    assert runnable == set(PAGES)


def test_every_sample_file_is_used_by_a_guide() -> None:
    text = "".join(page.read_text() for page in DOCS.glob("how-to/*.md"))

    unused = [file.name for file in FILES.iterdir() if f"(files/{file.name})" not in text]

    assert unused == []


@pytest.mark.parametrize(
    ("shown", "actual"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": 1, "...": "..."}, {"b": 2}),
        ([1, 2], [1, 2, 3]),
        (0.5, "0.5"),
    ],
)
def test_a_difference_between_shown_and_actual_json_fails(shown: Any, actual: Any) -> None:
    with pytest.raises(AssertionError):
        assert_json(shown, actual)
