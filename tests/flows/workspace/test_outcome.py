"""A round's last state in Prefect is named for its decision, and whoever called the flow gets the outcome all the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from prefect.testing.utilities import prefect_test_harness

from data_contracts.manifests import CheckpointManifest, Decision
from flows.service.automations import ENDED
from flows.workspace.outcome import RoundOutcome, replayed_share
from flows.workspace.pages import ended_as, run_name
from flows.workspace.server import END_STATES


def outcome(decision: Decision) -> RoundOutcome:
    return RoundOutcome(
        round=1, attempt=1, skill="route", method="osft", decision=decision, reasons=("a reason",), lost=(), suites=(), version=2,
        champion=1, report=Path("report.html"), checkpoint=Path("checkpoint"),
    )  # fmt: skip


def test_every_decision_has_a_name_and_a_way_to_end() -> None:
    assert set(END_STATES) == {each.value for each in Decision}
    assert {f"prefect.flow-run.{name}" for name in END_STATES.values()} <= ENDED


def test_blocked_and_held_rounds_are_named_so_and_their_outcome_comes_back() -> None:
    """On an embedded server with a database of its own: one flow run per decision."""
    runs: dict[Decision, str] = {}

    @flow(persist_result=False, flow_run_name="round · route · 2026-11")
    def ends(decision: Decision) -> RoundOutcome:
        runs[decision] = str(flow_run.id)
        return ended_as(outcome(decision))

    with prefect_test_harness(server_startup_timeout=300), get_client(sync_client=True) as client:
        for decision in Decision:
            given = ends(decision)
            assert given == outcome(decision)
            assert given.exit_code == outcome(decision).exit_code
            run = client.read_flow_run(runs[decision])
            state = run.state
            assert state is not None
            assert run.name == "round · route · 2026-11" + ("" if decision is Decision.PASS else f" · {state.name}")
            assert (state.name, state.type.value) == (END_STATES[decision.value], "COMPLETED")
            assert state.message == "a reason"


@pytest.mark.parametrize(
    ("name", "decision", "shown"),
    [
        ("round · route", "BLOCK", "round · route · Blocked"),
        ("round · route · Blocked", "BLOCK", "round · route · Blocked"),
        ("round · route · Unmeasured", "INCONCLUSIVE", "round · route · Held"),
        ("round · route · Held", "PASS", "round · route"),
        ("round · Held · 2026-11", "PASS", "round · Held · 2026-11"),
    ],
)
def test_a_run_s_name_ends_with_its_last_decision(name: str, decision: str, shown: str) -> None:
    assert run_name(name, decision) == shown


def test_outside_of_a_flow_an_outcome_is_itself() -> None:
    assert ended_as(outcome(Decision.BLOCK)) == outcome(Decision.BLOCK)


@pytest.mark.parametrize(
    ("config", "share"),
    [
        ({"replay_share": 0.0, "buffer_size": 512}, 0.0),
        ({"replay_share": 0.25, "buffer_size": 512}, 0.25),
        ({"replay_share": 0.25, "buffer_size": 0}, None),
        ({}, None),  # of an older release, or not trained
    ],
)
def test_replay_is_named_only_where_the_lineage_keeps_rows(config: dict[str, float], share: float | None) -> None:
    assert replayed_share(CheckpointManifest(files={}, method="osft", model_sha256="0", config=config)) == share


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
