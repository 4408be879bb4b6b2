"""What an image's build leaves, run without building it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import yaml

IMAGES = Path(__file__).parents[2] / "infra" / "images"


def test_the_command_in_the_trainers_image_is_one_line(tmp_path: Path) -> None:
    """The image holds the engine, and pip writes the script `skillstack` all the same: it would end in a traceback."""
    text = (IMAGES / "trainer.Containerfile").read_text(encoding="utf-8").replace("\\\n", "")
    step = re.search(r"^RUN pip install .*wheel/\*\.whl +&& (printf .*?) +&& cd / ", text, re.MULTILINE)
    assert step is not None
    script = tmp_path / "skillstack"
    script.write_text("#!/usr/bin/env python3\nfrom flows.cli.__main__ import main\nmain()\n")
    script.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["/bin/sh", "-ec", step[1]], env=environment, check=True)
    done = subprocess.run(["skillstack", "round"], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: skillstack: is not in this image, which holds the engine (run python -m osft_engine RUN.json)\n"


def test_mlflows_server_gives_its_workers_time_to_start() -> None:
    """uvicorn ends a worker that does not answer it for 5 s. On a busy machine MLflow's imports alone take longer, so that none came up."""
    import uvicorn

    text = (IMAGES / "mlflow.Containerfile").read_text(encoding="utf-8").replace("\\\n", "")
    found = re.search(r"^CMD (\[.*\])$", text, re.MULTILINE)
    assert found is not None
    command = json.loads(found[1])
    options = command[command.index("--uvicorn-opts") + 1].split()
    context = uvicorn.main.make_context("uvicorn", [*options, "app:app"])
    assert context.params["timeout_worker_healthcheck"] >= 60
    default = uvicorn.main.make_context("uvicorn", ["app:app"])
    assert default.params["timeout_worker_healthcheck"] < 60, "uvicorn's own limit will do now: leave the option out"


def test_a_check_of_health_that_starts_a_python_has_time_for_it() -> None:
    services = yaml.safe_load((IMAGES.parent / "compose.yaml").read_text(encoding="utf-8"))["services"]
    checks = {name: each["healthcheck"] for name, each in services.items() if "python" in each.get("healthcheck", {}).get("test", [])}
    assert sorted(checks) == ["mlflow", "prefect"]
    assert all(int(each["timeout"].rstrip("s")) >= 30 for each in checks.values())
