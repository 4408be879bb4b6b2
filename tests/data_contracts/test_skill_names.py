"""The one rule for a skill's name, wherever it is checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_contracts.config import ContractConfig
from data_contracts.errors import DropError
from data_contracts.validate import validate_drop


@pytest.mark.parametrize("skill", ["general", "General", "piqa", "a.b", "a b", "../a", "a" * 64, "-a", "", "a\n"])
def test_a_skill_may_not_have_the_name_of_a_suite_or_one_that_is_none(skill: str, good_lines: list[bytes], tmp_path: Path) -> None:
    drop = tmp_path / "drop.jsonl"
    drop.write_bytes(b"\n".join(good_lines))
    with pytest.raises(DropError, match="the skill's name"):
        validate_drop(drop, tmp_path / "out", skill=skill, config=ContractConfig(), suite_names=["general", "piqa.sealed"])
