"""A sweep is one run of its own with a point per step of the chart."""

from __future__ import annotations

from pathlib import Path

from flows.lineage import Lineage, log_sweep, read_history


def test_every_point_is_in_the_charts_and_no_round_comes_of_it(lineage: Lineage, tmp_path: Path) -> None:
    table = tmp_path / "sweep.json"
    table.write_text("{}", encoding="utf-8")
    points = [(0.1, "rate 0.001", 0.5, 0.2), (0.25, "rate 0.001", 0.75, 0.4), (0.1, "rate 0.003", 0.625, 1.5)]
    run_id = log_sweep(lineage, "sql", "chosen: 0.25", points, table)

    run = lineage.client.get_run(run_id)
    assert (run.info.status, run.data.tags["skillstack.kind"], run.data.tags["skillstack.skill"]) == ("FINISHED", "sweep", "sql")
    assert run.data.tags["mlflow.note.content"] == "chosen: 0.25"
    curve = {point.step: point.value for point in lineage.client.get_metric_history(run_id, "learned/rate 0.001")}
    assert curve == {10: 0.5, 25: 0.75}
    used = {point.step: point.value for point in lineage.client.get_metric_history(run_id, "margin used/rate 0.003")}
    assert used == {10: 1.5}
    assert [each.path for each in lineage.client.list_artifacts(run_id)] == ["sweep.json"]
    assert read_history(lineage) == []


def test_more_points_than_one_batch_of_mlflow_takes_arrive(lineage: Lineage, tmp_path: Path) -> None:
    table = tmp_path / "sweep.json"
    table.write_text("{}", encoding="utf-8")
    points = [(0.1, f"point {number}", number / 1000, 0.0) for number in range(501)]  # 1,002 numbers; MLflow takes 1,000 at a time
    run = lineage.client.get_run(log_sweep(lineage, "sql", "many", points, table))
    assert len(run.data.metrics) == 1002
    assert run.data.metrics["learned/point 500"] == 0.5
