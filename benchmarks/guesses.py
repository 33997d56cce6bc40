"""Timing of wrong API keys: does it depend on the key, and does it slow valid keys?

    python -m benchmarks.guesses [--guesses 10000]

Starts a server with one key. Sends wrong keys of three kinds in random order on one connection:
the prefix of the key with another secret, an unknown prefix, and a malformed key. Calls with the
valid key follow either a block of wrong keys or a block of calls that need no key. Prints the
p-values of two-sample Kolmogorov-Smirnov tests. The times differ if p is below 0.01.
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

import httpx
import numpy as np

from benchmarks.waiting import wait_until_ready
from service.domain.keys import new_secret

PORT = 8766
BLOCK = 5
"""Guesses, or other calls, between two calls with the valid key."""


def ks_p_value(first_times: list[float], second_times: list[float]) -> float:
    """Return the p-value of the two-sample test.

    References
    ----------
    Smirnov, N. (1948). Table for estimating the goodness of fit of empirical distributions. Annals
    of Mathematical Statistics 19(2), 279-281.
    """
    first, second = np.sort(first_times), np.sort(second_times)
    pooled = np.concatenate([first, second])
    below = [
        np.searchsorted(values, pooled, side="right") / len(values) for values in (first, second)
    ]
    distance = float(np.abs(below[0] - below[1]).max())
    size = np.sqrt(len(first) * len(second) / (len(first) + len(second)))
    scaled = (size + 0.12 + 0.11 / size) * distance
    if scaled < 0.2:
        return 1.0
    terms = [(-1) ** (k - 1) * np.exp(-2 * (k * scaled) ** 2) for k in range(1, 101)]
    return float(min(1.0, max(0.0, 2 * sum(terms))))


class Caller:
    """A connection whose calls are timed."""

    def __init__(self) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", PORT)

    def timed_get(self, key: str, status: int, path: str = "/v1/networks") -> float:
        """Return the duration in seconds of a call that must return `status`."""
        started = time.perf_counter()
        self._connection.request("GET", path, headers={"Authorization": key})
        response = self._connection.getresponse()
        response.read()
        seconds = time.perf_counter() - started
        if response.status != status:
            message = f"{response.status} instead of {status}"
            raise RuntimeError(message)
        return seconds


def measure(guesses: int, key: str) -> dict[str, list[float]]:
    """Return the durations of each kind of call."""
    generator = random.Random(1)  # noqa: S311 - only orders the calls
    caller, times = Caller(), defaultdict[str, list[float]](list)
    prefix = key.split("_")[1]

    def guess() -> tuple[str, str]:
        unknown = new_secret()
        other_secret = unknown.split("_", 2)[2]
        return generator.choice(
            [
                ("near", f"Bearer nrd_{prefix}_{other_secret}"),
                ("far", f"Bearer {unknown}"),
                ("malformed", f"Bearer xyz_{prefix}_{other_secret}"),
            ]
        )

    blocks = ["guesses", "others"] * (guesses // BLOCK)
    generator.shuffle(blocks)
    for kind_of_block in blocks:
        for _ in range(BLOCK):
            if kind_of_block == "guesses":
                kind, wrong = guess()
                times[kind].append(caller.timed_get(wrong, 401))
            else:
                caller.timed_get("", 200, "/healthz")  # as little work as a rejected key
        times[f"holder after {kind_of_block}"].append(caller.timed_get(f"Bearer {key}", 200))
    return times


def main() -> None:
    """Measure, and print the medians and the p-values."""
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
            with httpx.Client(base_url=f"http://127.0.0.1:{PORT}") as client:
                wait_until_ready(client)
            times = measure(options.guesses, key)
        finally:
            process.terminate()
            process.wait()
    for name, seconds in times.items():
        print(f"{name:20}: {len(seconds)} calls, median {1e6 * median(seconds):.0f} us")
    pairs = [*combinations(("near", "far", "malformed"), 2)]
    pairs.append(("holder after guesses", "holder after others"))
    for first, second in pairs:
        print(f"{first} and {second}: p = {ks_p_value(times[first], times[second]):.3f}")


if __name__ == "__main__":
    main()
