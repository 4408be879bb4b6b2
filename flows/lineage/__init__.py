"""The lineage in MLflow: rounds, versions, the champion, and the ledger with all decisions. Only this package writes to MLflow.

    lineage = connect("sqlite:///.skillstack/mlflow.db", model_name="skillstack", experiment="skillstack", state_dir=Path(".skillstack"))
    champion = current_champion(lineage)

All functions take a `Lineage` first. MLflow is not imported before `connect`, and a module of this package not before a name of it is
used: every command reads the config, whose section `signing` is described here, and few of them need scipy and pandas.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flows.lineage.attempts import claim_judgement, judgements
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
    "claim_judgement",
    "collect_garbage",
    "connect",
    "current_champion",
    "find_version",
    "finish_round",
    "introduce_key",
    "judgements",
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

_HOMES = {
    "Adapter": "card",
    "ChampionRef": "storage.records",
    "CollectionItem": "registry.retention",
    "Finding": "checks.ledger_rules",
    "LedgerEntry": "storage.records",
    "Lineage": "storage.connection",
    "LineageTree": "registry.tree",
    "LiveStage": "storage.live",
    "RetentionPolicy": "registry.retention",
    "RoundRecord": "storage.records",
    "RoundRun": "storage.records",
    "Verification": "checks.verification",
    "VersionRef": "storage.records",
    "approve_version": "registry.approval",
    "attach_files": "storage.tracking",
    "claim_judgement": "attempts",
    "collect_garbage": "registry.retention",
    "connect": "storage.connection",
    "current_champion": "registry.promotion",
    "find_version": "registry.versions",
    "finish_round": "storage.tracking",
    "introduce_key": "registry.promotion",
    "judgements": "attempts",
    "keep_report": "registry.ledger",
    "log_stage": "storage.tracking",
    "log_sweep": "storage.sweeps",
    "model_card": "card",
    "open_round": "storage.tracking",
    "promote_on_approval": "registry.approval",
    "promote_version": "registry.promotion",
    "pull_version": "pull",
    "read_ancestry": "registry.history",
    "read_history": "registry.history",
    "read_ledger": "registry.ledger",
    "read_tree": "registry.tree",
    "rebuild_version": "registry.rebuild",
    "record_failure": "storage.tracking",
    "record_reevaluation": "registry.registration",
    "register_candidate": "registry.registration",
    "reject_version": "registry.approval",
    "roll_back": "registry.promotion",
    "sign_version": "registry.registration",
    "verify_lineage": "checks.verification",
    "was_champion": "registry.ledger",
    "write_card": "card",
}


def __getattr__(name: str) -> Any:
    """A name of `__all__`, from its module (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
