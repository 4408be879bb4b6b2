"""Limits of the settings of the service."""

from __future__ import annotations

import pytest

from flows.config.service import ServiceConfig
from flows.service.automations import zombie_automation


@pytest.mark.parametrize("seconds", [60.0, 75.0, 120.0, 600.0])
def test_at_least_two_heartbeats_fit_into_the_window(seconds: float) -> None:
    service = ServiceConfig(heartbeat_timeout_seconds=seconds)
    assert 30 <= service.heartbeat_interval_seconds <= seconds / 2
    assert zombie_automation(service).trigger.within.total_seconds() == seconds  # type: ignore[union-attr]
