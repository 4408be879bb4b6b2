"""`skillstack doctor` for the service: servers, work pools, workers, schedules and automations."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from data_contracts.errors import SkillstackError
from flows.config.model import SkillstackConfig
from flows.service.deployments import check_server
from flows.workspace.server import HEARTBEAT_VARIABLE, OF_SKILLSTACK, TAG, ZOMBIE, prefect_api
from flows.workspace.workspace import has_lineage, open_workspace

TIMEOUT_SECONDS = 10
MAX_SKEW_SECONDS = 60.0
PREFECT_BEAT_SECONDS = 180
"""Default interval of heartbeats in Prefect 3.8."""


def prefect_server(_: SkillstackConfig) -> str:
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        return "no server (PREFECT_API_URL): flows use an embedded one; schedules need a server"
    return f"{url}: version {check_server(url)}, healthy"


def clocks(_: SkillstackConfig) -> str:
    """Approvals and schedules depend on clocks: those of the servers and of this machine must agree."""
    import httpx

    names = [name for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI") if os.environ.get(name, "").startswith("http")]
    skews = {}
    for name in names:
        url = os.environ[name].removesuffix("/api").rstrip("/") + ("/api/health" if name == "PREFECT_API_URL" else "/health")
        try:
            date = httpx.get(url, timeout=TIMEOUT_SECONDS).headers.get("date")
        except httpx.HTTPError as error:
            raise SkillstackError(name, f"does not answer: {error}", "start it, or correct the address") from error
        if date is not None:
            skews[name] = abs((datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds())
    worst = max(skews.values(), default=0.0)
    if not worst <= MAX_SKEW_SECONDS:
        name = max(skews, key=lambda each: skews[each])
        raise SkillstackError(
            name, f"its clock differs by {worst:.0f} s from this machine's", "synchronise both machines with a time server"
        )
    return f"{len(skews)} servers within {worst:.0f} s of this machine" if skews else "no servers"


def artifact_store(config: SkillstackConfig) -> str:
    """Write, read and delete a probe file in the artifact store; for a local folder only check the permissions."""
    if not has_lineage(config):
        return "none yet; the first round creates it"
    lineage = open_workspace(config).lineage
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.utils.file_utils import local_file_uri_to_path
    from requests import RequestException

    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    experiment = MlflowClient(tracking_uri=uri or None).get_experiment_by_name(config.tracking.experiment)
    if experiment is None:
        raise SkillstackError(lineage.where, f"has no experiment {config.tracking.experiment!r}", "run the first round")
    if experiment.artifact_location.startswith("file:"):
        return _local_store(local_file_uri_to_path(experiment.artifact_location))
    repository = get_artifact_repository(f"{experiment.artifact_location.rstrip('/')}/doctor", tracking_uri=uri or None)
    try:
        with tempfile.TemporaryDirectory() as folder:
            probe, back = Path(folder) / "probe.txt", Path(folder) / "back"
            back.mkdir()
            probe.write_text("written by skillstack doctor", encoding="utf-8")
            repository.log_artifact(str(probe))
            repository.download_artifacts("probe.txt", dst_path=str(back))
            repository.delete_artifacts("probe.txt")
    except (MlflowException, RequestException, OSError) as error:
        what = " ".join(str(error).split())[:200]
        way_out = "start the S3 store, check the bucket and MLflow's credentials for it"
        raise SkillstackError(experiment.artifact_location, f"a probe cannot be written and read: {what}", way_out) from error
    return f"{experiment.artifact_location}: a probe was written, read and deleted"


def _local_store(folder: str) -> str:
    there = next(each for each in (Path(folder), *Path(folder).parents) if each.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise SkillstackError(folder, f"cannot be written: no permission for {there}", "change its owner or permissions")
    return f"{folder}: writable"


def pools_and_workers(config: SkillstackConfig) -> str:
    """Each work pool exists, is not paused, and has a worker online."""
    found = []
    for name in (config.service.gpu_pool, config.service.cpu_pool):
        pool = prefect_api("GET", f"/work_pools/{name}")
        if pool is None:
            raise SkillstackError(f"work pool {name}", "is not on the Prefect server", "skillstack deploy")
        if pool["is_paused"]:
            raise SkillstackError(f"work pool {name}", "is paused, so its runs wait", f"prefect work-pool resume {name}")
        online = [each["name"] for each in prefect_api("POST", f"/work_pools/{name}/workers/filter") or [] if each["status"] == "ONLINE"]
        if not online:
            raise SkillstackError(f"work pool {name}", "has no worker online", f"prefect worker start --type {pool['type']} --pool {name}")
        limit = pool["concurrency_limit"]
        found.append(f"{name}: {', '.join(online)}" + (f" (limit {limit})" if limit is not None else ""))
    return "; ".join(found)


def gpu_limit(config: SkillstackConfig) -> str:
    """The limit for the GPU, and how many rounds hold it now."""
    name = config.service.gpu_limit
    if not name:
        return "none (service.gpu_limit is empty)"
    limit = prefect_api("GET", f"/v2/concurrency_limits/{name}")
    if limit is None or not limit["active"]:
        raise SkillstackError(
            f"limit {name}", "is missing on the Prefect server or not active, so no round would start", "skillstack deploy"
        )
    return f"{name}: {limit['active_slots']} of {limit['limit']} slots in use"


def deployments(config: SkillstackConfig) -> str:
    """The deployments exist, their schedules are active, and no run is late."""
    there = {f"{each['name']}": each for each in prefect_api("POST", "/deployments/filter") or [] if TAG in each["tags"]}
    missing = [name for name in ("round", "monthly", "audit", "approve", "reject", "rollback") if name not in there]
    if missing:
        raise SkillstackError("deployments", f"not on the server: {', '.join(missing)}", "skillstack deploy")
    paused = [name for name in ("monthly", "audit") if not any(each["active"] for each in there[name]["schedules"])]
    if paused:
        raise SkillstackError(f"schedule of {', '.join(paused)}", "is not active, so no monthly run starts", "skillstack deploy")
    late = prefect_api("POST", "/flow_runs/count", {"flow_runs": {"state": {"name": {"any_": ["Late"]}}}}) or 0
    if late:
        raise SkillstackError(
            f"{late} flow runs", "are late: no worker runs them", "start the workers; see `prefect flow-run ls --state Late`"
        )
    if not config.inbox.deployment:
        return f"{len(there)} deployments; inbox.deployment is empty, so the watcher runs rounds itself, without the pool's limit"
    return f"{len(there)} deployments, no run late"


def zombie_rule(config: SkillstackConfig) -> str:
    """The timeout after which a run is marked crashed must fit the heartbeat interval of the deployments' runs."""
    service, way_out = config.service, "skillstack deploy"
    automation = next((each for each in prefect_api("POST", "/automations/filter") or [] if each["name"] == ZOMBIE), None)
    if automation is None or not automation["enabled"]:
        raise SkillstackError(f"automation {ZOMBIE}", "is missing or disabled, so a dead round would keep its slot", way_out)
    window = float(automation["trigger"]["within"])
    if window != service.heartbeat_timeout_seconds:
        what = f"waits {window:.0f} s, service.heartbeat_timeout_seconds is {service.heartbeat_timeout_seconds:.0f}"
        raise SkillstackError(f"automation {ZOMBIE}", what, way_out)
    if automation["trigger"]["match_related"] != OF_SKILLSTACK:
        raise SkillstackError(f"automation {ZOMBIE}", "also matches flow runs of others", way_out)
    there = [each for each in prefect_api("POST", "/deployments/filter") or [] if TAG in each["tags"]]
    beats = {each["name"]: float((each["job_variables"].get("env") or {}).get(HEARTBEAT_VARIABLE, PREFECT_BEAT_SECONDS)) for each in there}
    slow = sorted(name for name, beat in beats.items() if not 2 * beat <= window)
    if slow:
        what = (
            f"send heartbeats every {max(beats.values()):.0f} s, but the timeout is {window:.0f} s: healthy rounds would be marked crashed"
        )
        raise SkillstackError(f"runs of {', '.join(slow)}", what, way_out)
    return f"a run is marked crashed after {window:.0f} s without a heartbeat; the interval is {max(beats.values(), default=0):.0f} s"


def launcher(config: SkillstackConfig) -> str:
    """Whether a training can be started as `launch.kind` says."""
    launch = config.launch
    if launch.kind == "local":
        return "a local process"
    if launch.kind == "torchrun":
        import torch

        devices = torch.cuda.device_count()
        if devices and devices < launch.processes:
            way_out = f"set launch.processes to {devices} at most"
            raise SkillstackError("launch.processes", f"is {launch.processes}, this machine has {devices} GPUs", way_out)
        return f"{launch.processes} processes under torchrun, {devices} GPUs here"
    if shutil.which("kubectl") is None:
        raise SkillstackError("launch.kind", "is kubernetes, but kubectl is not installed", "install it in the worker's image")
    namespace = launch.kubernetes.namespace
    asked = subprocess.run(
        ["kubectl", "--namespace", namespace, "--request-timeout=10s", "auth", "can-i", "create", "jobs"],
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.stdout.strip() != "yes":
        what = " ".join((asked.stderr or asked.stdout).split())[:200] or "no reason given by kubectl"
        raise SkillstackError(
            f"Kubernetes namespace {namespace}", f"jobs may not be created: {what}", "apply infra/kubernetes, check the context"
        )
    return f"jobs may be created in {namespace}"
