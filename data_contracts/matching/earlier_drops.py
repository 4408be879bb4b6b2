"""What earlier rounds left behind that a new drop is compared with: their rows' signatures, held-out rows, skill and contract."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_contracts.errors import DropError, ManifestError
from data_contracts.manifests import DropManifest, read_manifest
from data_contracts.matching.signatures import Signatures, read_signatures
from data_contracts.rows.jsonl import read_raw

SPLIT_FILES = ("clean", "heldout", "sealed")


@dataclass(frozen=True)
class EarlierDrop:
    """One earlier round's validated drop, its digests verified."""

    folder: Path
    manifest: DropManifest
    signatures: Signatures
    sorted_keys: NDArray[np.uint64]
    contract_text: str | None

    @property
    def skill(self) -> str:
        return self.manifest.skill

    @property
    def heldout(self) -> tuple[Path, ...]:
        """Its held-out and sealed rows: a later drop must not train on them."""
        return tuple(self.folder / self.manifest.files[role].path for role in ("heldout", "sealed") if self.manifest.files[role].bytes)

    def texts(self, places: Sequence[int]) -> Iterator[tuple[int, str]]:
        """(place, row as JSON) for these places in its signatures, ascending; reads each file once."""
        wanted = np.sort(np.array(places, np.int64))
        sides, lines = self.signatures.side[wanted], self.signatures.row[wanted]
        for side, name in enumerate(SPLIT_FILES):
            mine = dict(zip(lines[sides == side].tolist(), wanted[sides == side].tolist(), strict=True))
            if not mine:
                continue
            for number, text in enumerate(read_raw(self.folder / self.manifest.files[name].path)):
                if number in mine:
                    yield mine[number], text.decode()


def load_earlier(folders: Sequence[Path]) -> tuple[EarlierDrop, ...]:
    """Read the manifests and signatures of earlier rounds, oldest first. Raises DropError where one cannot be trusted (fails closed)."""
    return tuple(_load(folder) for folder in folders)


def _load(folder: Path) -> EarlierDrop:
    try:
        manifest = read_manifest(folder, DropManifest)
        signatures = read_signatures(folder / manifest.files["signatures"].path)
        contract = manifest.files.get("contract")
        text = (folder / contract.path).read_text(encoding="utf-8") if contract else None
    except (ManifestError, KeyError, OSError, ValueError) as error:
        raise DropError(
            str(folder), f"the earlier drop cannot be read: {error}", "restore it, or validate that round's drop again"
        ) from error
    return EarlierDrop(folder, manifest, signatures, np.sort(signatures.key[:]), text)
