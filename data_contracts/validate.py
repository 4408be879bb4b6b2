"""A drop in, a DropManifest out: read every line, run every check, say everything that is wrong, carve what is held out.

    drop.jsonl -> clean.jsonl, heldout.jsonl, sealed.jsonl, quarantine.jsonl, signatures.npy, report.json; manifest.json last

Two passes. The first reads the drop, refuses what one row alone shows, and stages the rest on disk; then the checks that need
the whole drop conclude; the second writes each staged row to its side. Memory does not grow with the text of a drop.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from pydantic import ValidationError

from data_contracts.carve import Side, choose_cuts, side_of
from data_contracts.checks.duplicates import ExactDuplicates
from data_contracts.checks.turns import Turns
from data_contracts.config import ContractConfig
from data_contracts.contract import Contract, load_contract
from data_contracts.digests import canonical_json, file_digest
from data_contracts.errors import DropError
from data_contracts.findings import Check, Finding, Severity
from data_contracts.jsonl import Line, read_lines
from data_contracts.manifests import DropManifest, FileRef, file_ref, write_atomically, write_manifest
from data_contracts.records import Row, normal_row, normal_text, shape_of, text_key
from data_contracts.staging import Staging, merged, publish, quarantine_json, work_folder
from data_contracts.supplied import split_supplied
from data_contracts.tally import Tally

SPLITS = ("clean", "heldout", "sealed")
OUTPUTS = ("clean.jsonl", "heldout.jsonl", "sealed.jsonl", "quarantine.jsonl", "signatures.npy")


class ChatRenderer(Protocol):
    """The base model's own chat template and tokenizer, supplied by whoever has them."""

    max_tokens: int

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str: ...

    def token_count(self, messages: Sequence[Mapping[str, Any]]) -> int: ...


@dataclass
class _Drop:
    """What the first pass learned: 17 bytes a row, whatever the rows hold."""

    alive: bytearray = field(default_factory=bytearray)
    lines: array[int] = field(default_factory=lambda: array("Q"))
    carve_keys: array[int] = field(default_factory=lambda: array("Q"))
    documents: bytearray = field(default_factory=bytearray)
    read: int = 0
    bad: int = 0
    dropped: int = 0
    written: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))


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
    progress: Callable[[int, int], None] | None = None,
) -> DropManifest:
    """Check a drop against its contract and write the folder of its round.

    `heldout` supplies the held-out rows (nothing is carved then). Raises DropError with one line where the drop does not keep the
    contract; every finding is then in `out_dir/report.json` and every refused row in `out_dir/quarantine.jsonl`.
    """
    contract = load_contract(config.path)
    tally = Tally({**contract.severity, **config.severity})
    if not skill.strip():
        raise DropError(str(drop), "has no skill name", "say which skill this drop teaches: --skill NAME")
    with work_folder(out_dir) as work:
        staging = Staging(work)
        checks: list[Check] = [Turns(), ExactDuplicates()]
        try:
            state = _read(drop, contract, config, checks, tally, staging, progress)
        finally:
            staging.close()
        late = _conclude(state, checks, tally)
        sides = _sides(state, config, tally, carve=heldout is None)
        _write(work, staging, state, late, sides)
        if heldout is not None:
            state.written |= split_supplied(heldout, work, config)
        np.save(work / "signatures.npy", np.frombuffer(state.carve_keys, dtype=np.uint64))
        publish(work, out_dir, OUTPUTS)
        source_sha256 = file_digest(drop)
    failure = _failure(drop, state, config, contract, tally)
    report = _report(drop.name, skill, source_sha256, contract, state, tally, failure)
    write_atomically(out_dir / "report.json", canonical_json(report) + "\n")
    if failure is not None:
        for name in SPLITS:
            (out_dir / f"{name}.jsonl").unlink(missing_ok=True)
        raise failure
    manifest = _manifest(drop.name, skill, source_sha256, contract, state, tally, _refs(out_dir))
    write_manifest(out_dir, manifest)
    return manifest


def _read(
    drop: Path,
    contract: Contract,
    config: ContractConfig,
    checks: Sequence[Check],
    tally: Tally,
    staging: Staging,
    progress: Callable[[int, int], None] | None,
) -> _Drop:
    """The first pass."""
    state = _Drop()
    total = drop.stat().st_size if drop.is_file() else 0
    reported = 0
    for line in read_lines(drop, max_line_bytes=config.max_line_bytes, max_depth=config.max_depth):
        state.read += 1
        if progress is not None and line.end > reported:
            reported = line.end
            progress(reported, total)
        row, findings = _row_of(line, contract)
        if row is not None:
            for check in checks:
                findings += check.observe(row, len(state.alive))
        worst = _worst([tally.add(finding) for finding in findings])
        if worst in ("error", "drop"):
            state.bad += worst == "error"
            state.dropped += worst == "drop"
            staging.refuse(line.number, findings, line.text)
        elif row is not None:
            staging.keep(len(state.alive), row)
        if row is not None:
            state.alive.append(worst not in ("error", "drop"))
            state.lines.append(line.number)
            state.carve_keys.append(text_key(normal_text(row.prompt_text()), "carve"))
            state.documents.append(row.shape == "document")
    if state.read == 0:
        raise DropError(str(drop), "is empty: it has no rows", "check the export that made it")
    return state


def _row_of(line: Line, contract: Contract) -> tuple[Row | None, list[Finding]]:
    """The line as a row in normal form, or why it is none."""
    if line.fault is not None or line.value is None:
        check, reason = line.fault or ("json", "is not an object")
        return None, [Finding(check, line.number, reason)]
    try:
        shape = shape_of(line.value)
    except ValueError as error:
        return None, [Finding("schema", line.number, str(error))]
    model = contract.rows.get(shape)
    if model is None:
        return None, [Finding("schema", line.number, f"is a {shape} row, which contract {contract.id} does not allow")]
    try:
        model.model_validate(line.value)
    except ValidationError as error:
        return None, [Finding("schema", line.number, reason) for reason in _schema_reasons(error)]
    row = normal_row(line.number, shape, line.value)
    return row, [Finding("unknown_field", line.number, f"{name} is not in the contract and is left out") for name in row.unknown]


def _schema_reasons(error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_url=False)[:10]:
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"]).lstrip(".")
        shown = repr(fault["input"]) if fault["type"] != "missing" else ""
        what = fault["msg"][0].lower() + fault["msg"][1:]
        yield f"{place}: {what}" + (f", found {shown[:60]}{'…' if len(shown) > 60 else ''}" if shown else "")


def _worst(severities: Sequence[Severity]) -> Severity:
    return min(severities, key=("error", "drop", "warning", "off").index, default="off")


def _conclude(state: _Drop, checks: Sequence[Check], tally: Tally) -> dict[int, list[Finding]]:
    """What the checks say once they know every row: findings by ordinal. Rows that they drop are no longer alive."""
    late: dict[int, list[Finding]] = {}
    for check in checks:
        for ordinal, finding in list(check.conclude(state.alive, state.lines)):
            severity = tally.add(finding)
            if ordinal >= 0 and severity in ("error", "drop"):
                late.setdefault(ordinal, []).append(finding)
                state.alive[ordinal] = 0
                state.bad += severity == "error"
                state.dropped += severity == "drop"
    return late


def _sides(state: _Drop, config: ContractConfig, tally: Tally, *, carve: bool) -> Callable[[int], Side]:
    """Ordinal -> side. Documents are carved only from drops that hold nothing else."""
    alive = np.frombuffer(bytes(state.alive), dtype=np.uint8) == 1
    documents = np.frombuffer(bytes(state.documents), dtype=np.uint8) == 1
    eligible = alive & ~documents if bool((alive & ~documents).any()) else alive
    keys = np.frombuffer(state.carve_keys, dtype=np.uint64)
    if not carve or not eligible.any():
        return lambda ordinal: Side.TRAIN
    cuts = choose_cuts(keys[eligible], config)
    if cuts.moved:
        reason = f"limits in rows moved the held-out share to {cuts.heldout:.4f} and the sealed share to {cuts.sealed - cuts.heldout:.4f}"
        tally.add(Finding("heldout_size", 0, reason))
    return lambda ordinal: side_of(state.carve_keys[ordinal], cuts) if eligible[ordinal] else Side.TRAIN


def _write(work: Path, staging: Staging, state: _Drop, late: Mapping[int, list[Finding]], sides: Callable[[int], Side]) -> None:
    """The second pass: every staged row to its side, every refused one to the quarantine, all in line order."""
    with ExitStack() as stack:
        out = {name: stack.enter_context((work / f"{name}.jsonl").open("w", encoding="utf-8")) for name in SPLITS}

        def sorted_out() -> Iterator[tuple[int, str]]:
            for ordinal, line, _, text in staging.kept():
                if not state.alive[ordinal]:
                    yield line, quarantine_json(line, late[ordinal], text) + "\n"
                    continue
                name = SPLITS[sides(ordinal)]
                out[name].write(text + "\n")
                state.written[name] += 1

        quarantine = stack.enter_context((work / "quarantine.jsonl").open("w", encoding="utf-8"))
        quarantine.writelines(merged(staging.refused(), sorted_out()))


def _failure(drop: Path, state: _Drop, config: ContractConfig, contract: Contract, tally: Tally) -> DropError | None:
    """Why the drop as a whole does not pass, or None. Comparisons are written so that anything odd fails."""
    first = tally.first_error()
    if not state.bad <= config.max_bad_fraction * state.read and first is not None:
        others = f", and {state.bad - 1} more rows in error" if state.bad > 1 else ""
        return DropError(
            f"{drop}:{first.line}", first.reason + others, "mend the rows in quarantine.jsonl or raise contract.max_bad_fraction"
        )
    if not state.dropped <= config.max_dropped_fraction * state.read:
        what = f"{state.dropped} of {state.read} rows had to be left out"
        return DropError(str(drop), what, "see report.json; mend the drop or raise contract.max_dropped_fraction")
    least = config.min_rows or int(contract.limits["min_rows"])
    most = config.max_rows or int(contract.limits.get("max_rows", 0))
    if not state.written["clean"] >= least:
        return DropError(
            str(drop), f"leaves {state.written['clean']} rows for training: the contract wants at least {least}", "send more rows"
        )
    if most and not state.read <= most:
        return DropError(str(drop), f"has {state.read} rows: the contract allows {most}", "split the drop")
    return None


def _refs(out_dir: Path) -> dict[str, FileRef]:
    names = (*OUTPUTS, "report.json")
    return {name.split(".")[0]: file_ref(out_dir, out_dir / name) for name in names}


def _manifest(
    source: str, skill: str, source_sha256: str, contract: Contract, state: _Drop, tally: Tally, files: dict[str, FileRef]
) -> DropManifest:
    return DropManifest(
        files=files,
        skill=skill,
        source=source,
        source_sha256=source_sha256,
        contract=contract.id,
        contract_version=contract.version,
        rows_read=state.read,
        rows_clean=state.written["clean"],
        rows_heldout=state.written["heldout"],
        rows_sealed=state.written["sealed"],
        rows_quarantined=state.bad + state.dropped,
        findings=tally.counts(),
    )


def _report(
    source: str, skill: str, source_sha256: str, contract: Contract, state: _Drop, tally: Tally, failure: DropError | None
) -> dict[str, Any]:
    return {
        "outcome": "failed" if failure else "passed",
        "reason": f"{failure.what} ({failure.way_out})" if failure else "",
        "source": source,
        "source_sha256": source_sha256,
        "skill": skill,
        "contract": {"id": contract.id, "version": contract.version, "sha256": contract.sha256},
        "rows": {"read": state.read, "bad": state.bad, "dropped": state.dropped, **state.written},
        "findings": tally.as_json(),
    }
