"""The three images, built from the Containerfiles as they are: what is in them, and what is not."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

LIMITS = {"trainer": 8.0, "orchestrator": 9.0, "mlflow": 1.5}
CPU_LIMIT = 2.0
NAMES = ("trainer", "orchestrator", "mlflow")
SECRET = re.compile(r"(?i)(password|secret|token|credential|index_url|find_links)")


def printed(containers: Any, image: str, code: str) -> Any:
    return json.loads(containers.in_image(image, "python", "-c", f"import json, sys\n{code}\nprint(json.dumps(found))").stdout)


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_as_the_user_that_owns_the_volume(containers: Any, images: dict[str, str], name: str) -> None:
    found = printed(containers, images[name], "import os\nfound = [os.getuid(), os.getgid(), os.access('/usr/local/bin', os.W_OK)]")
    assert found == [10001, 10001, False]


@pytest.mark.parametrize("name", NAMES)
def test_its_packages_fit_together(containers: Any, images: dict[str, str], name: str) -> None:
    assert "No broken requirements" in containers.in_image(images[name], "python", "-m", "pip", "check").stdout


@pytest.mark.parametrize("name", NAMES)
def test_it_holds_no_compiler_no_cache_and_no_secret(containers: Any, images: dict[str, str], name: str) -> None:
    code = (
        "import pathlib, shutil\n"
        "tools = [each for each in ('gcc', 'cc', 'g++', 'c++', 'clang', 'make', 'git') if shutil.which(each)]\n"
        "caches = [p for p in ('/root/.cache', '/tmp/.cache', '/var/cache/apt/archives') if any(pathlib.Path(p).glob('**/*.*'))]\n"
        "files = [str(p) for p in pathlib.Path('/opt').rglob('*') if p.name in ('.env', '.git', 'pip.conf', '.netrc', 'tests')]\n"
        "found = {'tools': tools, 'caches': caches, 'files': files}"
    )
    # As root, so that nothing is hidden by its mode.
    done = containers.in_image(images[name], "python", "-c", f"import json\n{code}\nprint(json.dumps(found))", options=["--user", "0"])
    assert json.loads(done.stdout) == {"tools": [], "caches": [], "files": []}
    config = containers.inspect("image", images[name])["Config"]
    assert not [each for each in config["Env"] if SECRET.search(each)]
    history = containers.engine("history", "--no-trunc", "--format", "{{.CreatedBy}}", images[name]).stdout
    assert not re.findall(r"https?://(?!\S*python\.org)\S+|/etc/pip\.conf", history), "something of the building machine is in the history"


@pytest.mark.parametrize("name", NAMES)
def test_it_is_no_larger_than_it_says(containers: Any, images: dict[str, str], name: str) -> None:
    size = containers.inspect("image", images[name])["Size"] / 1e9
    torch = "" if name == "mlflow" else printed(containers, images[name], "import torch\nfound = torch.__version__")
    limit = CPU_LIMIT if torch.endswith("+cpu") else LIMITS[name]
    assert size < limit, f"{images[name]} with torch {torch}: {size:.2f} GB"


def test_the_trainer_holds_the_engine_and_nothing_of_the_flows(containers: Any, images: dict[str, str]) -> None:
    code = (
        "import importlib.util\n"
        "found = {name: bool(importlib.util.find_spec(name)) for name in ('osft_engine', 'data_contracts', 'flows', 'prefect', 'mlflow')}"
    )
    here = {"osft_engine": True, "data_contracts": True, "flows": False, "prefect": False, "mlflow": False}
    assert printed(containers, images["trainer"], code) == here
    command = containers.in_image(images["trainer"], "skillstack", "round", check=False)
    assert (command.returncode, command.stderr.count("\n")) == (1, 1), command.stderr
    assert "Train one candidate" in containers.in_image(images["trainer"]).stdout, "what it does when nothing is named"


def test_the_orchestrator_answers(containers: Any, images: dict[str, str]) -> None:
    assert containers.in_image(images["orchestrator"], "skillstack", "--version").stdout.strip().endswith("0.1.0")
    # Building as root must not leave Prefect's folder behind: its user could not write there.
    containers.in_image(images["orchestrator"], "sh", "-c", 'mkdir -p "$PREFECT_HOME" && touch "$PREFECT_HOME/own"')
