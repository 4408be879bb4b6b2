"""The stories of the demo: drops, suites and rounds, as data. The runner runs them through the normal flow.

Nothing here decides how a round ends; `expected` is compared with the gate's decision, and the demo fails if they differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_contracts.errors import ConfigError
from data_contracts.manifests import Decision
from flows.demo.chapters import Chapter, Round, Story
from flows.demo.materials import write_base_suites, write_drop
from flows.workspace.code_digest import code_digest

STORIES = ("nano", "smollm2")


# The last round trains all weights, with the smallest of the rates 3e-5, 1e-4 and 3e-4 that learns its drop as well as the other rounds.
NANO_STORY = (
    Round("January", "shift", "write the letter after each letter"),
    Round("February", "date", "write dates as year-month-day"),
    # Its sentences resemble the general text, so it needs a smaller learning rate.
    Round("March", "route", "name the team that handles a customer's message", {"learning_rate": 2e-3}),
    Round(
        "April", "double", "write every letter twice, by plain full fine-tuning", {"method": "full", "learning_rate": 3e-4}, Decision.BLOCK
    ),
)


def nano_config(folder: Path) -> dict[str, Any]:
    """The content of skillstack.yaml for nano's demo; suites and calibration text are written into `folder`."""
    base = write_base_suites(folder / "suites")
    suites: list[dict[str, Any]] = [
        {"name": name, "source": str(path.relative_to(folder)), "category": "general", "chat": True, "max_new_tokens": 16}
        for name, path in base.suites.items()
    ]
    suites.append({"name": "prose", "source": str(base.drift.relative_to(folder)), "category": "drift"})
    return {
        "base_model": "nano",
        "state_dir": "state",
        "bootstrap": True,
        "calibration": str(base.calibration.relative_to(folder)),
        # nano never learned to refuse anything, so there is no safety behaviour to lose.
        "gate": {"accept_unmeasured": ["safety"]},
        # A quarter is held out, because a hundred items are too few for a margin of two points.
        "contract": {"heldout_fraction": 0.25, "sealed_fraction": 0.05},
        "train": {
            "method": "osft",
            "protect": "activations",
            "unfreeze_rank_ratio": 0.25,
            "learning_rate": 2.5e-3,
            "num_epochs": 5,
            "effective_batch_size": 32,
            "moment_tokens": 20000,
            "num_threads": 1,  # faster than two for such small steps, and much faster on a busy machine
        },
        "evaluation": {"suites": suites, "skill": {"max_new_tokens": 16}, "max_batch_size": 128, "num_threads": 1},
    }


def story_folder(model: str, folder: Path) -> Path:
    """The folder of a model's story; a release with another story uses another folder and lineage."""
    return (
        folder / f"{model}-{code_digest('flows.demo.story', 'flows.demo.chapters', 'flows.demo.materials', 'flows.demo.smollm2_story')[:8]}"
    ).absolute()


def write_story(model: str, folder: Path) -> Story:
    """Write the drops, suites and texts of a model's story into `folder`. Raises ConfigError for a model that has none."""
    if model == "nano":
        return _write_nano(folder)
    if model == "smollm2":
        from flows.demo.smollm2_story import write_smollm2_story

        return write_smollm2_story(folder)
    raise ConfigError(f"demo --model {model}", "there is no demo for this model", f"choose one of {', '.join(STORIES)}")


def _write_nano(folder: Path) -> Story:
    chapters = tuple(
        Chapter(
            title=f"{each.month}: {each.skill}, {each.says}",
            skill=each.skill,
            drop=write_drop(each.skill, folder / "drops" / f"{number:02d}-{each.skill}.jsonl"),
            train=each.train,
            expected=each.expected,
        )
        for number, each in enumerate(NANO_STORY, 1)
    )
    return Story(nano_config(folder), chapters)
