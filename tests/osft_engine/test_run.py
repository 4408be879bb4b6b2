"""A run as a value: its digest changes with what changes the candidate, and a wrong run file is named by its field."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import ConfigError
from osft_engine.run import TrainRun, read_run

MakeRun = Callable[..., TrainRun]


def _digest(run: TrainRun) -> str:
    return run.digest("base", "drop")


@pytest.mark.parametrize("same", [{"save_every_seconds": 1.0}, {"max_tokens_per_batch": 64}, {"num_threads": 1}, {"log_every_steps": 9}])
def test_settings_of_duration_and_memory_do_not_change_the_outcome(make_run: MakeRun, same: dict[str, Any]) -> None:
    assert _digest(make_run(**same)) == _digest(make_run())


@pytest.mark.parametrize("other", [{"seed": 5}, {"learning_rate": 0.5}, {"protect": "weights"}, {"max_seq_len": 64}])
def test_settings_of_the_training_do(make_run: MakeRun, other: dict[str, Any]) -> None:
    assert _digest(make_run(**other)) != _digest(make_run())


def test_what_is_read_is_part_of_the_identity_and_where_it_goes_is_not(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    assert run.digest("base", "other") != run.digest("base", "drop") != run.digest("other", "drop")
    assert _digest(run.model_copy(update={"out_dir": tmp_path / "elsewhere"})) == _digest(run)
    assert _digest(run.model_copy(update={"skill": "other"})) != _digest(run)
    before = _digest(run)
    assert run.calibration is not None
    run.calibration.write_text(run.calibration.read_text() + '{"text": "more"}\n')
    assert _digest(run) != before


def test_a_run_file_is_read_back(make_run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(make_run().model_dump_json())
    assert read_run(tmp_path / "run.json") == make_run()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"run\.json: cannot be read"),
        (b"\xff\xfe", r"run\.json: is not UTF-8 text"),
        (b"{", r"run\.json: the file: Invalid JSON"),
        (b"{}", r"run\.json: base: Field required"),
        (b'{"base": "b", "drop": "d", "skill": "s", "out_dir": "o", "config": {"seed": -1}}', r"config\.seed: Input should be greater"),
    ],
)
def test_a_wrong_run_file_is_one_line(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_run(tmp_path / "run.json")
    assert "\n" not in str(caught.value)
