"""What an image's build leaves, run without building it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

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
