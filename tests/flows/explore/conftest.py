"""A lineage to explore, in this process or in a browser."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from flows.config.model import SkillstackConfig
from flows.explore import scene

from ...chromium import require_chromium
from .in_browser.browser import Browser, running_explorer
from .made_lineage import made_lineage


@pytest.fixture(scope="session")
def lineage_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with a lineage in it, which nothing may change (test_nothing_was_written)."""
    return made_lineage(tmp_path_factory.mktemp("explored") / "state")


@pytest.fixture
def explored(lineage_state: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SkillstackConfig]:
    """This process explores the lineage."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = SkillstackConfig(state_dir=lineage_state)
    scene.use(config)
    yield config
    scene.use(SkillstackConfig(state_dir=lineage_state.parent / "nothing"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def explorer_in_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Browser]]:
    """explorer_in_browser(state, *arguments, **variables) -> a browser on an explorer of its own; both end with the module."""
    require_chromium()
    with contextlib.ExitStack() as ended:

        def start(state: Path, *arguments: str, **variables: str) -> Browser:
            address = ended.enter_context(running_explorer(tmp_path_factory.mktemp("explorer"), state, *arguments, **variables))
            browser = Browser(address, tmp_path_factory.mktemp("chromium"))
            ended.callback(browser.driver.quit)
            return browser

        yield start


@pytest.fixture(scope="module")
def browser(lineage_state: Path, explorer_in_browser: Callable[..., Browser]) -> Browser:
    return explorer_in_browser(lineage_state)


@pytest.fixture
def view(browser: Browser) -> Iterator[Browser]:
    """The browser; afterwards its console must be free of errors and its requests local."""
    browser.errors()
    yield browser
    assert browser.errors() == []
    assert browser.hosts() <= {"127.0.0.1"}


@pytest.fixture(scope="module")
def changing_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lineage like `lineage_state`, which a test may change."""
    return made_lineage(tmp_path_factory.mktemp("changing") / "state")
