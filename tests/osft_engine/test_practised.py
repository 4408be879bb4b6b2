"""What is practised beside a drop: rows of earlier rounds and general text, other ones in each pass, the same ones after a stop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import ConfigError
from osft_engine.loop.trainer import Trainer
from osft_engine.run import TrainRun
from osft_engine.train import train_candidate

MakeRun = Callable[..., TrainRun]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The rows of every step that is made, by origin."""
    found: list[str] = []
    step = Trainer._one_step

    def watched(self: Trainer, indices: Any) -> Any:
        found.extend(self.examples[index].origin for index in indices)
        return step(self, indices)

    monkeypatch.setattr(Trainer, "_one_step", watched)
    return found


def test_each_pass_takes_the_drop_and_other_rows_of_what_is_practised(
    make_run: MakeRun, make_drop: Callable[..., Path], seen: list[str]
) -> None:
    first = make_run(out="first", num_epochs=1)
    train_candidate(first)
    chat = [{"messages": [{"role": "user", "content": f"say {n}"}, {"role": "assistant", "content": str(n)}]} for n in range(8)]
    shares = {"num_epochs": 2, "replay_share": 0.3, "calibration_share": 0.3}
    second = make_run("second", make_drop(chat, "drop2"), first.out_dir / "model", first.out_dir, **shares)
    seen.clear()
    summary = train_candidate(second).summary
    assert summary is not None
    assert summary.examples == 8 + 6 + 6  # eight are four tenths
    passes = seen[:20], seen[20:]
    for kind, count in (("clean.jsonl", 8), ("buffer", 6), ("general.jsonl", 6)):
        one, other = ({origin for origin in each if kind in origin} for each in passes)
        assert len(one) == len(other) == count
        assert one == other if kind == "clean.jsonl" else one.isdisjoint(other)


def test_a_run_that_was_stopped_takes_the_same_rows_when_it_goes_on(make_run: MakeRun, seen: list[str]) -> None:
    settings = {"num_epochs": 3, "calibration_share": 0.25, "save_every_steps": 1}
    whole = train_candidate(make_run("whole", **settings))
    rows, place = list(seen), make_run("cut", **settings)
    seen.clear()

    def stop(event: dict[str, Any]) -> None:
        if event.get("step") == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_candidate(place, on_event=stop)
    cut = len(seen) - 8  # the sixth step was made and not saved
    seen[cut:] = []
    again = train_candidate(place)
    assert seen == rows
    assert again.model_sha256 == whole.model_sha256


def test_general_text_that_is_asked_for_and_not_there_is_said_before_training(make_run: MakeRun) -> None:
    run = make_run(calibration_share=0.25).model_copy(update={"calibration": None})
    with pytest.raises(ConfigError, match=r"calibration_share: is 0\.25 and there is no general text.*set `calibration`"):
        train_candidate(run)
    assert not (run.out_dir / "manifest.json").exists()
