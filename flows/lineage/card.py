"""The model card of a version: README.md in Hugging Face's format, with evaluation, lineage, data digests and verdict.

    write_card(lineage, 4, folder / "model")

It says what was decided about the version and nothing that changes later, so that the card of a version stays what it is. Source of the
format: https://github.com/huggingface/hub-docs/blob/main/modelcard.md (metadata between two lines `---`, scores as `model-index`).
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from data_contracts.errors import LineageError, SkillstackError
from data_contracts.escaping import markdown_text
from data_contracts.files import write_atomically
from data_contracts.manifests import CheckpointManifest, DropManifest, EvalReport, M, SuiteResult, Verdict, read_manifest
from evals.report.facts import passes_made
from evals.report.scores import change_text, score_text
from flows.lineage.registry.history import actor_of, read_ancestry
from flows.lineage.registry.ledger import read_ledger
from flows.lineage.registry.replaying import stored_reports
from flows.lineage.storage.connection import PREFIX, Lineage, plainly
from flows.lineage.storage.records import MOVES_CHAMPION, LedgerEntry, VersionRef

CARD_NAME = "README.md"
_LIBRARY_TAG = "skillstack"
_HUB_NAMES = {"smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""Base models that are known here by a short name."""
_HOW = {"promote": "promoted by the gate", "promote-approved": "approved by a person after the gate held it"}
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Adapter:
    """For the card of an adapter: the model that it is used with, and what it holds, as a sentence."""

    base: str
    about: str


@dataclass(frozen=True)
class _Facts:
    """Everything that a card says, read from the lineage."""

    name: str
    base: str | None
    chain: Sequence[VersionRef]
    made: CheckpointManifest
    report: EvalReport | None
    before: Mapping[str, SuiteResult]
    verdict: Verdict | None
    moves: Mapping[int, LedgerEntry]

    @property
    def version(self) -> VersionRef:
        return self.chain[-1]

    @property
    def skills(self) -> list[str]:
        return [version.skill for version in self.chain if version.skill]


def write_card(lineage: Lineage, version: int, folder: Path, adapter: Adapter | None = None) -> Path | None:
    """Write the card into `folder`. A card is no reason to stop a promotion or an export: what prevents it is logged, and None returned."""
    try:
        text = model_card(lineage, version, adapter)
        write_atomically(folder / CARD_NAME, text)
    except (SkillstackError, OSError) as error:
        logger.warning("no model card for version %s: %s", version, error)
        return None
    return folder / CARD_NAME


def is_card(path: Path) -> bool:
    """Whether a file is a card that was written here: another one may replace it."""
    if path.name != CARD_NAME or not path.is_file():
        return False
    return _metadata(path.read_text(encoding="utf-8", errors="replace")).get("library_tag") == _LIBRARY_TAG


def _metadata(text: str) -> dict[str, Any]:
    parts = text.split("---\n", 2)
    try:
        found = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0] else None
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


@plainly
def original_base(lineage: Lineage, base: VersionRef) -> str | None:
    """The name that the base model was registered with: an id of the hub, `nano`, `smollm2` or a folder; None in older lineages."""
    name = lineage.client.get_run(base.run_id).data.tags.get(PREFIX + "base_model") if base.run_id else None
    return None if name is None else str(name)


def is_hub_id(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name) is not None


@plainly
def model_card(lineage: Lineage, version: int, adapter: Adapter | None = None) -> str:
    """The card as text. Raises LineageError for an unknown version, ManifestError if its checkpoint has no manifest."""
    facts = _read(lineage, version)
    header = yaml.safe_dump(_header(facts, adapter), sort_keys=False, allow_unicode=True)
    return f"---\n{header}---\n\n" + "\n".join(_body(facts, adapter)) + "\n"


def _read(lineage: Lineage, version: int) -> _Facts:
    chain = read_ancestry(lineage, version)
    if not chain:
        raise LineageError(f"version {version}", "is not in the registry", "see `skillstack history`")
    newest = chain[-1]
    verdict = _there(newest.verdict, Verdict)
    champion = stored_reports(lineage.state_dir).get(verdict.inputs.get("champion", "")) if verdict else None
    before = _there(champion, EvalReport)
    return _Facts(
        name=lineage.model_name,
        base=original_base(lineage, chain[0]),
        chain=chain,
        made=read_manifest(newest.checkpoint, CheckpointManifest, verify=False),
        report=_there(newest.evaluation, EvalReport),
        before={suite.name: suite for suite in before.suites} if before else {},
        verdict=verdict,
        moves={entry.version: entry for entry in reversed(read_ledger(lineage)) if _promoted(entry)},
    )


def _promoted(entry: LedgerEntry) -> bool:
    return entry.action in MOVES_CHAMPION and entry.action != "rollback"


def _there(folder: Path | None, kind: type[M]) -> M | None:
    return read_manifest(folder, kind, verify=False) if folder is not None and folder.is_dir() else None


def _header(facts: _Facts, adapter: Adapter | None) -> dict[str, Any]:
    """The metadata. `base_model` is there where it is an id of the hub."""
    base = adapter.base if adapter else _HUB_NAMES.get(facts.base or "", facts.base or "")
    tags = [_LIBRARY_TAG, "continual-learning", facts.version.method, *(["lora"] if adapter else [])]
    header: dict[str, Any] = {"library_name": "peft" if adapter else "transformers", "pipeline_tag": "text-generation"}
    header |= {"base_model": base, "base_model_relation": "adapter" if adapter else "finetune"} if is_hub_id(base) else {}
    header |= {"library_tag": _LIBRARY_TAG, "tags": tags}
    results = [_result(suite) for suite in facts.report.suites if math.isfinite(suite.score)] if facts.report else []
    return header | ({"model-index": [{"name": f"{facts.name}-{facts.version.version}", "results": results}]} if results else {})


def _result(suite: SuiteResult) -> dict[str, Any]:
    """One suite in the form of `model-index`: shares of right answers in percent, drift in bits per byte."""
    drift = suite.category == "drift"
    metric = {"type": "bits_per_byte" if drift else "accuracy", "value": float(score_text(suite.score, suite.category))}
    split = "sealed" if suite.sealed else "heldout" if suite.category == "skill" else "test"
    data = {"name": suite.name, "type": suite.name, "split": split, "args": {"items": suite.n, "sha256": suite.suite_sha256}}
    named = {"name": "bits per byte, lower is better" if drift else f"{suite.metric.partition(',')[0]}, %"}
    return {"task": {"type": "text-generation"}, "dataset": data, "metrics": [metric | named]}


def _body(facts: _Facts, adapter: Adapter | None) -> Iterator[str]:
    version = facts.version
    yield f"# {markdown_text(facts.name)}, version {version.version}"
    yield ""
    base = f"`{facts.base}`" if facts.base else "a base model"
    skills = ", ".join(f"**{markdown_text(skill)}**" for skill in facts.skills) or "nothing yet"
    yield f"Round {version.round} of a model that learns one skill per round. It began as {base} and was taught, in this order: {skills}."
    yield from ("", adapter.about) if adapter else ()
    yield from _verdict_part(facts)
    yield from _scores_part(facts)
    yield from _lineage_part(facts)
    yield from _training_part(facts)
    yield from _digests_part(facts)


def _verdict_part(facts: _Facts) -> Iterator[str]:
    yield from ("", "## Verdict", "")
    if facts.verdict is None:
        yield "The base model of the lineage: nothing was trained, so nothing was judged."
        return
    yield f"**{facts.verdict.decision.value}**, by the statistical gate, on {len(facts.verdict.checks)} checks."
    yield ""
    yield from (f"- {markdown_text(reason)}" for reason in facts.verdict.reasons)
    move = facts.moves.get(facts.version.version)
    if move is None:
        yield from ("", "It was not promoted.")
        return
    how = _HOW.get(move.action, "promoted by a person against the verdict of the gate (override)")
    yield from ("", f"{how[0].upper()}{how[1:]} on {move.time:%Y-%m-%d}: {markdown_text(actor_of(move))}, {markdown_text(move.reason)}")


def _scores_part(facts: _Facts) -> Iterator[str]:
    if facts.report is None:
        return
    yield from ("", "## Evaluation", "")
    yield "Scores in % of right answers (drift: bits per byte, lower is better), beside those of the version that this round began from."
    yield "Sealed suites are never read by the gate."
    yield ""
    yield "| suite | category | items | before | this version | change |"
    yield "|---|---|---|---|---|---|"
    for suite in facts.report.suites:
        old = facts.before.get(suite.name)
        same = old is not None and old.suite_sha256 == suite.suite_sha256
        change = change_text(suite.score - old.score, suite.category) if old is not None and same else "-"
        scores = [score_text(old.score if old is not None and same else None, suite.category), score_text(suite.score, suite.category)]
        category = suite.category + (", sealed" if suite.sealed else "")
        yield f"| {markdown_text(suite.name)} | {category} | {suite.n} | {scores[0]} | {scores[1]} | {change} |"


def _lineage_part(facts: _Facts) -> Iterator[str]:
    yield from ("", "## Lineage", "")
    yield "| round | version | skill | method | verdict | by | training rows | data sha256 | model sha256 |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for each in facts.chain:
        drop, move = _there(each.drop, DropManifest), facts.moves.get(each.version)
        trained = read_manifest(each.checkpoint, CheckpointManifest, verify=False).drop_sha256 if each.checkpoint.is_dir() else None
        cells = (
            str(each.round),
            str(each.version),
            markdown_text(each.skill or "base"),
            each.method,
            each.decision or "-",
            markdown_text(actor_of(move)) if move else "-",
            str(drop.rows_clean) if drop else "-",
            f"`{trained}`" if trained else "-",
            f"`{each.model_sha256}`",
        )
        yield f"| {' | '.join(cells)} |"


def _training_part(facts: _Facts) -> Iterator[str]:
    summary, config, passes = facts.made.summary, facts.made.config, passes_made(facts.made)
    if summary is None:
        return
    yield from ("", "## Training", "")
    settings = ("protect", "unfreeze_rank_ratio", "learning_rate", "num_epochs", "effective_batch_size", "seed")
    said = [f"{name} {config[name]}" for name in settings if config.get(name) is not None]
    yield f"Method {facts.made.method}" + (f" ({', '.join(said)})" if said else "") + "."
    yield (
        f"{summary.steps} steps on {summary.examples} examples{f' ({passes:g} passes)' if passes else ''} in {summary.seconds:.0f} s"
        f"{' on ' + summary.device if summary.device else ''}; loss {summary.first_loss:.3f} to {summary.final_loss:.3f} nats per token."
    )
    versions = ", ".join(f"{name} {number}" for name, number in sorted(facts.made.versions.items()))
    yield from (f"Software: {versions}.",) if versions else ()


def _digests_part(facts: _Facts) -> Iterator[str]:
    move = facts.moves.get(facts.version.version)
    yield from ("", "## Evidence", "", "All digests are sha256. `skillstack verify` recomputes them where the lineage is kept.", "")
    rows = [("model", facts.version.model_sha256), ("manifest of the checkpoint", facts.version.manifest_sha256)]
    rows += [("verdict", facts.version.verdict_sha256)] if facts.version.verdict_sha256 else []
    rows += [(f"ledger entry {move.sequence}, which promoted it", move.digest)] if move else []
    yield from (f"- {name}: `{digest}`" for name, digest in rows)
