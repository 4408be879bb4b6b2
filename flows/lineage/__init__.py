"""The lineage: which rounds there were, which version is champion, and why. The one edge to MLflow.

Nothing here imports MLflow before a `Lineage` is made.
"""

from flows.lineage.checks.ledger_rules import Finding
from flows.lineage.checks.verification import Verification
from flows.lineage.registry.retention import CollectionItem, RetentionPolicy
from flows.lineage.registry.tree import LineageTree
from flows.lineage.storage.records import ChampionRef, LedgerEntry, RoundRecord, RoundRun, VersionRef
from flows.lineage.store import Lineage

__all__ = [
    "ChampionRef",
    "CollectionItem",
    "Finding",
    "LedgerEntry",
    "Lineage",
    "LineageTree",
    "RetentionPolicy",
    "RoundRecord",
    "RoundRun",
    "Verification",
    "VersionRef",
]
