"""A laptop's environment in a temporary folder: no server, no network, nothing of the user's touched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.machine.environment import prepare_environment


@pytest.fixture(scope="session", autouse=True)
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME"):
            patch.delenv(name, raising=False)
        prepare_environment(tmp_path_factory.mktemp("state"))
        patch.delenv("MLFLOW_TRACKING_URI")  # each test's own state_dir decides
        yield


@pytest.fixture(scope="session")
def loaded() -> tuple[Any, Any]:
    """The shipped model nano and its tokenizer; only to be read."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from flows.base_models.resolve import NANO

    return AutoModelForCausalLM.from_pretrained(NANO), AutoTokenizer.from_pretrained(NANO)


@pytest.fixture
def repository() -> Path:
    return Path(__file__).parents[2]
