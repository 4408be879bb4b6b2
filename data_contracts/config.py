"""The section `contract` of skillstack.yaml: how strictly a drop is checked and how its held-out rows are carved."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ContractConfig(BaseModel):
    """Everything here has a default that works; `severity` overrides the contract, check by check."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path | None = Field(None, description="contract to check against (ODCS 3.1 YAML); null: the packaged default")
    severity: dict[str, Literal["error", "drop", "warning", "off"]] = Field(
        default_factory=dict, description="check name to what a finding means: error, drop, warning or off"
    )
    max_bad_fraction: float = Field(0.0, ge=0, le=1, description="share of rows in error that a drop may have and still pass")
    max_dropped_fraction: float = Field(0.5, ge=0, le=1, description="share of rows left out with a note above which the drop fails")
    min_rows: int | None = Field(None, ge=1, description="fewest rows for training; null: as the contract sets")
    max_rows: int | None = Field(None, ge=1, description="most rows in a drop; null: as the contract sets")
    max_line_bytes: int = Field(32 << 20, ge=1024, description="bytes; a longer line is refused")
    max_depth: int = Field(64, ge=4, le=500, description="levels of nesting in one line; a deeper one is refused")
    heldout_fraction: float = Field(0.10, ge=0, le=0.5, description="share of rows carved for the gate")
    sealed_fraction: float = Field(0.05, ge=0, le=0.5, description="share of rows carved for the audit only; the gate never sees them")
    heldout_min_rows: int = Field(30, ge=0, description="rows; the gate's share is raised to reach this, up to a quarter of the drop")
    sealed_min_rows: int = Field(15, ge=0, description="rows; the sealed share is raised to reach this, up to an eighth of the drop")
    heldout_max_rows: int = Field(2000, ge=1, description="rows; the gate's share is lowered to stay below this")
    sealed_max_rows: int = Field(1000, ge=1, description="rows; the sealed share is lowered to stay below this")
