"""Schedules, pools and slots of the operated service: the section `service`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ServiceConfig(BaseModel):
    """Schedules, pools and slots; `skillstack deploy` puts them on the Prefect server. Addresses and secrets are environment variables."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cron: str = Field("0 6 1 * *", description="when the monthly look into the inbox and the monthly audit run")
    timezone: str = Field("UTC", description="IANA name of the time zone of the schedules, as Europe/Berlin")
    watch_cron: str = Field("*/5 * * * *", description="how often the inbox is looked into between the monthly runs")
    watch: bool = Field(True, description="look into the inbox by watch_cron; false: only by the monthly run and by announced drops")
    gpu_pool: str = Field("gpu", description="work pool of rounds, sweeps and re-evaluations")
    cpu_pool: str = Field("cpu", description="work pool of what needs no GPU: watching, decisions, audits")
    gpu_limit: str = Field("skillstack-gpu", description="global concurrency limit that a round holds while it uses the GPU; empty: none")
    gpu_slots: int = Field(1, ge=1, description="rounds that may use a GPU at the same time (limit of the pool and of the slots)")
    lease_seconds: float = Field(120.0, ge=60.0, description="a holder that does not renew its slot for so long has lost it (seconds)")
    heartbeat_seconds: float = Field(
        120.0,
        ge=60.0,
        description="a flow run without a heartbeat for so long is marked crashed (seconds); it beats two to four times in that",
    )

    @property
    def beat_seconds(self) -> int:
        """Seconds between two heartbeats of a flow run: a fourth of the window that the automation waits, and Prefect's least is 30."""
        return max(30, int(self.heartbeat_seconds // 4))
