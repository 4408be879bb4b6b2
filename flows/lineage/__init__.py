"""The lineage: which rounds there were, which version is champion, and why. The one edge to MLflow.

Nothing here imports MLflow before a `Lineage` is made.
"""

from flows.lineage.records import ChampionRef, LedgerEntry, RoundRecord, RoundRun, VersionRef
from flows.lineage.store import Lineage

__all__ = ["ChampionRef", "LedgerEntry", "Lineage", "RoundRecord", "RoundRun", "VersionRef"]
