"""A training is in MLflow while it runs, in the run that its stage is finished in, with every step once whatever was interrupted."""

from __future__ import annotations

from flows.lineage import LiveStage, log_stage, open_round, record_failure
from flows.lineage.storage import live


def told(lineage, run_id):
    return [(point.step, point.value) for point in lineage.client.get_metric_history(run_id, "train/loss")]


def step(number):
    return {"event": "step", "step": number, "loss": 2.0 / number, "lr": 0.001, "tokens_per_second": None}


def nested(lineage, parent):
    found = lineage.client.search_runs([lineage.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.run_id}'")
    return [(run.info.run_id, run.info.status, run.data.tags["skillstack.kind"]) for run in found]


def test_the_run_is_there_while_it_trains_and_becomes_the_stages_run(lineage, make_folders):
    folders = make_folders("base")
    opened = open_round(lineage, 0, None)
    with LiveStage(lineage, opened, "train", every=60.0) as shown:
        for number in (1, 2, 3):
            shown.add(number, step(number))
        assert nested(lineage, opened) == [(shown.run_id, "RUNNING", "live")]
    assert told(lineage, shown.run_id) == [(1, 2.0), (2, 1.0), (3, 2.0 / 3)], "leaving sends what is left"
    finished = log_stage(lineage, opened, "train", folders.manifest, folders.checkpoint)
    assert finished == shown.run_id
    assert nested(lineage, opened) == [(finished, "FINISHED", "stage")]
    assert [number for number, _ in told(lineage, finished)] == [1, 2, 3, 4, 5], "the rest comes from the training's file, nothing twice"
    assert log_stage(lineage, opened, "train", folders.manifest, folders.checkpoint) == finished


def test_a_training_that_resumes_goes_on_in_its_run_and_tells_no_step_twice(open_lineage, lineage):
    opened = open_round(lineage, 0, None, key="k")
    with LiveStage(lineage, opened, "train", every=60.0) as first:
        for number in (1, 2, 3):
            first.add(number, step(number))
    record_failure(lineage, opened, "killed")
    assert [status for _, status, _ in nested(lineage, opened)] == ["FAILED"]
    again = open_lineage()
    with LiveStage(again, open_round(again, 0, None, key="k"), "train", every=60.0) as second:
        for number in (2, 3, 4):
            second.add(number, step(number))
    assert second.run_id == first.run_id
    assert [number for number, _ in told(lineage, first.run_id)] == [1, 2, 3, 4]
    assert [status for _, status, _ in nested(lineage, opened)] == ["RUNNING"]


def test_a_server_that_does_not_take_the_numbers_stops_no_training_and_gets_them_later(lineage, monkeypatch):
    from mlflow.exceptions import MlflowException

    opened = open_round(lineage, 0, None)
    client, calls = lineage.client, []

    def refuse_once(run_id, metrics):
        calls.append(len(metrics))
        if len(calls) == 1:
            raise MlflowException("away")
        return type(client).log_batch(client, run_id, metrics=metrics)

    monkeypatch.setattr(client, "log_batch", refuse_once)
    with LiveStage(lineage, opened, "train", every=60.0) as shown:
        shown.add(1, step(1))
        shown._send()
        assert told(lineage, shown.run_id) == []
        shown.add(2, step(2))
    assert [number for number, _ in told(lineage, shown.run_id)] == [1, 2]


def test_numbers_arrive_without_waiting_for_the_end(lineage):
    opened = open_round(lineage, 0, None)
    with LiveStage(lineage, opened, "train", every=0.05) as shown:
        shown.add(1, step(1))
        for _ in range(200):
            if told(lineage, shown.run_id):
                break
            shown._ended.wait(0.05)
        assert told(lineage, shown.run_id) == [(1, 2.0)]


def test_other_rounds_live_runs_are_left_alone(lineage):
    one, two = open_round(lineage, 0, None, key="a"), open_round(lineage, 1, "x", key="b")
    with LiveStage(lineage, one, "train", every=60.0), LiveStage(lineage, two, "train", every=60.0):
        record_failure(lineage, one, "no")
        assert [status for _, status, _ in nested(lineage, two)] == ["RUNNING"]
        assert len(live.find_live_runs(lineage, two.run_id)) == 1
