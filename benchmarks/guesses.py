"""Ten thousand guesses at a key: does their time tell how near they are, do they slow others?

    python -m benchmarks.guesses [--guesses 10000]

Starts a server of its own with one key. Guesses of three kinds (the prefix of the key with another
secret, a prefix that is nobody's, no key at all in form) come in random order on one connection;
between them the key's holder makes calls, some after guesses and some after calls that need no
key. Prints the p of two-sample Kolmogorov-Smirnov tests: below 0.01, the times differ.
"""

import argparse
import http.client
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from itertools import combinations
from pathlib import Path
from statistics import median

import numpy as np

from service.domain.keys import new_secret

PORT = 8766
BLOCK = 5
"""Guesses, or other calls, between two of the holder's; few, so that its calls tell nothing of
one another."""


def different(one: list[float], other: list[float]) -> float:
    """Return the p of the two-sample test: how likely so large a distance is by chance.

    References
    ----------
    Smirnov, N. (1948). Table for estimating the goodness of fit of empirical distributions. Annals
    of Mathematical Statistics 19(2), 279-281.
    """
    first, second = np.sort(one), np.sort(other)
    both = np.concatenate([first, second])
    below = [
        np.searchsorted(values, both, side="right") / len(values) for values in (first, second)
    ]
    distance = float(np.abs(below[0] - below[1]).max())
    size = np.sqrt(len(first) * len(second) / (len(first) + len(second)))
    scaled = (size + 0.12 + 0.11 / size) * distance
    if scaled < 0.2:
        return 1.0
    terms = [(-1) ** (k - 1) * np.exp(-2 * (k * scaled) ** 2) for k in range(1, 101)]
    return float(min(1.0, max(0.0, 2 * sum(terms))))


class Caller:
    """One connection, whose calls are timed."""

    def __init__(self) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", PORT)

    def ask(self, key: str, status: int, path: str = "/v1/networks") -> float:
        """Return the seconds of a call that must be answered so."""
        begun = time.perf_counter()
        self._connection.request("GET", path, headers={"Authorization": key})
        answer = self._connection.getresponse()
        answer.read()
        taken = time.perf_counter() - begun
        if answer.status != status:
            message = f"{answer.status} instead of {status}"
            raise RuntimeError(message)
        return taken


def measure(guesses: int, key: str) -> dict[str, list[float]]:
    """Return the times of each kind of call."""
    chance = random.Random(1)  # noqa: S311 - it only orders the calls
    caller, times = Caller(), defaultdict[str, list[float]](list)
    prefix = key.split("_")[1]

    def guess() -> tuple[str, str]:
        stranger = new_secret()
        secret = stranger.split("_", 2)[2]
        return chance.choice(
            [
                ("near", f"Bearer nrd_{prefix}_{secret}"),
                ("far", f"Bearer {stranger}"),
                ("malformed", f"Bearer xyz_{prefix}_{secret}"),
            ]
        )

    turns = ["guesses", "others"] * (guesses // BLOCK)
    chance.shuffle(turns)
    for turn in turns:
        for _ in range(BLOCK):
            if turn == "guesses":
                kind, wrong = guess()
                times[kind].append(caller.ask(wrong, 401))
            else:
                caller.ask("", 200, "/healthz")  # as little work as a refusal
        times[f"holder after {turn}"].append(caller.ask(f"Bearer {key}", 200))
    return times


def main() -> None:
    """Measure, and print the medians and the tests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--guesses", type=int, default=10_000)
    options = parser.parse_args()
    key = new_secret()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "service", "--port", str(PORT), "--data-dir", folder]
        settings = {
            "NEUROND_BOOTSTRAP_KEY": key,
            "NEUROND_RATE_LIMIT_READ": "0",
            "NEUROND_WORKERS": "1",
        }
        log = Path(folder) / "log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                command, env={**os.environ, **settings}, stderr=sink, stdout=sink
            )
        try:
            time.sleep(4.0)
            times = measure(options.guesses, key)
        finally:
            process.terminate()
            process.wait()
    for name, taken in times.items():
        print(f"{name:20}: {len(taken)} calls, median {1e6 * median(taken):.0f} us")
    pairs = [*combinations(("near", "far", "malformed"), 2)]
    pairs.append(("holder after guesses", "holder after others"))
    for one, other in pairs:
        print(f"{one} and {other}: p = {different(times[one], times[other]):.3f}")


if __name__ == "__main__":
    main()
