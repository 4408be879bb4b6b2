"""Recompute an old verdict from the stored items and compare it, byte for byte, with what was decided then."""

from __future__ import annotations

from data_contracts.errors import LineageError
from data_contracts.manifests import Record, Verdict, manifest_digest, read_manifest
from evals.gate_replay import replay
from flows.house import House, find_report
from flows.lineage import RoundRecord


class Replay(Record):
    round: int
    version: int
    decision: str
    stored_sha256: str
    recomputed_sha256: str

    @property
    def equal(self) -> bool:
        return self.stored_sha256 == self.recomputed_sha256


def replay_round(house: House, number: int) -> Replay:
    """Replay the newest decided attempt at a round. Raises LineageError where there is none, EvaluationError where items changed."""
    record = _decided(house, number)
    if record.verdict is None or record.version is None:
        raise LineageError(f"round {number}", "has no stored verdict", "see `skillstack history`")
    stored = read_manifest(record.verdict, Verdict)
    folders = {role: find_report(house, digest) for role, digest in stored.inputs.items()}
    again = replay(record.verdict, folders)
    return Replay(
        round=number,
        version=record.version,
        decision=again.decision.value,
        stored_sha256=manifest_digest(stored),
        recomputed_sha256=manifest_digest(again),
    )


def _decided(house: House, number: int) -> RoundRecord:
    records = [record for record in house.lineage.history() if record.round == number and record.decision is not None and record.verdict]
    if not records:
        decided = sorted({record.round for record in house.lineage.history() if record.verdict})
        raise LineageError(f"round {number}", "was never decided", f"decided rounds: {', '.join(map(str, decided)) or 'none'}")
    return records[-1]
