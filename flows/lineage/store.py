"""`Lineage`: everything that a flow or a command asks of MLflow, as one object.

lineage = Lineage("sqlite:///.skillstack/mlflow.db", model_name="skillstack", experiment="skillstack", state_dir=Path(".skillstack"))
champion = lineage.champion()
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from data_contracts.manifests import CheckpointManifest, EvalReport, Manifest, Verdict
from flows.lineage import history, ledger, promotion, registry, tracking
from flows.lineage.connection import connect, hide_password, speaking_plainly
from flows.lineage.records import LedgerEntry, RoundRecord, RoundRun, Stage, VersionRef


class Lineage:
    """A connection to one lineage. Every method raises LineageError (or ManifestError) with where, what and the way out."""

    def __init__(self, tracking_uri: str, *, model_name: str, experiment: str, state_dir: Path) -> None:
        self._store = connect(tracking_uri, model_name, experiment, state_dir)
        self.where = hide_password(tracking_uri)

    @property
    def state_dir(self) -> Path:
        return self._store.state_dir

    # ------------------------------------------------------------------------------------------------ rounds

    def open_round(
        self, round_number: int, skill: str | None, *, key: str | None = None, tags: Mapping[str, str] | None = None
    ) -> RoundRun:
        """Start a round, or continue the one with the same key. `key` is what makes two starts the same round: give it the digest of the
        drop and the settings; without it, number and skill decide. Another key for the same number is a further attempt."""
        with speaking_plainly(self.where):
            return tracking.open_round(self._store, round_number, skill, key, tags or {})

    def log_stage(
        self,
        parent: RoundRun,
        stage: Stage,
        manifest: Manifest,
        folder: Path,
        *,
        metrics: Mapping[str, float] | None = None,
        artifacts: Sequence[Path] = (),
        seconds: float | None = None,
    ) -> str:
        """Record a finished stage as a nested run, once; gives its run id. Numbers, params, datasets and curve come from the manifest."""
        with speaking_plainly(self.where):
            return tracking.log_stage(self._store, parent, stage, manifest, folder, metrics=metrics, artifacts=artifacts, seconds=seconds)

    def finish_round(self, parent: RoundRun) -> None:
        """The round ended with a verdict (whatever it was)."""
        with speaking_plainly(self.where):
            tracking.finish_round(self._store, parent)

    def record_failure(self, parent: RoundRun, error: BaseException | str) -> None:
        """The round ended with an error. Started again with the same key, it continues."""
        with speaking_plainly(self.where):
            tracking.record_failure(self._store, parent, error)

    # ------------------------------------------------------------------------------------------------ versions

    def register_candidate(
        self,
        parent: RoundRun,
        checkpoint: Path,
        manifest: CheckpointManifest,
        *,
        evaluation: Path | None = None,
        report: EvalReport | None = None,
        verdict_folder: Path | None = None,
        verdict: Verdict | None = None,
        drop: Path | None = None,
    ) -> VersionRef:
        """Register what the round made, once, whatever the verdict. Weights are not copied: path and digests are tags."""
        with speaking_plainly(self.where):
            return registry.register_candidate(
                self._store,
                parent,
                checkpoint,
                manifest,
                evaluation=evaluation,
                report=report,
                verdict_folder=verdict_folder,
                verdict=verdict,
                drop=drop,
            )

    def version(self, number: int, *, verify: bool = False) -> VersionRef:
        with speaking_plainly(self.where):
            reference = registry.version_reference(self._store, number)
        if verify:
            registry.verify_reference(reference)
        return reference

    def champion(self, *, verify: bool = True) -> VersionRef | None:
        """The version that serves, or None before the first promotion. Its files are verified unless told otherwise.

        Raises LineageError where the alias is not where the ledger says (moved by hand)."""
        with speaking_plainly(self.where):
            number = promotion.current_champion(self._store)
        return None if number is None else self.version(number, verify=verify)

    def ancestry(self, version: int) -> list[VersionRef]:
        """The versions that `version` was built on, the base first and itself last."""
        with speaking_plainly(self.where):
            return history.ancestry(self._store, version)

    # ------------------------------------------------------------------------------------------------ decisions

    def promote(
        self, version: int, *, expected_champion: int | None, reason: str, actor: str, verdict: Verdict | None, override: bool = False
    ) -> LedgerEntry:
        """Make `version` champion if the champion still is `expected_champion`. Only PASS promotes by itself; the base needs no verdict."""
        with speaking_plainly(self.where):
            return promotion.promote(
                self._store, version, expected_champion=expected_champion, reason=reason, actor=actor, verdict=verdict, override=override
            )

    def rollback(self, to: int | None = None, *, reason: str, actor: str) -> LedgerEntry:
        """Make an earlier champion champion again, after its files were verified. None: the one that the present champion replaced."""
        with speaking_plainly(self.where):
            return promotion.roll_back(self._store, to, reason=reason, actor=actor)

    # ------------------------------------------------------------------------------------------------ reading

    def history(self) -> list[RoundRecord]:
        """Every attempt at every round, in order."""
        with speaking_plainly(self.where):
            return history.read_history(self._store)

    def ledger(self) -> tuple[LedgerEntry, ...]:
        """Every decision about the champion, in order, with the chain checked."""
        with speaking_plainly(self.where):
            return ledger.read_ledger(self._store)
