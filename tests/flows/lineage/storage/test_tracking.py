"""A round's runs: found again after a crash, counted when tried again, refused when deleted."""

from __future__ import annotations

import json

import pytest

from data_contracts.errors import LineageError
from data_contracts.manifests import CheckOutcome, Decision, SuiteResult
from flows.lineage import claim_judgement, find_version, judgements, log_stage, open_round, read_history, record_failure, register_candidate
from flows.lineage.registry.ledger import chart_name, ledger_run
from flows.lineage.storage.connection import PREFIX
from flows.lineage.storage.tracking import stage_codes


def test_a_killed_round_continues_its_parent_run(open_lineage, make_folders):
    folders = make_folders("base")
    first = open_lineage()
    opened = open_round(first, 0, None, key="k")
    stage = log_stage(first, opened, "train", folders.manifest, folders.checkpoint)

    again = open_lineage()  # another process
    resumed = open_round(again, 0, None, key="k")
    assert (resumed.run_id, resumed.attempt, resumed.resumed, resumed.finished) == (opened.run_id, 1, True, False)
    assert log_stage(again, resumed, "train", folders.manifest, folders.checkpoint) == stage
    version = register_candidate(again, resumed, folders.checkpoint, folders.manifest)
    assert register_candidate(again, resumed, folders.checkpoint, folders.manifest) == version
    assert [record.version for record in read_history(again)] == [version.version]


def test_the_source_of_each_stage_is_recorded_with_its_round(lineage, make_folders):
    folders = make_folders("base")
    one, other = (open_round(lineage, number, "x" if number else None, key=str(number)) for number in (0, 1))
    log_stage(lineage, one, "train", folders.manifest, folders.checkpoint, code="abc")
    log_stage(lineage, other, "train", folders.manifest, folders.checkpoint, code="def")
    log_stage(lineage, other, "evaluate", folders.report, folders.evaluation)
    assert [stage_codes(lineage, run.run_id) for run in (one, other)] == [{"train": "abc"}, {"train": "def"}]


def test_a_stage_that_was_cut_off_is_logged_again(lineage, make_folders):
    folders = make_folders("base")
    opened = open_round(lineage, 0, None)
    stage = log_stage(lineage, opened, "train", folders.manifest, folders.checkpoint)
    lineage.client.update_run(stage, status="RUNNING")
    again = log_stage(lineage, opened, "train", folders.manifest, folders.checkpoint)
    assert again != stage
    runs = lineage.client.search_runs([lineage.experiment_id], f"tags.`mlflow.parentRunId` = '{opened.run_id}'")
    assert [run.info.run_id for run in runs] == [again]


def test_retries_are_counted_and_only_judged_ones_tighten_the_gate(lineage, make_folders):
    first = open_round(lineage, 1, "sums", key="a")
    record_failure(lineage, first, ValueError("loss is not finite\ndetails"))
    second = open_round(lineage, 1, "sums", key="b")
    folders = make_folders("second try", skill="sums", decision=Decision.BLOCK)
    log_stage(lineage, second, "decide", folders.verdict, folders.verdict_folder)
    third = open_round(lineage, 1, "sums", key="c")
    assert [run.attempt for run in (first, second, third)] == [1, 2, 3]
    assert judgements(lineage, 1, "sums") == 1
    assert claim_judgement(lineage, third) == 2
    assert claim_judgement(lineage, open_round(lineage, 1, "sums", key="b")) == 1, "its own verdict, of a release that kept no number"

    failed, blocked, running = read_history(lineage)
    assert (failed.status, failed.error) == ("failed", "loss is not finite")
    assert (blocked.decision, blocked.lost) == ("BLOCK", ("old",))
    assert (running.status, running.decision) == ("running", None)


def test_attempts_that_overlap_are_counted_in_the_order_in_which_they_are_judged(lineage, make_folders):
    """The first was interrupted, the second judged, then the first went on: it is the second judgement, also when it is repeated."""

    def judge(run, name):
        number = claim_judgement(lineage, run)
        folders = make_folders(name, skill="sums", decision=Decision.BLOCK)
        log_stage(lineage, run, "decide", folders.verdict, folders.verdict_folder)
        return number

    first, second = (open_round(lineage, 1, "sums", key=key) for key in "ab")
    other = open_round(lineage, 1, "words", key="w")
    assert [judge(second, "second"), judge(other, "other")] == [1, 1]
    resumed = open_round(lineage, 1, "sums", key="a")
    assert (resumed.run_id, resumed.attempt) == (first.run_id, 1)
    assert judge(resumed, "first") == 2
    third = open_round(lineage, 1, "sums", key="c")
    assert [claim_judgement(lineage, run) for run in (third, resumed, second)] == [3, 2, 1]
    fourth = open_round(lineage, 1, "sums", key="d")
    assert claim_judgement(lineage, fourth) == 4, "the third asks the gate now: two at once are two judgements"
    assert [judgements(lineage, number, skill) for number, skill in ((1, "sums"), (1, "words"), (2, "sums"))] == [4, 1, 0]


def test_a_deleted_attempt_still_counts_and_is_named(lineage):
    opened = open_round(lineage, 1, "sums", key="a")
    lineage.client.delete_run(opened.run_id)
    assert open_round(lineage, 1, "sums", key="b").attempt == 2
    with pytest.raises(LineageError, match=f"{opened.run_id} was deleted .*restore"):
        open_round(lineage, 1, "sums", key="a")
    assert [record.status for record in read_history(lineage)] == ["deleted", "running"]


def test_the_rounds_page_begins_with_the_verdict_and_fits_a_tag(lineage, make_folders):
    folders = make_folders("bad", skill="sums", decision=Decision.BLOCK)
    check = CheckOutcome(check="regression", subject="old", outcome="block", sentence="lost 20 points | p < 0.001")
    verdict = folders.verdict.model_copy(update={"checks": (check,) * 200, "reasons": ("lost old",) * 600})
    opened = open_round(lineage, 1, "sums")
    log_stage(lineage, opened, "decide", verdict, folders.verdict_folder)
    tags = lineage.client.get_run(opened.run_id).data.tags
    assert tags["mlflow.note.content"].startswith("## BLOCK\n**Lost:** old\n\n- lost old")
    assert max(map(len, tags.values())) <= 4000
    [record] = read_history(lineage)
    assert record.reasons[0] == "lost old"
    assert record.reasons[-1] == "..."


def test_champions_scores_make_one_chart(grown):
    points = grown.client.get_metric_history(ledger_run(grown), "skills/old")
    assert [(point.step, point.value) for point in points] == [(0, 0.9), (1, 0.9), (2, 0.9)]
    suite = grown_suite(name="prose", category="drift")
    assert chart_name(suite) == "bits per byte - lower is better/prose", "a chart that is better when it falls says so"
    assert chart_name(suite.model_copy(update={"sealed": True})) == "sealed/prose"


def grown_suite(**changes):
    values = {"metric": "acc", "higher_is_better": True, "n": 1, "score": 0.5, "suite_sha256": "0", "seconds": 0.0, **changes}
    return SuiteResult(**values)


def test_a_stage_shows_numbers_inputs_and_curve(lineage, register):
    _, base, _ = register(lineage, "base", 0)
    opened, _version, folders = register(lineage, "first", 1, parent=base.model_sha256)
    client = lineage.client
    train = client.get_run(log_stage(lineage, opened, "train", folders.manifest, folders.checkpoint))
    assert train.data.metrics["final_loss"] == folders.manifest.summary.final_loss
    assert [point.step for point in client.get_metric_history(train.info.run_id, "train/loss")] == [1, 2, 3, 4, 5]
    [data] = train.inputs.dataset_inputs
    assert folders.manifest.drop_sha256 in {tag.value for tag in data.tags}
    assert folders.manifest.drop_sha256.startswith(data.dataset.digest)
    assert "manifest.json" in {item.path for item in client.list_artifacts(train.info.run_id)}
    assert train.data.tags["mlflow.parentRunId"] == opened.run_id


def test_numbers_of_a_training_are_metrics_and_its_words_are_parameters(lineage, make_folders):
    folders = make_folders("skill", skill="skill", parent="0" * 64)
    summary = folders.manifest.summary.model_copy(update={"batch_layout": "padded", "device": "cpu"})
    opened = open_round(lineage, 1, "skill")
    stage = log_stage(lineage, opened, "train", folders.manifest.model_copy(update={"summary": summary}), folders.checkpoint)
    data = lineage.client.get_run(stage).data
    assert (data.params["batch_layout"], data.params["device"]) == ("padded", "cpu")
    assert data.metrics["final_loss"] == summary.final_loss
    assert not {"batch_layout", "device"} & set(data.metrics)


def test_the_table_of_runs_has_the_verdict_and_the_scores_as_columns(grown, register):
    """MLflow shows parameters and metrics as columns, tags not; the view is asked for with `viewStateShareKey=rounds`."""
    register(grown, "third", 3, parent=find_version(grown, 3).model_sha256, decision=Decision.BLOCK)
    runs = grown.client.search_runs([grown.experiment_id], "tags.`skillstack.kind` = 'round'", order_by=["attributes.start_time ASC"])
    assert [run.data.params for run in runs] == [{}, {"verdict": "PASS"}, {"verdict": "PASS"}, {"verdict": "BLOCK"}]
    view = json.loads(grown.client.get_experiment(grown.experiment_id).tags["mlflow.sharedViewState.rounds"])
    names = ["params.`verdict`", "metrics.`score/old`", "metrics.`score/piqa_ 0-shot`", "metrics.`score/third`"]
    assert view["selectedColumns"] == names
    assert view["columnOrder"] == ["attributes.`Run Name`", *names], "the verdict first, where every width shows it"
    assert set(view["columnWidths"]) <= set(view["columnOrder"])
    assert all(name.split("`")[1] in {**runs[-1].data.metrics, **runs[-1].data.params} for name in names), "columns that exist"


def test_a_run_has_the_tags_that_are_read_and_no_other(lineage, make_folders):
    """docs/guides/operations.md says by whom."""
    opened = open_round(lineage, 1, "sums", key="a", tags={PREFIX + "method": "osft"})
    folders = make_folders("try", skill="sums", decision=Decision.BLOCK)
    stage = log_stage(lineage, opened, "decide", folders.verdict, folders.verdict_folder, code="abc")

    def ours(run_id: str) -> set[str]:
        return {name.removeprefix(PREFIX) for name in lineage.client.get_run(run_id).data.tags if name.startswith(PREFIX)}

    assert ours(opened.run_id) == {"kind", "round", "round_key", "attempt", "skill", "method", "decision", "reasons", "lost"}
    assert ours(stage) == {"kind", "stage", "stage_key", "folder", "code_sha256"}
