"""The model card of a version loads with Hugging Face's own reader, and says what the files and the ledger say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from huggingface_hub import ModelCard
from typer.testing import CliRunner

from data_contracts.manifests import Decision, EvalReport, read_manifest
from flows.cli.app import app
from flows.lineage import current_champion, find_version, model_card, read_ledger, write_card
from flows.lineage.card import is_card, is_hub_id
from flows.lineage.storage.connection import PREFIX

HOSTILE = "fine | for\nnow\n---\nlicense: mit <b>"


@pytest.fixture
def command(grown: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    config = tmp_path / "skillstack.yaml"
    config.write_text(f"state_dir: {grown.state_dir}\ntracking: {{model_name: tiny, experiment: rounds}}\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{grown.state_dir}/mlflow.db")
    return lambda name, *arguments: CliRunner().invoke(app, [name, "--config", str(config), *arguments], catch_exceptions=False)


def test_the_evaluation_table_is_that_of_the_report(grown) -> None:
    card = ModelCard(model_card(grown, 3))
    report = read_manifest(find_version(grown, 3).evaluation, EvalReport)
    assert card.data.library_name == "transformers"
    assert card.data.model_name == "tiny-3"
    found = {each.dataset_name: (each.metric_type, each.metric_value, each.dataset_args) for each in card.data.eval_results}
    assert found == {
        suite.name: ("accuracy", round(100 * suite.score, 1), {"items": suite.n, "sha256": suite.suite_sha256}) for suite in report.suites
    }
    assert "| second | skill | 400 | 0.0 | 100.0 | +100.0 points |" in card.text, "before: the champion's score in the same round"


def test_lineage_data_and_verdict_are_those_of_registry_and_ledger(grown) -> None:
    text = ModelCard(model_card(grown, 3)).text
    assert "taught, in this order: **first**, **second**" in text
    for version in (1, 2, 3):
        assert f"`{find_version(grown, version).model_sha256}`" in text
    champion = find_version(grown, 3)
    raw = grown.client.get_model_version("tiny", "3").tags
    assert f"`{raw[PREFIX + 'drop_sha256']}`" in text
    assert "**PASS**, by the statistical gate" in text
    assert f"- verdict: `{champion.verdict_sha256}`" in text
    promotion = next(entry for entry in read_ledger(grown) if entry.champion == 3)
    assert f"ledger entry {promotion.sequence}, which promoted it: `{promotion.digest}`" in text
    assert "5 steps on 10 examples" in text


def test_a_version_that_a_person_approved_names_the_person_and_no_text_of_people_is_markup(command, grown, register) -> None:
    held = register(grown, "held", 3, parent=current_champion(grown).model_sha256, decision=Decision.INCONCLUSIVE)[1]
    path = held.checkpoint / "model" / "README.md"
    assert not path.exists(), "only what is promoted has a card"
    assert command("approve", str(held.version), "--reviewer", "ann", "--reason", HOSTILE).exit_code == 0
    card = ModelCard.load(path)
    assert "Approved by a person after the gate held it" in card.text
    assert "ann, fine \\| for now --- license: mit &lt;b&gt;" in card.text
    assert card.data.license is None
    assert command("verify").exit_code == 0, "a card changes no digest"


def test_an_override_is_told_from_an_approval(command, grown, register) -> None:
    blocked = register(grown, "blocked", 3, parent=current_champion(grown).model_sha256, decision=Decision.BLOCK)[1]
    command("approve", str(blocked.version), "--reviewer", "bob", "--reason", "needed today", "--override")
    text = (blocked.checkpoint / "model" / "README.md").read_text()
    assert "**BLOCK**, by the statistical gate" in text
    assert "Promoted by a person against the verdict of the gate (override)" in text


def test_what_is_pulled_or_exported_has_its_card_and_is_still_the_same_model(command, tmp_path: Path) -> None:
    for name, arguments in (("pull", [str(tmp_path / "one")]), ("export", ["3", str(tmp_path / "two")])):
        for _ in range(2):
            assert command(name, *arguments, "--json").exit_code == 0, "a second time it is verified"
        assert ModelCard.load(Path(arguments[-1]) / "model" / "README.md").data.model_name == "tiny-3"


@pytest.mark.parametrize(
    ("recorded", "named"), [("org/model-1B", "org/model-1B"), ("smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct"), ("/data/m", None)]
)
def test_the_base_model_is_named_where_others_can_find_it(grown, recorded: str, named: str | None) -> None:
    grown.client.set_tag(find_version(grown, 1).run_id, PREFIX + "base_model", recorded)
    card = ModelCard(model_card(grown, 3))
    assert card.data.base_model == named
    assert f"It began as `{recorded}`" in card.text


def test_a_folder_is_no_id_of_the_hub() -> None:
    assert [is_hub_id(name) for name in ("a/b", "nano", "/a/b", "a/b/c", "./b", "../b")] == [True, False, False, False, False, False]


def test_a_card_that_cannot_be_written_stops_nothing(grown, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    assert write_card(grown, 3, tmp_path / "file") is None
    assert "no model card for version 3" in caplog.text


def test_only_a_card_of_ours_may_be_replaced(grown, tmp_path: Path) -> None:
    own = write_card(grown, 3, tmp_path)
    assert own is not None
    assert is_card(own)
    for text in ("mine", "---\nlicense: mit\n---\n", "---\n- [\n---\n", ""):
        own.write_text(text)
        assert not is_card(own)


def test_the_card_of_the_base_says_that_nothing_was_judged(grown) -> None:
    card = ModelCard(model_card(grown, 1))
    assert "nothing was trained, so nothing was judged" in card.text
    assert json.loads(json.dumps(card.data.to_dict()))["tags"] == ["skillstack", "continual-learning", "base"]
