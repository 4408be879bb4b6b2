"""Put the service on a Prefect server: pools, the limit on the GPU, deployments with their schedules and triggers, automations.

    skillstack deploy

It can be run again at any time; what is there is brought to what the config says.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml

from data_contracts.errors import ConfigError, SkillstackError
from data_contracts.logs.lines import FORMAT, json_wanted
from data_contracts.manifests import Record
from flows.config.model import CONFIG_NAME, SkillstackConfig
from flows.config.service import ServiceConfig
from flows.machine.environment import CONSOLE, IN_JSON

PREFECT_FILE = Path(__file__).with_name("prefect.yaml")
WEBHOOK = "SKILLSTACK_WEBHOOK_URL"


class Deployed(Record):
    """What `skillstack deploy` put on the server."""

    server: str
    pools: dict[str, int | None]
    limit: str
    deployments: tuple[str, ...]
    automations: tuple[str, ...]
    webhook: bool


def deploy(config: SkillstackConfig, config_file: Path | None, prefect_file: Path | None) -> Deployed:
    """Apply everything. Raises SkillstackError where the server is not there, is of another version, or refuses something."""
    server = server_address()
    check_schedules(config.service)
    config_path = (config_file or Path(CONFIG_NAME)).absolute()
    if not config_path.is_file():
        raise ConfigError(str(config_path), "is not there, and the workers read it", "run `skillstack init`, or give --config FILE")
    prefect_file = prefect_file or PREFECT_FILE
    if not prefect_file.is_file():
        raise ConfigError(str(prefect_file), "is not there", "install the release again, or give --file with deployments of your own")
    check_server(server)
    asyncio.run(_put_pools(config.service))
    _apply(config.service, config_path, prefect_file)
    automations = asyncio.run(_put_automations(config.service))
    names = tuple(each["name"] for each in yaml.safe_load(prefect_file.read_text(encoding="utf-8"))["deployments"])
    return Deployed(
        server=server,
        pools={config.service.gpu_pool: config.service.gpu_slots, config.service.cpu_pool: None},
        limit=config.service.gpu_limit,
        deployments=names,
        automations=automations,
        webhook=bool(os.environ.get(WEBHOOK)),
    )


def server_address() -> str:
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        raise ConfigError(
            "PREFECT_API_URL", "is not set", "start a server (`prefect server start`) and name its address, as http://host:4200/api"
        )
    return url


def check_schedules(service: ServiceConfig) -> None:
    """Before anything is sent: Prefect applies a file deployment by deployment, and a schedule that it refuses would leave half of it."""
    from prefect.client.schemas.schedules import CronSchedule

    try:
        ZoneInfo(service.timezone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigError(f"service.timezone={service.timezone!r}", "is no time zone", "use an IANA name, as Europe/Berlin") from error
    for name in ("cron", "watch_cron"):
        written = getattr(service, name)
        try:
            CronSchedule(cron=written)
        except ValueError as error:
            way_out = "write five fields: minute, hour, day of the month, month, day of the week, as 0 6 1 * *"
            raise ConfigError(f"service.{name}={written!r}", "is no cron expression", way_out) from error


def check_server(url: str) -> str:
    """The server's version. Raises SkillstackError where none answers, or it is not the one that was tested with this client."""
    import prefect

    from flows.lineage.storage.connection import hide_password
    from flows.workspace.server import prefect_api

    found = str(prefect_api("GET", "/admin/version"))
    if found.split(".")[:2] != prefect.__version__.split(".")[:2]:
        way_out = "use the version that infra/constraints.txt names on both sides"
        raise SkillstackError(hide_password(url), f"the server runs Prefect {found}, this client is {prefect.__version__}", way_out)
    return found


async def _put_pools(service: ServiceConfig) -> None:
    """Make the work pools and the global limit; a pool that is there keeps its type (process or kubernetes) and its template."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectNotFound
    from prefect.workers.process import ProcessWorker

    async with get_client() as client:
        for name, limit in ((service.gpu_pool, service.gpu_slots), (service.cpu_pool, None)):
            try:
                await client.read_work_pool(name)
                await client.update_work_pool(name, WorkPoolUpdate(concurrency_limit=limit))
            except ObjectNotFound:
                template = ProcessWorker.get_default_base_job_template()
                pool = WorkPoolCreate(name=name, type="process", base_job_template=template, concurrency_limit=limit)
                await client.create_work_pool(pool)
        if service.gpu_limit:
            await client.upsert_global_concurrency_limit_by_name(service.gpu_limit, service.gpu_slots)


def _apply(service: ServiceConfig, config_path: Path, prefect_file: Path) -> None:
    """Prefect's own command applies the file, so that the file means what Prefect's documents say it means."""
    names = {
        "SKILLSTACK_CONFIG": str(config_path),
        "SKILLSTACK_GPU_POOL": service.gpu_pool,
        "SKILLSTACK_CPU_POOL": service.cpu_pool,
        "SKILLSTACK_CRON": service.cron,
        "SKILLSTACK_TIMEZONE": service.timezone,
        "SKILLSTACK_WATCH_CRON": service.watch_cron,
        "SKILLSTACK_BEAT_SECONDS": str(service.heartbeat_interval_seconds),
        "SKILLSTACK_WATCH": str(service.watch).lower(),
        FORMAT: "json" if json_wanted() else "text",
        "SKILLSTACK_LOG_HANDLER": IN_JSON[CONSOLE] if json_wanted() else "",  # empty: as the worker's logging.yml says
    }
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(prefect_file.absolute())]
    with tempfile.TemporaryDirectory() as folder:  # Prefect looks for a git checkout and a .prefectignore where it stands
        done = subprocess.run(command, cwd=folder, env={**os.environ, **names}, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise SkillstackError(
            str(prefect_file), f"prefect deploy refused it: {' '.join(lines[-3:])[:400]}", "correct it, or `service` in the config"
        )


async def _put_automations(service: ServiceConfig) -> tuple[str, ...]:
    from prefect.client.orchestration import get_client

    from flows.service.automations import notifications, put_automations, put_webhook, zombie_automation

    url = os.environ.get(WEBHOOK)
    async with get_client() as client:
        wanted = [zombie_automation(service)]
        if url:
            wanted += notifications(await put_webhook(client, url))
        await put_automations(client, wanted)
    return tuple(each.name for each in wanted)
