"""`Lineage`: everything that a flow or a command asks of MLflow, as one object.

lineage = Lineage("sqlite:///.skillstack/mlflow.db", model_name="skillstack", experiment="skillstack", state_dir=Path(".skillstack"))
champion = lineage.champion()
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from data_contracts.errors import LineageError
from data_contracts.manifests import CheckpointManifest, EvalReport, Manifest, Verdict
from flows.lineage.checks import verification
from flows.lineage.checks.verification import Verification
from flows.lineage.registry import approval, history, ledger, promotion, rebuild, retention
from flows.lineage.registry import versions as registry
from flows.lineage.registry.pull import pull_model
from flows.lineage.registry.retention import CollectionItem, RetentionPolicy
from flows.lineage.registry.tree import LineageTree
from flows.lineage.storage import sweeps, tracking
from flows.lineage.storage.connection import connect, hide_password, speaking_plainly
from flows.lineage.storage.live import LiveStage
from flows.lineage.storage.records import MOVES_CHAMPION, LedgerEntry, RoundRecord, RoundRun, Stage, VersionRef
from flows.lineage.storage.signing import SigningConfig, load_keys, with_public


class Lineage:
    """A connection to one lineage. Every method raises LineageError (or ManifestError) with where, what and the way out."""

    def __init__(
        self, tracking_uri: str, *, model_name: str, experiment: str, state_dir: Path, signing: SigningConfig | None = None
    ) -> None:
        keys = load_keys(signing or SigningConfig())
        self._store = replace(connect(tracking_uri, model_name, experiment, state_dir), keys=keys)
        self.where = hide_password(tracking_uri)

    @property
    def state_dir(self) -> Path:
        return self._store.state_dir

    # ------------------------------------------------------------------------------------------------ rounds

    def open_round(
        self,
        round_number: int,
        skill: str | None,
        *,
        key: str | None = None,
        tags: Mapping[str, str] | None = None,
        chain: Sequence[VersionRef] = (),
    ) -> RoundRun:
        """Start a round on the last version of `chain` (the champion's ancestry), or continue the one with the same key.

        `key` is what makes two starts the same round: give it the digest of the drop and the settings; without it, number and skill
        decide. Another key for the same number and skill is a further attempt."""
        with speaking_plainly(self.where):
            return tracking.open_round(self._store, round_number, skill, key, tags or {}, chain)

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

    def live_stage(self, parent: RoundRun, stage: Stage, *, every: float) -> LiveStage:
        """Show a stage while it is worked on: a context manager that takes its steps and sends them every so many seconds."""
        with speaking_plainly(self.where):
            return LiveStage(self._store, parent, stage, every)

    def log_sweep(self, skill: str, note: str, points: Sequence[tuple[float, float, float, float]], table: Path) -> str:
        """Record a finished sweep, outside the rounds: (ratio, scale, learned, margin used up) a point. Gives its run id."""
        with speaking_plainly(self.where):
            return sweeps.log_sweep(self._store, skill, note, points, table)

    def attach(self, parent: RoundRun, *files: Path) -> None:
        """Keep files among the artifacts of the round itself, for what belongs to no finished stage; absent ones are left out."""
        with speaking_plainly(self.where):
            for path in files:
                if path.is_file():
                    self._store.client.log_artifact(parent.run_id, str(path))

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
        sources: Mapping[str, Path] | None = None,
    ) -> VersionRef:
        """Register what the round made, once, whatever the verdict. Weights are not copied: path and digests are tags.

        `sources` names the user's own files that the round read, by role: `verify` says when they are not what they were."""
        with speaking_plainly(self.where):
            reference = registry.register_candidate(
                self._store,
                parent,
                checkpoint,
                manifest,
                evaluation=evaluation,
                report=report,
                verdict_folder=verdict_folder,
                verdict=verdict,
                drop=drop,
                sources=sources or {},
            )
            promotion.record_registration(self._store, reference)
            return reference

    def record_reevaluation(self, version: int, report: EvalReport, folder: Path) -> None:
        """Keep a later report on more suites with a version. Verdict and first report stay as they are."""
        with speaking_plainly(self.where):
            registry.record_reevaluation(self._store, version, report, folder)
            promotion.record_measurement(self._store, version, report)

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

    def was_champion(self, version: int) -> bool:
        """Whether a version is or once was champion: what was rolled back is not promoted again by a round that comes back."""
        return any(entry.champion == version and entry.action in MOVES_CHAMPION for entry in self.ledger())

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

    def approve(
        self, version: int, *, reviewer: str, reason: str, override: bool = False, valid_for: timedelta = approval.DEFAULT_VALIDITY
    ) -> LedgerEntry:
        """Accept a held version for a while; `promote_approved` then promotes it. A blocked version needs `override`."""
        with speaking_plainly(self.where):
            return approval.approve(self._store, version, reviewer=reviewer, reason=reason, override=override, valid_for=valid_for)

    def reject(self, version: int, *, reviewer: str, reason: str) -> LedgerEntry:
        """Refuse a held version; takes an approval back."""
        with speaking_plainly(self.where):
            return approval.reject(self._store, version, reviewer=reviewer, reason=reason)

    def promote_approved(self, version: int) -> LedgerEntry:
        """Make an approved version champion; the ledger names the reviewer and the reason."""
        with speaking_plainly(self.where):
            return approval.promote_approved(self._store, version)

    # ------------------------------------------------------------------------------------------------ reading

    def history(self) -> list[RoundRecord]:
        """Every attempt at every round, in order."""
        with speaking_plainly(self.where):
            return history.read_history(self._store)

    def ledger(self) -> tuple[LedgerEntry, ...]:
        """Every decision about the champion, in order, with the chain checked."""
        with speaking_plainly(self.where):
            return ledger.read_ledger(self._store)

    def keep_report(self, *pages: Path) -> None:
        """Keep pages of a monthly report among the ledger's artifacts."""
        with speaking_plainly(self.where):
            ledger.keep_report(self._store, pages)

    def tree(self) -> LineageTree:
        """Every version under the one it was built on: `.lines()` for people, `.dot()` for Graphviz, `.model_dump()` for machines."""
        with speaking_plainly(self.where):
            rounds, entries = history.read_lineage(self._store)
        return LineageTree(rounds=rounds, ledger=entries)

    def verify(self, public_keys: Sequence[Path] = (), head: str | None = None) -> Verification:
        """Recompute every digest and the champions' verdicts, and compare registry, ledger, runs, caches and files.

        `public_keys` count besides the configured ones; `head` is one that was kept elsewhere (`number:digest`)."""
        store = replace(self._store, keys=with_public(self._store.keys, public_keys))
        with speaking_plainly(self.where):
            return verification.verify_lineage(store, head)

    def introduce_key(self, public_key: Path, *, reason: str, actor: str) -> LedgerEntry:
        """Record a public key whose signatures count from the next entry on, signed by the present one; it covers all versions so far."""
        with speaking_plainly(self.where):
            return promotion.introduce_key(self._store, public_key, reason=reason, actor=actor)

    # ------------------------------------------------------------------------------------------------ weights

    def pull(self, target: Path, *, alias: str = registry.CHAMPION, version: int | None = None) -> VersionRef:
        """Copy the model that an alias (or a version number) names to `target/model`, verified before and after.

        For `champion` the ledger is asked too."""
        if version is not None:
            reference: VersionRef | None = self.version(version)
        elif alias == registry.CHAMPION:
            reference = self.champion(verify=False)
        else:
            with speaking_plainly(self.where):
                number = registry.aliases(self._store).get(alias)
            reference = None if number is None else self.version(number)
        if reference is None:
            raise LineageError(f"alias {alias}", "names no version", "see `skillstack history` for what there is")
        with speaking_plainly(self.where):
            verification.require_vouched(self._store, reference.version)
        pull_model(reference, target)
        return reference

    def collect_garbage(self, policy: RetentionPolicy, *, actor: str, dry_run: bool = False) -> list[CollectionItem]:
        """Delete the dense weights that the policy does not keep, each after the proof that it can be rebuilt."""
        with speaking_plainly(self.where):
            return retention.collect_garbage(self._store, policy, actor=actor, dry_run=dry_run)

    def rebuild(self, version: int, *, out: Path | None = None, actor: str) -> CheckpointManifest:
        """Bring collected weights back: in place if they come back byte for byte, or as a whole checkpoint in `out`."""
        with speaking_plainly(self.where):
            return rebuild.rebuild(self._store, version, out, actor=actor)
