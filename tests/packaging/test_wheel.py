"""A wheel without the checkout: every file that the packages read is in it, and the commands that read them work."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("data_contracts", "osft_engine", "evals", "flows")


def files_of(root: Path) -> Iterator[str]:
    for package in PACKAGES:
        for path in (root / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(root).as_posix()


def test_every_file_of_the_packages_is_in_the_wheel(installed: Path) -> None:
    assert set(files_of(REPOSITORY)) == set(files_of(installed))


#: What the packages read at run time, by folder; all of it has to be found by import, never from the current folder.
DATA = {
    "data_contracts/contract/contracts": {"default.yaml"},
    "data_contracts/report/templates": {"report.html.j2"},
    "evals/report/templates": {
        "round.html.j2",
        "forest.html.j2",
        "answers.html.j2",
        "audit.html.j2",
        "lineage.html.j2",
        "page.html.j2",
        "report.css",
        "report.js",
    },
    "evals/suites/sets": {"general-small.yaml", "safety.jsonl", "drift.jsonl"},
    "flows/base_models/nano": {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "nano.json"},
    "flows/explore": {"sample.jsonl"},
    "flows/explore/pages": {"explore.css", "gate_page.py"},
    "flows/explore/views": {"measured.json"},
    "flows/explore/views/shapes": {"llama-3.1-8b.json", "smollm2-135m.json"},
    "flows/machine": {"embedded_log.json"},
    "flows/service": {"prefect.yaml"},
    **{package: {"py.typed"} for package in PACKAGES},
}


@pytest.mark.parametrize("folder", DATA)
def test_the_wheel_holds_the_data_of(folder: str, installed: Path) -> None:
    assert DATA[folder] <= {path.name for path in (installed / folder).iterdir()}


def run(installed: Path, folder: Path, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The script in a Python that sees the unpacked wheel before any other skillstack, in a folder that is not the checkout."""
    variables = {**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1", "DO_NOT_TRACK": "true", **environment}
    command = [sys.executable, "-c", script, str(installed)]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=300, check=False)


#: The first stages of the demo's first round, by the commands: nano's tokenizer, the packaged contract and suites, the report's template.
COMMANDS = """
import sys, flows, evals
from pathlib import Path
from flows.cli.__main__ import main
from flows.demo.materials import write_drop
from flows.demo.skills import NEW_SKILLS
from flows.service.deployments import PREFECT_FILE

home = Path(sys.argv[1])
assert all(Path(each.__file__).is_relative_to(home) for each in (flows, evals)), flows.__file__
assert PREFECT_FILE.is_relative_to(home)

def skillstack(*arguments):
    sys.argv = ["skillstack", *arguments, "--json"]
    try:
        main()
    except SystemExit as end:
        return end.code or 0

skill = next(iter(NEW_SKILLS))
write_drop(skill, Path("drop.jsonl"), rows=200)
assert skillstack("init") == 0
assert skillstack("validate", "drop.jsonl", "--skill", skill, "--out", "checked") == 0
sys.exit(skillstack("deploy"))
"""
EXPLORE = """
import sys
from pathlib import Path
from flows.base_models.resolve import resolve_base_model
from flows.explore import frame, material, scene, serve
from flows.explore.views.calibration import load_measured
from flows.explore.views.model_shape import known_shapes, read_shape
from flows.explore.views.spectrum import cut_energies

assert Path(material.__file__).is_relative_to(Path(sys.argv[1]))
assert {read_shape(path, name).blocks for name, path in known_shapes().items()} == {30, 32}
assert load_measured()[1]
nano = resolve_base_model("nano", Path("models"))
model = material.open_model(scene.Subject("nano", nano, None), None)
assert model.tokens > 100  # of the sample text that comes with the pages
layer = next(iter(model.targets))
assert 0 < cut_energies(material.measurements(model).weight_energies(layer), 0.25).trainable
serve.build_application("token")  # finds every page
"""


def test_a_wheel_alone_makes_a_project_validates_a_drop_and_deploys(installed: Path, tmp_path: Path) -> None:
    """`deploy` goes as far as asking the server, which is not there."""
    done = run(installed, tmp_path, COMMANDS, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "no Prefect server answers" in done.stdout, done.stdout + done.stderr
    assert (tmp_path / "checked" / "report.html").is_file()


def test_a_wheel_alone_explores(installed: Path, tmp_path: Path) -> None:
    """Shapes, measured costs, the sample text and the pages are found where the packages lie."""
    done = run(installed, tmp_path, EXPLORE)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_command_of_the_wheel_is_the_one_that_names_missing_extras(installed: Path) -> None:
    (entry_points,) = installed.glob("skillstack-*.dist-info/entry_points.txt")
    assert "skillstack = flows.cli.__main__:main" in entry_points.read_text(encoding="utf-8")
