"""One training run as a value: what `python -m osft_engine run.json` reads, and the digest by which a killed run is recognised."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data_contracts.digests import file_digest, value_digest
from data_contracts.errors import ConfigError
from osft_engine.config import TrainConfig

# Settings of duration, memory and saving. The last three change the outcome by rounding only: after running out of memory they may be
# changed, and the run goes on from its last saved state.
_NOT_OUTCOME = {
    "save_every_seconds",
    "save_every_steps",
    "state_url",
    "log_every_steps",
    "max_tokens_per_batch",
    "gradient_checkpointing",
    "num_threads",
}

WHOLE = "whole-"
"""Prefix of the folders of complete decompositions in a cache."""


class TrainRun(BaseModel):
    """Everything one candidate is made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: Path = Field(description="model folder that training starts from: the champion's, or the base model in the first round")
    parent: Path | None = Field(
        None, description="folder of the champion's checkpoint manifest; its subspace memory and buffer are carried on"
    )
    drop: Path = Field(description="folder of the validated drop")
    calibration: Path | None = Field(
        None, description="JSONL of general text ({'text'} or {'messages'}) that stands for round 0 in the subspace memory"
    )
    skill: str = Field(min_length=1, description="what this round adds")
    out_dir: Path = Field(description="folder of the candidate; new, empty, or left by the same run when it was killed")
    cache_dir: Path | None = Field(None, description="folder that keeps decompositions and base measurements by digest; none keeps nothing")
    keep_whole: bool = Field(
        False,
        description="keep complete decompositions in cache_dir, for runs at other ratios, instead of the directions that this run uses",
    )
    config: TrainConfig = Field(default_factory=lambda: TrainConfig(), description="how to train")

    def digest(self, base_sha256: str, drop_sha256: str) -> str:
        """Identity of the outcome: two runs with one digest make the same candidate (to rounding, where passes are cut differently)."""
        value = {
            "base": base_sha256,
            "drop": drop_sha256,
            "parent": file_digest(self.parent / "manifest.json") if self.parent else None,
            "calibration": file_digest(self.calibration) if self.calibration else None,
            "skill": self.skill,
            "config": self.config.model_dump(mode="json", exclude=_NOT_OUTCOME),
        }
        return value_digest(value)


def read_run(path: Path) -> TrainRun:
    """Read a run file (JSON). Raises ConfigError that names the first wrong field."""
    try:
        return TrainRun.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}", "give the path of a run file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), "is not UTF-8 text", "write the run file as UTF-8 JSON") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError(f"{path}: {where}", first["msg"], "see the descriptions in osft_engine/config.py and run.py") from error
