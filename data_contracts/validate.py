"""A drop in, a DropManifest out: read every line, run every check, report everything that is wrong, hold rows out.

    drop.jsonl -> clean.jsonl  heldout.jsonl  sealed.jsonl  quarantine.jsonl  signatures.npy  contract.yaml  report.json  report.html
                  and manifest.json last

Two passes. The first reads the drop, refuses what one row alone shows, and stages the rest on disk; then the checks that need
every row conclude; the second writes each staged row to its side. Memory does not grow with the text of a drop.

Alone, from the shell: `python -m data_contracts drop.jsonl --skill NAME --out FOLDER`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from data_contracts.checks.template import ChatRenderer
from data_contracts.config import ContractConfig
from data_contracts.contract.changes import change_findings
from data_contracts.contract.read import Contract, load_contract, severities
from data_contracts.digests import canonical_json, file_digest
from data_contracts.drop.inspection import Inspection
from data_contracts.drop.reading import learn_template, read_drop, read_records
from data_contracts.drop.splitting import Carving, carve, conclude, drop_overlaps, heldout_items, overlap_index, write_splits
from data_contracts.drop.staging import Staging, publish, work_folder
from data_contracts.drop.supplied import read_supplied, supplied_as_items, write_supplied
from data_contracts.drop.tally import Tally
from data_contracts.errors import DropError
from data_contracts.manifests import MANIFEST_NAME, DropManifest, file_ref, write_manifest
from data_contracts.matching.earlier_drops import EarlierDrop, load_earlier
from data_contracts.matching.heldout_items import HeldoutItem, read_suite
from data_contracts.matching.signatures import write_signatures
from data_contracts.report.outcome import Ending
from data_contracts.report.render import report_page

__all__ = ["LEFT_BY_REFUSED", "ChatRenderer", "validate_drop"]

#: What a validation leaves for the next stage, by role in the manifest; the last three are there for a refused drop too.
FILES = {
    "clean": "clean.jsonl",
    "heldout": "heldout.jsonl",
    "sealed": "sealed.jsonl",
    "signatures": "signatures.npy",
    "contract": "contract.yaml",
    "quarantine": "quarantine.jsonl",
    "report": "report.json",
    "page": "report.html",
}
_ALWAYS = ("quarantine", "report", "page")
#: The files that a refused drop leaves.
LEFT_BY_REFUSED = tuple(FILES[role] for role in _ALWAYS)


def validate_drop(
    drop: Path,
    out_dir: Path,
    *,
    skill: str,
    config: ContractConfig,
    renderer: ChatRenderer | None = None,
    heldout: Path | None = None,
    earlier: Sequence[Path] = (),
    suites: Sequence[Path] = (),
    suite_names: Collection[str] = (),
    refresh: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> DropManifest:
    """Check a drop against its contract and write the folder of its round.

    renderer: the base model's chat template and tokenizer. heldout: held-out items that came with the drop (nothing is carved then).
    earlier: folders of the earlier rounds' drops, oldest first. suites: JSONL files that the drop must not give away (the held-out
    rows of `earlier` are among them without being named). suite_names: names that the skill may not have.
    refresh: the skill was taught before, and is taught again with new rows.
    progress: called with bytes read and bytes in all.

    Raises DropError with one line where the drop does not keep the contract; every finding is then in `out_dir/report.json` and
    every refused row in `out_dir/quarantine.jsonl`. Raises ConfigError where the contract itself is wrong.
    """
    contract = load_contract(config.path)
    tally = Tally(severities(contract, config.severity))
    past = load_earlier(earlier)
    items = _suite_items((*suites, *(path for round_ in past for path in round_.heldout)), config)
    supplied = read_supplied(heldout, config) if heldout is not None else None
    with work_folder(out_dir) as work:
        _clear(out_dir, (drop, heldout, config.path, *suites))
        records = read_records(drop, contract, config)
        first, boilerplate = learn_template(records)
        inspection = Inspection(
            contract, skill, boilerplate, renderer=renderer, earlier=past, items=items, suites=suite_names, refresh=refresh, work=work
        )
        staging = Staging(work)
        with closing(staging):
            state = read_drop(drop, chain(first, records), inspection.checks, tally, staging, progress)
        _compare_contracts(past, contract, tally)
        late = conclude(state, inspection.checks, tally, staging)
        carving = carve(state, config, tally) if supplied is None else Carving(np.zeros(len(state.alive), np.uint8), None)
        held = heldout_items(staging, state, carving) if supplied is None else supplied_as_items(supplied)
        overlap = overlap_index(held, boilerplate, contract.options["contamination"])
        drop_overlaps(staging, state, late, carving, tally, overlap)
        written = write_splits(work, staging, state, late, carving)
        write_signatures(work / FILES["signatures"], inspection.exact.keys, inspection.near.minhash(), written.splits())
        if supplied is not None:
            written.rows |= write_supplied(supplied, work)
        teaching = 1 + sum(round_.skill == skill for round_ in past)
        ending = Ending(drop, skill, file_digest(drop), contract, config, state, tally, written.rows, teaching)
        failure = ending.failure()
        _write_report(work, contract, ending.report(inspection.checks, carving, failure))
        publish(work, out_dir, (FILES[role] for role in (FILES if failure is None else _ALWAYS)))
    if failure is not None:
        raise failure
    manifest = ending.manifest({role: file_ref(out_dir, out_dir / name) for role, name in FILES.items()})
    write_manifest(out_dir, manifest)
    return manifest


def _write_report(work: Path, contract: Contract, report: Mapping[str, Any]) -> None:
    """The findings for programs and for people, and the contract that they are about."""
    texts = {"contract": contract.text, "report": canonical_json(report) + "\n", "page": report_page(report)}
    for role, text in texts.items():
        (work / FILES[role]).write_text(text, encoding="utf-8")


def _suite_items(paths: Iterable[Path], config: ContractConfig) -> list[HeldoutItem]:
    unique = dict.fromkeys(path.resolve() for path in paths)
    return [item for path in unique for item in read_suite(path, max_line_bytes=config.max_line_bytes)]


def _clear(out_dir: Path, inputs: Iterable[Path | None]) -> None:
    """Remove the files of a validation that was cut off or refused, after a look that none of them is an input of this one."""
    for path in inputs:
        if path is not None and path.resolve().parent == out_dir.resolve():
            raise DropError(str(out_dir), f"holds {path.name}, which is read", "give another folder for the results")
    for path in (*(out_dir / name for name in FILES.values()), *out_dir.glob(f".{MANIFEST_NAME}.*")):
        path.unlink(missing_ok=True)


def _compare_contracts(past: Sequence[EarlierDrop], contract: Contract, tally: Tally) -> None:
    """Name what changed since the last round that was checked against a contract of this id."""
    same = [round_ for round_ in past if round_.manifest.contract == contract.id and round_.contract_text is not None]
    if same and same[-1].contract_text is not None:
        last = same[-1]
        for finding in change_findings(last.contract_text or "", last.manifest.contract_version, contract.text, contract.version):
            tally.add(finding)
