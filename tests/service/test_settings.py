"""Settings from the environment."""

import pytest
from pydantic import ValidationError

from service.settings import Settings


def test_an_unknown_variable_is_rejected_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NEUROND_WORKER", "2")

    with pytest.raises(ValidationError, match="NEUROND_WORKER; did you mean NEUROND_WORKERS"):
        Settings()


def test_environment_variables_of_clients_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROND_API_KEY", "x")
    monkeypatch.setenv("NEUROND_URL", "http://127.0.0.1:8000")

    assert Settings().port == 8000
