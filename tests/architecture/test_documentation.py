"""The generated reference is up to date, and the code follows rules that tests can check."""

import ast
import re
from pathlib import Path

import pytest

from docs.generate import IN_JOBS, REMEDIES, pages
from service.api.errors import STATUS

ROOT = Path(__file__).parents[2]
ENGINE_MAY_IMPORT = {"numpy", "core"}


@pytest.mark.parametrize("name", ["settings.md", "errors.md", "endpoints.md"])
def test_the_reference_is_up_to_date(name: str) -> None:
    assert (ROOT / "docs" / "reference" / name).read_text() == pages()[name], "run make reference"


def test_every_error_code_is_documented() -> None:
    api_codes, job_codes = set[str](), set[str]()
    for path in (ROOT / "service").rglob("*.py"):
        text = path.read_text()
        if path.parts[-2] == "workers" or path.name in {"dispatcher.py", "worker_reports.py"}:
            job_codes |= set(re.findall(r'\bcode ?= ?f?"([a-z_]+)"', text))
            job_codes |= set(
                re.findall(r'(?:TrainingError|TrainingFailedReport)\([^)]*?, "([a-z_]+)"', text)
            )
            job_codes |= set(re.findall(r'StopReason\.[A-Z_]+, "([a-z_]+)"', text))
        else:
            api_codes |= set(re.findall(r'\bcode ?= ?"([a-z_]+)"', text))

    assert api_codes <= set(STATUS) == set(REMEDIES), api_codes - set(STATUS)
    assert len(job_codes) > 9
    assert job_codes <= set(IN_JOBS), job_codes - set(IN_JOBS)


def test_links_between_documents_have_targets() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_engine_imports_only_numpy_and_the_standard_library() -> None:
    import sys  # noqa: PLC0415

    allowed = ENGINE_MAY_IMPORT | sys.stdlib_module_names
    for path in (ROOT / "core").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                assert name.partition(".")[0] in allowed, f"{path.name} imports {name}"


def test_documented_parameters_are_those_of_the_signature() -> None:
    unknown = []
    for path in [*(ROOT / "core").rglob("*.py"), *(ROOT / "service").glob("[a-v]*/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            doc = ast.get_docstring(node) or ""
            section = re.search(r"^Parameters\n-+\n(.*?)(?=\n\n\w+\n-+\n|\Z)", doc, re.M | re.S)
            lines = section[1].splitlines() if section else []
            documented = {
                name.strip().lstrip("*")
                for line in lines
                if line and not line.startswith(" ")
                for name in line.partition(":")[0].split(",")
            }
            defined = {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}
            defined |= {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
            unknown += [f"{path}:{node.lineno}: {name}" for name in documented - defined]

    assert unknown == []


def test_no_code_is_unpickled_or_evaluated() -> None:
    for path in [*(ROOT / "core").rglob("*.py"), *(ROOT / "service").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "compile"}, path
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = getattr(node, "module", None) or node.names[0].name
                assert module not in {"pickle", "marshal", "shelve", "dill"}, path
