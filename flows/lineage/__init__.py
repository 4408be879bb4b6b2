"""The lineage in MLflow: rounds, versions, the champion, and the ledger with all decisions. Only this package writes to MLflow.

    lineage = connect("sqlite:///.skillstack/mlflow.db", model_name="skillstack", experiment="skillstack", state_dir=Path(".skillstack"))
    champion = current_champion(lineage)

All functions take a `Lineage` first. MLflow is not imported before `connect`.
"""

from flows.lineage.card import Adapter, model_card, write_card
from flows.lineage.checks.ledger_rules import Finding
from flows.lineage.checks.verification import Verification, verify_lineage
from flows.lineage.pull import pull_version
from flows.lineage.registry.approval import approve_version, promote_on_approval, reject_version
from flows.lineage.registry.history import read_ancestry, read_history
from flows.lineage.registry.ledger import keep_report, read_ledger, was_champion
from flows.lineage.registry.promotion import current_champion, introduce_key, promote_version, roll_back
from flows.lineage.registry.rebuild import rebuild_version
from flows.lineage.registry.registration import record_reevaluation, register_candidate, sign_version
from flows.lineage.registry.retention import CollectionItem, RetentionPolicy, collect_garbage
from flows.lineage.registry.tree import LineageTree, read_tree
from flows.lineage.registry.versions import find_version
from flows.lineage.storage.connection import Lineage, connect
from flows.lineage.storage.live import LiveStage
from flows.lineage.storage.records import ChampionRef, LedgerEntry, RoundRecord, RoundRun, VersionRef
from flows.lineage.storage.sweeps import log_sweep
from flows.lineage.storage.tracking import attach_files, finish_round, log_stage, open_round, record_failure

__all__ = [
    "Adapter",
    "ChampionRef",
    "CollectionItem",
    "Finding",
    "LedgerEntry",
    "Lineage",
    "LineageTree",
    "LiveStage",
    "RetentionPolicy",
    "RoundRecord",
    "RoundRun",
    "Verification",
    "VersionRef",
    "approve_version",
    "attach_files",
    "collect_garbage",
    "connect",
    "current_champion",
    "find_version",
    "finish_round",
    "introduce_key",
    "keep_report",
    "log_stage",
    "log_sweep",
    "model_card",
    "open_round",
    "promote_on_approval",
    "promote_version",
    "pull_version",
    "read_ancestry",
    "read_history",
    "read_ledger",
    "read_tree",
    "rebuild_version",
    "record_failure",
    "record_reevaluation",
    "register_candidate",
    "reject_version",
    "roll_back",
    "sign_version",
    "verify_lineage",
    "was_champion",
    "write_card",
]
