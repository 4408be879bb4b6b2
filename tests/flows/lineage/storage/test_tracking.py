"""A round's runs: found again after a crash, counted when tried again, refused when deleted."""

from __future__ import annotations

import pytest

from data_contracts.errors import LineageError
from data_contracts.manifests import CheckOutcome, Decision, SuiteResult
from flows.lineage.registry.ledger import chart_name, ledger_run


def test_a_killed_round_continues_its_parent_run(open_lineage, make_folders):
    folders = make_folders("base")
    first = open_lineage()
    opened = first.open_round(0, None, key="k")
    stage = first.log_stage(opened, "train", folders.manifest, folders.checkpoint)

    again = open_lineage()  # another process
    resumed = again.open_round(0, None, key="k")
    assert (resumed.run_id, resumed.attempt, resumed.resumed, resumed.finished) == (opened.run_id, 1, True, False)
    assert again.log_stage(resumed, "train", folders.manifest, folders.checkpoint) == stage
    version = again.register_candidate(resumed, folders.checkpoint, folders.manifest)
    assert again.register_candidate(resumed, folders.checkpoint, folders.manifest) == version
    assert [record.version for record in again.history()] == [version.version]


def test_a_stage_that_was_cut_off_is_logged_again(lineage, make_folders):
    folders = make_folders("base")
    opened = lineage.open_round(0, None)
    stage = lineage.log_stage(opened, "train", folders.manifest, folders.checkpoint)
    lineage._store.client.update_run(stage, status="RUNNING")
    again = lineage.log_stage(opened, "train", folders.manifest, folders.checkpoint)
    assert again != stage
    runs = lineage._store.client.search_runs([lineage._store.experiment_id], f"tags.`mlflow.parentRunId` = '{opened.run_id}'")
    assert [run.info.run_id for run in runs] == [again]


def test_retries_are_counted_and_only_judged_ones_tighten_the_gate(lineage, make_folders):
    first = lineage.open_round(1, "sums", key="a")
    lineage.record_failure(first, ValueError("loss is not finite\ndetails"))
    second = lineage.open_round(1, "sums", key="b")
    folders = make_folders("second try", skill="sums", decision=Decision.BLOCK)
    lineage.log_stage(second, "decide", folders.verdict, folders.verdict_folder)
    third = lineage.open_round(1, "sums", key="c")
    assert [run.attempt for run in (first, second, third)] == [1, 2, 3]
    assert [run.judged_before for run in (first, second, third)] == [0, 0, 1]
    assert lineage.open_round(1, "sums", key="b").judged_before == 0

    failed, blocked, running = lineage.history()
    assert (failed.status, failed.error) == ("failed", "loss is not finite")
    assert (blocked.decision, blocked.lost) == ("BLOCK", ("old",))
    assert (running.status, running.decision) == ("running", None)


def test_a_deleted_attempt_still_counts_and_is_named(lineage):
    opened = lineage.open_round(1, "sums", key="a")
    lineage._store.client.delete_run(opened.run_id)
    assert lineage.open_round(1, "sums", key="b").attempt == 2
    with pytest.raises(LineageError, match=f"{opened.run_id} was deleted .*restore"):
        lineage.open_round(1, "sums", key="a")
    assert [record.status for record in lineage.history()] == ["deleted", "running"]


def test_the_rounds_page_begins_with_the_verdict_and_fits_a_tag(lineage, make_folders):
    folders = make_folders("bad", skill="sums", decision=Decision.BLOCK)
    check = CheckOutcome(check="regression", subject="old", outcome="block", sentence="lost 20 points | p < 0.001")
    verdict = folders.verdict.model_copy(update={"checks": (check,) * 200, "reasons": ("lost old",) * 600})
    opened = lineage.open_round(1, "sums")
    lineage.log_stage(opened, "decide", verdict, folders.verdict_folder)
    tags = lineage._store.client.get_run(opened.run_id).data.tags
    assert tags["mlflow.note.content"].startswith("## BLOCK\n**Lost:** old\n\n- lost old")
    assert max(map(len, tags.values())) <= 4000
    [record] = lineage.history()
    assert record.reasons[0] == "lost old"
    assert record.reasons[-1] == "..."


def test_champions_scores_make_one_chart(grown):
    points = grown._store.client.get_metric_history(ledger_run(grown._store), "skills/old")
    assert [(point.step, point.value) for point in points] == [(0, 0.9), (1, 0.9), (2, 0.9)]
    suite = grown_suite(name="prose", category="drift")
    assert chart_name(suite) == "bits a byte - lower is better/prose", "a chart that is better when it falls says so"
    assert chart_name(suite.model_copy(update={"sealed": True})) == "sealed/prose"


def grown_suite(**changes):
    values = {"metric": "acc", "higher_is_better": True, "n": 1, "score": 0.5, "suite_sha256": "0", "seconds": 0.0, **changes}
    return SuiteResult(**values)


def test_a_stage_shows_numbers_inputs_and_curve(lineage, register):
    _, base, _ = register(lineage, "base", 0)
    opened, _version, folders = register(lineage, "first", 1, parent=base.model_sha256)
    client = lineage._store.client
    train = client.get_run(lineage.log_stage(opened, "train", folders.manifest, folders.checkpoint))
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
    opened = lineage.open_round(1, "skill")
    stage = lineage.log_stage(opened, "train", folders.manifest.model_copy(update={"summary": summary}), folders.checkpoint)
    data = lineage._store.client.get_run(stage).data
    assert (data.params["batch_layout"], data.params["device"]) == ("padded", "cpu")
    assert data.metrics["final_loss"] == summary.final_loss
    assert not {"batch_layout", "device"} & set(data.metrics)
