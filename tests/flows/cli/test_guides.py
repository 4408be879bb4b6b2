"""Commands of the guides that no other test runs, as they stand there, on a lineage of two promoted rounds."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_contracts.manifests import Decision
from flows.cli.app import app
from flows.cli.errors import run
from flows.config.model import parse_config
from flows.lineage import current_champion, find_version, read_ledger
from flows.lineage.storage.signing import KEY_VARIABLE
from flows.review import decisions, monthly

Command = Callable[..., dict[str, Any]]


@pytest.fixture
def command(grown: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """command("verify --head 3:abc") in a project folder with the grown lineage; the answer of --json."""
    monkeypatch.chdir(tmp_path)
    Path("skillstack.yaml").write_text(f"state_dir: {grown.state_dir}\ntracking: {{model_name: tiny, experiment: rounds}}\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{grown.state_dir}/mlflow.db")

    def answer(*arguments: str, code: int = 0) -> dict[str, Any]:
        ended = run(app, [*arguments, "--json"])
        out, err = capsys.readouterr()
        assert ended == code, out + err
        found: dict[str, Any] = json.loads(out)
        return found

    return answer


def with_key(monkeypatch: pytest.MonkeyPatch, grown: Any, *, models: bool = False) -> None:
    monkeypatch.setenv(KEY_VARIABLE, str(Path("secure/skillstack.key").absolute()))
    config = Path("skillstack.yaml")
    signing = f"signing: {{public_keys: [secure/skillstack.pub], models: {str(models).lower()}}}\n"
    config.write_text(f"state_dir: {grown.state_dir}\ntracking: {{model_name: tiny, experiment: rounds}}\n{signing}")


def test_the_head_of_a_copy_is_compared(command: Command) -> None:
    head = command("verify")["head"]
    assert command("verify", "--head", head)["ok"]
    number = head.partition(":")[0]
    changed = command("verify", "--head", f"{number}:{'0' * 12}", code=1)
    assert any("head" in finding["where"] or "head" in finding["problem"] for finding in changed["findings"])


def test_a_key_is_made_introduced_and_replaced_as_the_guide_says(command: Command, grown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = command("keys", "new", "secure")
    assert Path(made["private"]).stat().st_mode & 0o777 == 0o600
    with_key(monkeypatch, grown)
    assert command("keys", "introduce", "secure/skillstack.pub", "--reason", "signed from now on", "--actor", "ann")["action"] == "key"
    assert command("verify", "--public-key", "secure/skillstack.pub")["ok"]
    following = command("keys", "new", "next")
    assert command("keys", "introduce", following["public"], "--reason", "yearly change", "--actor", "ann")["action"] == "key"
    monkeypatch.setenv(KEY_VARIABLE, following["private"])
    last = command("keys", "new", "last")
    assert command("keys", "introduce", last["public"], "--reason", "the year after", "--actor", "ann")["action"] == "key"
    assert command("verify", "--public-key", "secure/skillstack.pub")["ok"], "the old public key vouches for the new one"


def test_a_key_pair_of_openssl_signs(command: Command, grown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of the guide, as they stand there."""
    guide = (Path(__file__).parents[3] / "docs/guides/trust.md").read_text(encoding="utf-8")
    lines = [line for line in guide.splitlines() if line.startswith("openssl ")]
    Path("secure").mkdir()
    subprocess.run(["bash", "-ec", "\n".join(lines)], cwd="secure", check=True, capture_output=True)
    with_key(monkeypatch, grown)
    assert command("keys", "introduce", "secure/skillstack.pub", "--reason", "signed from now on", "--actor", "ann")["action"] == "key"
    assert command("verify", "--public-key", "secure/skillstack.pub")["ok"]


def test_a_version_older_than_the_setting_is_signed(command: Command, grown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    command("keys", "new", "secure")
    with_key(monkeypatch, grown, models=True)
    command("keys", "introduce", "secure/skillstack.pub", "--reason", "signed from now on", "--actor", "ann")
    assert "signature" in json.dumps(command("verify", code=1)["findings"])
    for version in ("1", "2", "3"):
        assert Path(command("keys", "sign", version)["signature"]).is_file()
    assert command("verify")["ok"]


def test_a_rollback_to_a_version_and_the_month_that_tells_of_it(command: Command, grown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are flows; here their functions are called, because Prefect's embedded server takes longer to start than all of this."""
    monkeypatch.setattr(decisions, "rollback", decisions.rollback.fn)
    monkeypatch.setattr(monthly, "monthly_audit", monthly.monthly_audit.fn)
    monkeypatch.setattr(monthly, "publish_audit", lambda *_: None)
    assert command("rollback", "--to", "1", "--reason", "it was too bad", "--actor", "ann")["champion"] == 1
    assert current_champion(grown).version == 1
    month = read_ledger(grown)[-1].time.strftime("%Y-%m")
    assert "it was too bad" in Path(command("report", "--month", month)["summary"]).read_text(encoding="utf-8")


def test_the_bundle_for_support_is_written_and_says_nothing_secret(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pl4nted")
    done = command("support-bundle", "support.tar.gz")
    with tarfile.open("support.tar.gz") as archive:
        names = {entry.name.partition("/")[2] for entry in archive.getmembers()}
        text = b"".join(stream.read() for entry in archive.getmembers() if (stream := archive.extractfile(entry)) is not None)
    assert len(names) == len(done["files"]) > 5
    assert b"pl4nted" not in text


def test_one_attempt_of_a_round_is_replayed(command: Command, grown: Any, register: Any) -> None:
    """Each of a round's verdicts by its attempt: the first was promoted, the second blocked."""
    parent = find_version(grown, 2).model_sha256
    register(grown, "second again", 2, parent=parent, decision=Decision.BLOCK, skill="second")
    for attempt, decision in ((1, "PASS"), (2, "BLOCK")):
        replayed = command("gate", "replay", "2", "--attempt", str(attempt))
        assert (replayed["round"], replayed["attempt"], replayed["equal"]) == (2, attempt, True)
        assert replayed["decision"] == decision


@pytest.mark.parametrize("base", ["nano", "YOUR/MODEL"])
def test_init_writes_for_the_base_model_that_is_named(command: Command, base: str) -> None:
    Path("skillstack.yaml").unlink()
    written = command("init", "--base-model", base)["written"]
    assert all(Path(path).is_file() for path in written)
    assert f"base_model: {base}" in Path("skillstack.yaml").read_text()


GUIDES = sorted((Path(__file__).parents[3] / "docs/guides").glob("*.md"))
BLOCKS = re.compile(r"^```yaml\n((?:(?!```)[^\n]*\n)*)```|^((?:    [^\n]*\n)+)", re.MULTILINE)
SETTINGS = [
    (guide.name, textwrap.dedent(fenced or indented))
    for guide in GUIDES
    for fenced, indented in BLOCKS.findall(guide.read_text(encoding="utf-8"))
    if fenced or indented.startswith("    evaluation:")
]


@pytest.mark.parametrize(("guide", "block"), SETTINGS)
def test_every_setting_that_a_guide_shows_is_one_of_a_config(guide: str, block: str, tmp_path: Path) -> None:
    values = yaml.safe_load(block)
    config = parse_config(values, where=guide, folder=tmp_path)
    assert {name: getattr(config, name) for name in values}
    assert set(values) <= config.model_fields_set


def test_the_guides_show_settings() -> None:
    assert len(SETTINGS) >= 4
