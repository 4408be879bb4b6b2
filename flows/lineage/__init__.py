"""The lineage: which rounds there were, which version is champion, and why. The one edge to MLflow.

Nothing here imports MLflow before a `Lineage` is made.
"""

from flows.lineage.ledger_rules import Finding
from flows.lineage.records import ChampionRef, LedgerEntry, RoundRecord, RoundRun, VersionRef
from flows.lineage.retention import CollectionItem, RetentionPolicy
from flows.lineage.store import Lineage
from flows.lineage.tree import LineageTree
from flows.lineage.verification import Verification

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
