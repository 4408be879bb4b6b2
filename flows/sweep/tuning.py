"""The tuning split: rows on which a sweep compares its candidates; the gate does not use them.

    learning     rows of the new drop that the sweep does not train on (without ratios: rows that it was trained on)
    forgetting   training rows of earlier rounds that replay does not practise, and the calibration text

Where too few such rows are left, and where training reads the calibration text, all of it is used and the result says so. Without earlier
skills and calibration text, the config's general suites are used instead, and the result says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_contracts.digests import file_digest, text_digest
from data_contracts.errors import DropError
from data_contracts.files import write_atomically
from data_contracts.manifests import CheckpointManifest, DropManifest, file_ref, read_manifest, write_manifest
from data_contracts.rows.jsonl import read_objects, read_raw
from data_contracts.skill_names import suite_name
from evals.config import SuiteConfig
from flows.lineage import VersionRef
from flows.lineage.audit_rows import own_suite
from flows.sweep.frontier import SUFFIX
from flows.text.renderer import open_text
from flows.workspace.stages import Stage, discard_partial, run_stage
from flows.workspace.workspace import Workspace, suites_of_skill
from osft_engine.config import TrainConfig
from osft_engine.memory.buffer import extend_buffer, load_buffer

MIN_ROWS = 20


@dataclass(frozen=True)
class Tuning:
    """The drop to train on and the suites to evaluate. `learning` is the new skill's suite; `notes` are for the reader of the result."""

    drop: Stage[DropManifest]
    learning: str
    suites: tuple[SuiteConfig, ...]
    notes: tuple[str, ...]


def prepare_tuning(workspace: Workspace, chain: Sequence[VersionRef], clean: Stage[DropManifest], skill: str, *, hold_out: bool) -> Tuning:
    """Make the split. With `hold_out` a share of the clean rows is not trained on; without, all rows were trained on.

    Raises DropError if the drop is too small for a split.
    """
    config = workspace.config.sweep
    split = _split(workspace, chain, clean, config.tuning_fraction if hold_out else 0.0)
    notes = []
    own = suites_of_skill(workspace, skill, clean.folder)[0]
    rows = split.folder / split.manifest.files["heldout" if hold_out else "clean"].path
    learning = own.model_copy(
        update={"name": suite_name(skill, clean.manifest.teaching) + SUFFIX, "source": str(rows), "items": config.tuning_items}
    )
    if not hold_out:
        notes.append("Learning was measured on training rows, so it is too high; the gate uses other rows.")
    earlier, files = _earlier(chain), split.manifest.files
    kept = [
        suites_of_skill(workspace, skill, drop)[0].model_copy(
            update={
                "name": f"{own_suite(skill, drop)}{SUFFIX}",
                "source": str(split.folder / files[role].path if (role := _role(skill, drop)) in files else _clean_rows(drop)),
                "items": config.tuning_items,
            }
        )
        for skill, drop in earlier
    ]
    notes += practice_notes(
        [skill for skill, drop in earlier if _role(skill, drop) not in files] if _replayed(workspace, chain) else [],
        workspace.config.train if "general" in files else None,
    )
    if "general" in files:
        source = str(split.folder / files["general"].path)
        kept.append(SuiteConfig(name="general" + SUFFIX, category="drift", source=source, items=config.tuning_items, duplicates="drop"))
    if not kept:
        kept = [suite for suite in workspace.config.evaluation.suites if not suite.sealed]
        if kept:
            notes.append("Forgetting was measured on the gate's general suites: set `calibration` to keep them apart.")
        else:
            notes.append("There was nothing to measure forgetting on: no earlier skill, no calibration text, no general suite.")
    return Tuning(split, learning.name, (learning, *kept), tuple(notes))


def practice_notes(replayed: Sequence[str], train: TrainConfig | None) -> Iterator[str]:
    """Where forgetting was measured on what training practises: skills whose replayed rows had to be kept, and calibration text."""
    if replayed:
        yield f"Forgetting of {', '.join(replayed)} was measured on rows that replay trains on, so it is too low; the gate uses other rows."
    if train is None:
        return
    reads = {"calibration_share": train.calibration_share, "keep_general": train.keep_general if train.method == "osft" else 0.0}
    if which := " and ".join(name for name, value in reads.items() if value):
        yield f"Drift was measured on calibration text that training reads (train.{which}), so it is too low; the gate uses other text."


def _earlier(chain: Sequence[VersionRef]) -> list[tuple[str, Path]]:
    """(skill, drop) of the rounds before."""
    return [(version.skill, version.drop) for version in chain if version.skill and version.drop]


def _role(skill: str, drop: Path) -> str:
    """The split's file of an earlier drop's rows that replay does not practise."""
    return f"kept-{own_suite(skill, drop)}"


def _clean_rows(drop: Path) -> Path:
    return drop / read_manifest(drop, DropManifest, verify=False).files["clean"].path


def _replayed(workspace: Workspace, chain: Sequence[VersionRef]) -> Path | None:
    """The champion's buffer, where training draws from it."""
    if not workspace.config.train.replay_share:
        return None
    champion = chain[-1].checkpoint
    files = read_manifest(champion, CheckpointManifest, verify=False).files
    return champion / files["buffer"].path if "buffer" in files else None


def _not_replayed(drop: Path, practised: set[str], fewest: int) -> list[str] | None:
    """Rows of an earlier drop that replay does not practise; None where it practises some and leaves fewer than `fewest`."""
    lines = [raw.decode() for raw in read_raw(_clean_rows(drop))]
    left = [line for line in lines if practised.isdisjoint(_keys([json.loads(line)]))]
    return left if len(left) >= min(fewest, len(lines)) else None


def _keys(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """What the engine's buffer knows rows by, under one seed: those of two rounds may differ."""
    return {row.key for row in extend_buffer((), rows, skill="", size=len(rows), seed=0)}


def _split(workspace: Workspace, chain: Sequence[VersionRef], clean: Stage[DropManifest], share: float) -> Stage[DropManifest]:
    """The drop with a share of its clean rows as tuning rows, chosen by their digest; calibration text as the model reads it; and, where
    training replays rows, those of earlier drops that it does not, of each drop with enough of them."""
    calibration, buffer, fewest = workspace.config.calibration, _replayed(workspace, chain), workspace.config.gate.min_items
    earlier = _earlier(chain) if buffer is not None else []

    def build(folder: Path) -> None:
        discard_partial(folder)
        lines = [raw.decode() for raw in read_raw(clean.folder / clean.manifest.files["clean"].path)]
        tuning = [line for line in lines if _drawn(line, share)]
        if share and min(len(tuning), len(lines) - len(tuning)) < MIN_ROWS:
            what = f"has {len(lines)} clean rows, of which {len(tuning)} would be for tuning; {MIN_ROWS} are needed on both sides"
            raise DropError(clean.manifest.source, what, "sweep over scales only (--ratios none), or use more rows")
        files = {"clean": [line for line in lines if not _drawn(line, share)], "heldout": tuning}
        if calibration is not None:
            files["general"] = _general_text(workspace, chain[0].checkpoint / "model", calibration)
        practised = _keys([each.row for each in load_buffer(buffer)]) if buffer is not None else set()
        files |= {_role(skill, drop): left for skill, drop in earlier if (left := _not_replayed(drop, practised, fewest)) is not None}
        for role, content in files.items():
            write_atomically(folder / f"{role}.jsonl", "".join(line + "\n" for line in content))
        manifest = clean.manifest.model_copy(
            update={
                "files": {role: file_ref(folder, folder / f"{role}.jsonl") for role in files},
                "rows_clean": len(files["clean"]),
                "rows_heldout": len(tuning),
                "rows_sealed": 0,
            }
        )
        write_manifest(folder, manifest)

    inputs = {
        "drop": clean.manifest.files["clean"].sha256,
        "share": share,
        "calibration": file_digest(calibration) if calibration is not None else None,
        "tokenizer": chain[0].model_sha256,
        "replayed": file_digest(buffer) if buffer is not None else None,
        "earlier": {_role(skill, drop): file_digest(_clean_rows(drop)) for skill, drop in earlier},
        "fewest": fewest,
        "text": workspace.config.train.model_dump(mode="json", include={"chat_template", "chat_template_kwargs"}),
    }
    return run_stage(workspace.stages, "tuning", inputs, DropManifest, build, code=("flows.sweep.tuning",))


def _drawn(line: str, share: float) -> bool:
    return int(text_digest("tuning " + line)[:8], 16) < share * 2**32


def _general_text(workspace: Workspace, model: Path, calibration: Path) -> list[str]:
    """Calibration rows as {"text"}, with conversations rendered by the chat template: bits per byte are of what the model reads."""
    renderer = open_text(model, workspace.config.train)
    rows = list(read_objects(calibration))
    texts = [str(row["text"]) for _, row in rows if "text" in row]
    texts += [renderer.text(row, origin) for origin, row in rows if "messages" in row]
    return [json.dumps({"text": text}, ensure_ascii=False) for text in texts if text.strip()]
