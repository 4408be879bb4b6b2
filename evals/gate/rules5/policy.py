"""The policy of rules 5: today's, under its own number."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from evals.gate.policy import GatePolicy as PolicyOfToday


class GatePolicy(PolicyOfToday):
    rules: Literal[5] = Field(5, description="version of the gate's rules and sentences")  # type: ignore[assignment]
