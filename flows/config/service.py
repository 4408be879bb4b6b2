"""The service on a Prefect server: the section `service`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ServiceConfig(BaseModel):
    """Schedules, work pools and limits that `skillstack deploy` creates on the Prefect server. Addresses and secrets are environment
    variables."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cron: str = Field("0 6 1 * *", description="cron schedule of the monthly check of the inbox and of the monthly audit")
    timezone: str = Field("UTC", description="time zone of the schedules (IANA name, such as Europe/Berlin)")
    watch_cron: str = Field("*/5 * * * *", description="cron schedule of the checks of the inbox between the monthly ones")
    watch: bool = Field(True, description="check the inbox by watch_cron; false: only monthly and for announced drops")
    gpu_pool: str = Field("gpu", description="work pool of rounds, sweeps and re-evaluations")
    cpu_pool: str = Field("cpu", description="work pool of what needs no GPU: inbox, approvals, audits")
    gpu_limit: str = Field("skillstack-gpu", description="global concurrency limit that a round holds while it uses the GPU; empty: none")
    gpu_slots: int = Field(1, ge=1, description="rounds that may use a GPU at the same time (limit of the work pool and of gpu_limit)")
    lease_seconds: float = Field(120.0, ge=60.0, description="a slot that is not renewed for so long is released (seconds)")
    heartbeat_timeout_seconds: float = Field(
        120.0,
        ge=60.0,
        description="a flow run without a heartbeat for so long is marked Crashed (seconds); heartbeats come two to four times as often",
    )

    @property
    def heartbeat_interval_seconds(self) -> int:
        """Seconds between two heartbeats of a flow run: a quarter of the timeout, and at least 30, the least that Prefect allows."""
        return max(30, int(self.heartbeat_timeout_seconds // 4))
