"""Stored rounds, judged by earlier rules and by today's: verdict by verdict, and why they differ.

    python tests/benchmarks/gate/stored/gate_stored.py [--rules 3] [--continual docs/results/continual.jsonl] [STATE_DIR ...]

The rounds of the continual benchmark (SmolLM2-135M, thirteen tasks) are judged on what they have: the earlier tasks as skills and PIQA as a
general suite, against the round before and against where each was learned; the new skill, drift and safety are left aside. In a state
directory every verdict is judged anew on the reports that it names, all of them at the first look. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2] / "continual"))

import numpy as np
from continual_figures import TaskSequence, from_hex, longest_runs

from data_contracts.digests import file_digest, text_digest
from data_contracts.manifests import Category, CheckOutcome, EvalReport, SuiteResult, Verdict, read_manifest
from evals.gate.decide import GateEvidence, decide
from evals.gate.policy import GatePolicy
from evals.gate.rules3 import decide as rules3
from evals.gate.rules3.policy import GatePolicy as PolicyOfRules3
from evals.gate.rules4 import decide as rules4
from evals.gate.rules4.policy import GatePolicy as PolicyOfRules4
from evals.items import Evaluation, SuiteItems, load_evaluation

Judged = tuple[str, Verdict, Verdict]
"""(name of the round, by the earlier rules, by today's)"""
EARLIER: dict[int, tuple[Any, Any]] = {3: (rules3, PolicyOfRules3), 4: (rules4, PolicyOfRules4)}


def evaluation(model: str, scores: Mapping[str, tuple[Category, Sequence[float]]]) -> Evaluation:
    suites = {}
    for name, (category, values) in scores.items():
        score, ids = np.asarray(values, dtype=np.float64), tuple(map(str, range(len(values))))
        result = SuiteResult(
            name=name, category=category, metric="acc", higher_is_better=True, n=len(ids), score=float(score.mean()),
            suite_sha256=text_digest(name), seconds=0,
        )  # fmt: skip
        suites[name] = SuiteItems(result, ids, ids, score, np.full(len(ids), np.nan), np.ones(len(ids)), (None,) * len(ids), ids, ids, ids)
    report = EvalReport(model_sha256=text_digest(model), settings={}, settings_sha256="0", suites=tuple(s.result for s in suites.values()))
    return Evaluation(report, suites)


def judge(name: str, evidence: GateEvidence, policy: Mapping[str, Any], rules: int) -> Judged:
    earlier, its_policy = EARLIER[rules]
    shared = {key: value for key, value in policy.items() if key != "rules" and key in its_policy.model_fields}
    old = earlier.GateEvidence(**{field: getattr(evidence, field) for field in earlier.GateEvidence.__dataclass_fields__})
    return name, earlier.decide(old, its_policy.model_validate(shared)), decide(evidence, GatePolicy.model_validate(shared))


def of_the_benchmark(path: Path, rules: int) -> Iterator[Judged]:
    lines = longest_runs([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])
    [base] = [line for line in lines if line["kind"] == "base"]
    groups: dict[tuple[str, int], list[Any]] = defaultdict(list)
    for line in lines:
        if line["kind"] == "main":
            groups[line["method"], line["seed"]].append(line)
    policy = {"accept_unmeasured": ("general", "safety", "drift")}
    for (method, seed), rounds in groups.items():
        sequence = TaskSequence(rounds, base)
        for number in range(2, len(rounds) + 1):
            earlier = sequence.tasks[: number - 1]

            def after(at: int, names: Sequence[str], sequence: TaskSequence = sequence) -> Evaluation:
                piqa = sequence.base["piqa"] if at == 0 else sequence.lines[at - 1].get("piqa")
                scores: dict[str, tuple[Category, Sequence[float]]] = {name: ("skill", sequence.right(name, at)) for name in names}
                if piqa:
                    scores["piqa"] = ("general", from_hex(piqa, sequence.base["piqa_items"]))
                return evaluation(f"round {at}", scores)

            candidate, champion = after(number, earlier), after(number - 1, earlier)
            if candidate.suites.keys() != champion.suites.keys():
                continue
            anchors = {name: after(at, [name]) for at, name in enumerate(earlier, start=1)}
            anchors |= {"piqa": after(0, [])} if "piqa" in candidate.suites else {}
            yield judge(f"{method}, seed {seed}, round {number}", GateEvidence(candidate, champion, anchors, None), policy, rules)


def of_a_state(folder: Path, rules: int) -> Iterator[Judged]:
    reports = {file_digest(path): path.parent for path in folder.glob("stages/evaluate/*/manifest.json")}
    for path in sorted(folder.glob("stages/decide/*/manifest.json")):
        stored = read_manifest(path.parent, Verdict)
        loaded = {role: load_evaluation(reports[digest]) for role, digest in stored.inputs.items() if digest in reports}
        if loaded.keys() != stored.inputs.keys():
            continue
        evidence = GateEvidence(
            candidate=loaded["candidate"],
            champion=loaded["champion"],
            anchors={role.removeprefix("anchor:"): each for role, each in loaded.items() if role.startswith("anchor:")},
            new_skill=stored.new_skill,
            attempts=1,
            bootstrap=stored.bootstrap,
            registered={role.removeprefix("registered:"): each for role, each in loaded.items() if role.startswith("registered:")},
        )
        yield judge(f"{stored.new_skill} ({path.parent.name[:8]})", evidence, stored.policy, rules)


def why(old: Verdict, new: Verdict) -> list[str]:
    """The checks that are answered otherwise."""

    def by_name(verdict: Verdict) -> dict[tuple[str, str], CheckOutcome]:
        return {(check.check, check.subject): check for check in verdict.checks}

    before, after = by_name(old), by_name(new)
    found = []
    for key in sorted(before.keys() & after.keys()):
        mine, theirs = after[key], before[key]
        if mine.outcome != theirs.outcome:
            p = f"p {theirs.p_value:.3f} → {mine.p_value:.3f}" if mine.p_value is not None and theirs.p_value is not None else ""
            change = f"change {100 * (mine.effect or 0):+.1f} points, {p}, level {(1 - (mine.confidence or 1)) / 2:.3f}"
            found.append(f"{key[0]} of {key[1]}: {theirs.outcome} → {mine.outcome} ({change})")
    return found


def show(title: str, judged: Sequence[Judged], rules: int) -> list[str]:
    counts = Counter((old.decision.value, new.decision.value) for _, old, new in judged)
    same = sum(old.model_copy(update={"policy": new.policy}) == new for _, old, new in judged)
    lines = [f"**{title}**: {len(judged)} rounds, {same} of them equal in every check and sentence.", ""]
    lines += [f"| rules {rules} | today's rules | rounds |", "|---|---|---|"]
    lines += [f"| {old} | {new} | {count} |" for (old, new), count in sorted(counts.items())]
    differ = [(name, old, new, why(old, new)) for name, old, new in judged]
    said = [
        f"- {name} ({old.decision.value} → {new.decision.value}): {'; '.join(reasons)}." for name, old, new, reasons in differ if reasons
    ]
    lines += ["", *said]
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--continual", type=Path, default=Path("docs/results/continual.jsonl"))
    parser.add_argument("--rules", type=int, default=3, choices=sorted(EARLIER), help="the earlier rules")
    parser.add_argument("states", type=Path, nargs="*")
    options = parser.parse_args()
    print("\n".join(show("thirteen tasks on SmolLM2-135M", list(of_the_benchmark(options.continual, options.rules)), options.rules)))
    for state in options.states:
        print("\n".join(show(state.name, list(of_a_state(state, options.rules)), options.rules)))


if __name__ == "__main__":
    main()
