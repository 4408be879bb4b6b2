"""Scores that were computed already: one Parquet file per (model, suite, settings), one row per item.

A larger `items` limit finds the items of the smaller one here and computes only the rest. A file that cannot be read, or whose
digest is not the one beside it, is treated as absent.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from data_contracts.digests import file_digest, value_digest
from data_contracts.files import replacing, write_atomically
from evals.items import COLUMNS, write_items


@dataclass(frozen=True)
class ItemCache:
    """Cached items of one suite under one model and one setting."""

    path: Path

    @classmethod
    def open(cls, folder: Path, *, model: str, prompting: str, settings: str) -> ItemCache:
        """`prompting` is the digest of all that decides prompts and scores but the items; the items are found by their own digests."""
        return cls(folder / model[:16] / f"{value_digest([model, prompting, settings])[:32]}.parquet")

    def read(self) -> pd.DataFrame:
        """Every cached item; an empty table where there is none or the file was damaged."""
        seal = self.path.with_suffix(".sha256")
        if self.path.is_file() and seal.is_file() and file_digest(self.path) == seal.read_text(encoding="utf-8").strip():
            return pd.read_parquet(self.path)
        return pd.DataFrame(columns=list(COLUMNS))

    def add(self, items: pd.DataFrame) -> None:
        """Keep these items too. A cut leaves the old file or the new one; a file without its seal is not read."""
        known = self.read()
        known = known[~known["doc_hash"].isin(items["doc_hash"])]
        table = pd.concat([known, items], ignore_index=True) if len(known) else items
        with replacing(self.path) as temporary:
            write_items(temporary, table)
            digest = file_digest(temporary)
        write_atomically(self.path.with_suffix(".sha256"), digest)
