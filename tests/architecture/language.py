"""The words and patterns that identifiers and prose avoid; see CONTRIBUTING.md."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

BANNED_WORDS = """
told tell tells telling found made asked wanted due kept held laid lie lies signs beside anew seldom
meanwhile nobody stranger strangers neighbour neighbours crowd crowds chronicle shelf film lap laps
owner
"""
BANNED_PARTS = frozenset(BANNED_WORDS.split())
"""Parts of identifiers, split at underscores."""

ALLOWED = frozenset({"connection_made", "lease_owner", "lease_owners"})
"""Names of a library, or of a column."""

PATTERNS = {
    "headless clause": r"(?m)\A\W*(What|Who|Whoever) (?!is\b|are\b)[a-z][^\n?]*$"
    r"|\bReturn what\b|\b[Tt]hose who\b|\b[Ww]hoever\b|\bTell whether\b",
    "tell": r"\b(told|tells?|telling)\b",
    "is no": r"(?<!there )(?<!There )\b(is|are|was|were|be) no\b(?! (longer|more)\b)|\b[Nn]obody\b",
    "due": r"\b(is|are) due\b|\bin force\b",
    "archaic": r"\b(beside|meanwhile|anew|seldom|half way)\b",
    "so many": r"\b[Ss]o (many|few|seldom)\b",
    "household verb": r"\b(lies|laid)\b|\bgoes on\b|\A(Forget|Remember)\b|\bturns? of the loop\b",
    "people": r"\b(strangers?|neighbours?|crowds?|deaf|stumbled?|knocks?|hired?|shelf|chronicle)\b"
    r"|\bby heart\b|\bsame bits\b",
    "leading Of": r"(?m)(\A\W*|[.;:] )Of [a-z]",
}
"""Patterns in prose."""


def in_python(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and problem of identifiers, docstrings, comments and messages."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME:
            if is_banned(token.string):
                yield token.start[0], f"identifier {token.string}"
        elif token.type == tokenize.COMMENT:
            yield from _at(token.start[0], in_prose(token.string.lstrip("# ")))
        elif token.type == tokenize.STRING and " " in token.string:
            text = token.string
            if not text.startswith(("b", "f", "r", "rb")):
                text = str(ast.literal_eval(text))
            yield from _at(token.start[0], in_prose(text))


def is_banned(identifier: str) -> bool:
    """Return True if a part of an identifier is banned; ``not_found`` is a term of HTTP."""
    parts = re.sub(r"not_found|NOT_FOUND", "", identifier).lower().strip("_").split("_")
    return identifier not in ALLOWED and not BANNED_PARTS.isdisjoint(parts)


def in_prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line within a text and the problem of each match."""
    for name, pattern in PATTERNS.items():
        for match in re.finditer(pattern, text):
            around = text[max(0, match.start() - 30) : match.end() + 30].replace("\n", " ")
            yield text.count("\n", 0, match.start()), f"{name}: {around!r}"


def in_markdown(text: str) -> Iterator[tuple[int, str]]:
    """Yield line and problem of a page, outside its code blocks."""
    prose = re.sub(r"(?s)```.*?```", lambda block: "\n" * block[0].count("\n"), text)
    yield from in_prose(re.sub(r"`[^`\n]*`", "``", prose))


def problems(file: Path) -> Iterator[str]:
    """Yield a line for each problem of a file."""
    text = file.read_text()
    if file.suffix == ".py":
        matches = in_python(text)
    elif file.suffix == ".md":
        matches = in_markdown(text)
    else:
        matches = in_prose(text)
    for line, problem in matches:
        yield f"{file}:{line}: {problem}"


def _at(line: int, matches: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    return ((line + offset, problem) for offset, problem in matches)
