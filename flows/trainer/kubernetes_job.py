"""Train as a Kubernetes job or a Kubeflow TrainJob:  python -m flows.trainer.kubernetes_job LAUNCH_CONFIG_JSON run.json

It creates the job with kubectl, waits for its end and returns the engine's exit code; on SIGTERM it deletes the job. The run file, the
model and the results are on a volume that the job mounts at the same path. Only kubectl talks to the cluster, with the permissions of the
worker's user. ADR 8 says why this is not Prefect's Kubernetes worker.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from data_contracts.digests import text_digest
from flows.config.launch import LaunchConfig
from flows.trainer.launchers import torchrun
from flows.trainer.train_job import train_job_manifest

POLL_SECONDS = 5.0
UNREACHABLE_SECONDS = 600.0


def job_manifest(config: LaunchConfig, run_file: Path) -> dict[str, Any]:
    """The manifest of the job: one pod, `processes` GPUs, not root, no API access, no retries (the flow retries)."""
    where = config.kubernetes
    command = ["python", *(torchrun(config.processes) if config.processes > 1 else []), "-m", "osft_engine", str(run_file)]
    container = {
        "name": "trainer",
        "image": where.image,
        "command": command,
        "resources": {"limits": {"nvidia.com/gpu": config.processes, "memory": where.memory}, "requests": {"memory": where.memory}},
        "volumeMounts": [{"name": "state", "mountPath": str(where.mount_path)}, {"name": "shm", "mountPath": "/dev/shm"}],
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod = {
        "restartPolicy": "Never",
        "serviceAccountName": where.service_account,
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "fsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [
            {"name": "state", "persistentVolumeClaim": {"claimName": where.claim_name}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}},
        ],
    }
    labels = {"app.kubernetes.io/name": "skillstack", "app.kubernetes.io/component": "trainer"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": job_name(run_file), "namespace": where.namespace, "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": where.active_deadline_seconds,
            "ttlSecondsAfterFinished": 86_400,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def job_name(run_file: Path) -> str:
    """The same name for the same run, so that a second start replaces the job of the first one."""
    return f"skillstack-train-{text_digest(str(run_file))[:12]}"


def kubectl(config: LaunchConfig, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    command = ["kubectl", "--namespace", config.kubernetes.namespace, *arguments]
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False)


def run_job(config: LaunchConfig, run_file: Path) -> int:
    """Create the job (replacing that of an earlier start), wait for it, print its log. Returns 0 if it succeeded."""
    name, kind = job_name(run_file), _resource(config)
    kubectl(config, "delete", kind, name, "--ignore-not-found", "--wait=true")
    applied = kubectl(config, "apply", "-f", "-", given=json.dumps(_manifest(config, run_file)))
    if applied.returncode:
        print(f"error: {_line(applied)}", file=sys.stderr)
        return 1
    succeeded = wait_for_job(config, name)
    # The first node of a TrainJob leads: its log has the steps and the engine's last line.
    pods = [f"job/{name}"] if kind == "job" else ["-l", f"jobset.sigs.k8s.io/jobset-name={name},batch.kubernetes.io/job-completion-index=0"]
    print(kubectl(config, "logs", *pods, "--tail=200").stdout, file=sys.stderr)
    return 0 if succeeded else 1


def _resource(config: LaunchConfig) -> str:
    return "trainjobs.trainer.kubeflow.org" if config.kind == "trainjob" else "job"


def _manifest(config: LaunchConfig, run_file: Path) -> dict[str, Any]:
    return train_job_manifest(config, run_file, job_name(run_file)) if config.kind == "trainjob" else job_manifest(config, run_file)


def wait_for_job(config: LaunchConfig, name: str) -> bool:
    """True if the job completed, False if it failed. Raises TimeoutError if the cluster does not answer for long."""
    last_answer = time.monotonic()
    while True:
        asked = kubectl(config, "get", _resource(config), name, "-o", "json")
        if asked.returncode == 0:
            last_answer = time.monotonic()
            conditions = json.loads(asked.stdout).get("status", {}).get("conditions", [])
            ended = {each["type"]: each["status"] == "True" for each in conditions}
            if ended.get("Complete") or ended.get("Failed"):
                return bool(ended.get("Complete"))
        elif time.monotonic() - last_answer > UNREACHABLE_SECONDS:
            raise TimeoutError(f"job {name}: {_line(asked)}")
        time.sleep(POLL_SECONDS)


def _line(answer: subprocess.CompletedProcess[str]) -> str:
    return " ".join((answer.stderr or answer.stdout or f"kubectl ended with status {answer.returncode}").split())[:300]


def main(arguments: list[str]) -> int:
    config, run_file = LaunchConfig.model_validate_json(arguments[0]), Path(arguments[1])

    def stop(number: int, _: FrameType | None) -> None:
        kubectl(config, "delete", _resource(config), job_name(run_file), "--ignore-not-found", "--wait=false")
        raise SystemExit(128 + number)

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, stop)
    return run_job(config, run_file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
