"""Which suites a round measures: those the config names, ready sets, and the held-out splits of every skill."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import ValidationError

from data_contracts.contract.yaml_lines import require_single_keys
from data_contracts.errors import ConfigError, EvaluationError
from data_contracts.manifests import DropManifest, read_manifest
from data_contracts.rendering.chat import REASONING
from data_contracts.rows.jsonl import is_jsonl, read_objects
from data_contracts.skill_names import MORE_SUFFIX, suite_name
from evals.config import EvaluationConfig, SkillPolicy, SuiteConfig
from evals.suites.items import turn_text

SETS = Path(__file__).parent / "sets"
SEALED_SUFFIX = ".sealed"

# A closed set is only believed where each answer comes back this often on average; otherwise 15 free answers would be "15 classes".
ROWS_PER_CLASS = 3


# A YAML file with these keys at its top is an lm-eval task or group, not a suite set.
_TASK_FILE = re.compile(rb"^(task|group|include|dataset_path)\s*:", re.MULTILINE)


def ready_sets() -> list[str]:
    """Names of the suite sets that come with the package."""
    return sorted(path.stem for path in SETS.glob("*.yaml"))


def resolve_suites(suites: Sequence[SuiteConfig], folder: Path) -> list[SuiteConfig]:
    """Expand suite sets and make every local path absolute (relative to `folder`, the config file's).

    Resolving twice changes nothing. Raises ConfigError for a set that cannot be read and for two suites of one name.
    """
    resolved: list[SuiteConfig] = []
    for suite in suites:
        path = _set_path(suite.source, folder)
        resolved += resolve_suites(_read_set(path), path.parent) if path else [_absolute(suite, folder)]
    repeated = [name for name, count in Counter(suite.name for suite in resolved).items() if count > 1]
    if repeated:
        raise ConfigError("evaluation.suites", f"names {repeated} more than once", "give every suite its own name")
    return resolved


def _set_path(source: str, folder: Path) -> Path | None:
    if source in ready_sets():
        return SETS / f"{source}.yaml"
    if not source.endswith((".yaml", ".yml")):
        return None
    path = folder / source
    return None if path.is_file() and _TASK_FILE.search(path.read_bytes()) else path  # lm-eval's own kind of file is one suite


def _read_set(path: Path) -> list[SuiteConfig]:
    """A set is a YAML mapping with a list `suites`, each the fields of SuiteConfig."""
    try:
        text = path.read_text(encoding="utf-8")
        require_single_keys(yaml.compose(text), str(path))
        content = yaml.safe_load(text)
        return [SuiteConfig.model_validate(entry) for entry in content["suites"]]
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}", f"ready sets are {ready_sets()}") from error
    except (yaml.YAMLError, KeyError, TypeError, ValidationError) as error:
        raise ConfigError(
            str(path), f"is not a suite set: {' '.join(str(error).split())[:300]}", "see evals/suites/sets for examples"
        ) from error


def _absolute(suite: SuiteConfig, folder: Path) -> SuiteConfig:
    def anchored(path: str) -> str:
        return str((folder / path).absolute()) if is_jsonl(path) or path.endswith((".yaml", ".yml")) else path

    data = {split: anchored(path) for split, path in suite.data.items()}
    return suite.model_copy(update={"source": anchored(suite.source), "few_shot_source": anchored(suite.few_shot_source), "data": data})


def skill_suites(skill: str, drop_folder: Path, config: EvaluationConfig, *, learned: bool = True) -> list[SuiteConfig]:
    """The suites that a validated drop brings: its gate split `<skill>` and its sealed split `<skill>.sealed`, as far as it has them; where
    the drop refreshed the skill, `<skill>.2` and `<skill>.2.sealed`, beside those of the drop that taught it first.

    A skill that is `learned` already may have further items, the suite `<skill>.more`.
    Raises EvaluationError where the drop has no held-out rows at all: a skill that cannot be measured cannot be defended.
    """
    manifest = read_manifest(drop_folder, DropManifest)
    policy, name = config.policy_for(skill), suite_name(skill, manifest.teaching)
    paths = {role: drop_folder / manifest.files[role].path for role in ("clean", "heldout", "sealed") if role in manifest.files}
    splits = [role for role in ("heldout", "sealed") if role in paths and _has_rows(paths[role])]
    if "heldout" not in splits:
        raise EvaluationError(
            f"{skill}: {drop_folder}", "has no held-out items", "raise contract.heldout_fraction, or supply held-out items"
        )
    choices = _closed_set([paths[role] for role in ("clean", *splits) if role in paths], policy)
    suites = [_skill_suite(name, paths[role], policy, choices, sealed=role == "sealed") for role in splits]
    if not learned:  # no model that knows the skill was there to draw its items
        suites = [suite.model_copy(update={"draw": "even"}) for suite in suites]
    if learned and policy.more_items is not None and manifest.teaching == 1:
        suites.append(_skill_suite(skill + MORE_SUFFIX, policy.more_items, policy, choices, sealed=False))
    return suites


def _skill_suite(name: str, path: Path, policy: SkillPolicy, choices: tuple[str, ...], *, sealed: bool) -> SuiteConfig:
    free = policy.metric == "exact_match" or not choices or not has_chats(path)
    return SuiteConfig(
        name=name + (SEALED_SUFFIX if sealed else ""),
        category="skill",
        source=str(path.absolute()),
        metric="auto" if policy.metric == "auto" else policy.metric,
        choices=() if free else choices,
        chat=True,
        sealed=sealed,
        items=policy.items,
        draw="even" if free or sealed else policy.draw,
        margin=policy.margin,
        answer_pattern=policy.answer_pattern,
        ignore_pattern=policy.ignore_pattern,
        ignore_case=policy.ignore_case,
        score_reasoning=policy.score_reasoning,
        max_new_tokens=policy.max_new_tokens,
    )


def _closed_set(paths: Sequence[Path], policy: SkillPolicy) -> tuple[str, ...]:
    """The distinct last assistant turns of all splits, without white space around them, sorted.

    Empty where they are too many or too rarely repeated, or where a turn is more than its text (a call, or reasoning that comes first):
    then the answer has to be generated.
    """
    counts: Counter[str] = Counter()
    for path in paths:
        for _, row in read_objects(path, error=EvaluationError):
            if not row.get("messages"):
                continue
            last = row["messages"][-1]
            if any(last.get(name) for name in ("tool_calls", *REASONING)):
                return ()
            counts[turn_text(last).strip()] += 1
            if len(counts) > policy.max_classes:  # they only grow, and a learned drop may have 200,000 rows
                return ()
    few = 2 <= len(counts) <= policy.max_classes and len(counts) * ROWS_PER_CLASS <= counts.total()
    return tuple(sorted(counts)) if few and all(counts) else ()


def has_chats(path: Path) -> bool:
    """Whether any row of a file is a conversation."""
    return any("messages" in row for _, row in read_objects(path, error=EvaluationError))


def _has_rows(path: Path) -> bool:
    return any(True for _ in read_objects(path, error=EvaluationError))
