"""The section `launch`."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from flows.config.launch import LaunchConfig


def test_a_training_is_one_local_process_where_nothing_is_set() -> None:
    launch = LaunchConfig()
    assert (launch.kind, launch.processes, launch.nodes) == ("local", 1, 1)


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "slurm"},
        {"processes": 0},
        {"nodes": 0},
        {"kubernetes": {"active_deadline_seconds": 59}},
        {"kubernetes": {"image_tag": "x"}},
        {"proceses": 2},
    ],
)
def test_what_no_training_can_be_started_with_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LaunchConfig.model_validate(values)


def test_the_settings_survive_the_command_line() -> None:
    """They are handed to the process that creates the job as JSON."""
    given = LaunchConfig.model_validate({"kind": "trainjob", "nodes": 2, "processes": 4, "kubernetes": {"mount_path": "/mnt/state"}})
    assert LaunchConfig.model_validate_json(given.model_dump_json()) == given
