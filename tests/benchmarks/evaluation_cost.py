"""What an evaluation costs: items per second against lm-eval run by hand, and a round's cost as skills accumulate.

    python tests/benchmarks/evaluation_cost.py [--model flows/base_models/nano] [--items 200] [--rounds 15] [--out PAGE]

Times are CPU seconds of one thread (a busy machine does not change them much); both sides use the same loaded weights, the same items and
float32. lm-eval by hand is `simple_evaluate` over a JSON dataset with HFLM at its best of two batch sizes.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from safetensors.torch import load_file, save_file

from evals.config import EvaluationConfig, ModelUse, SuiteConfig
from evals.harness.run import evaluate_checkpoint
from evals.harness.session import Session
from evals.suites.items import load_items
from flows.demo.skills import BASE_SKILLS, NEW_SKILLS, Skill, pairs
from flows.demo.text import TOPICS

BEGIN, END = "<!-- numbers: begin -->", "<!-- numbers: end -->"
BATCHES = (16, 64)


@dataclass(frozen=True)
class Race:
    """One suite, measured twice."""

    suite: str
    items: int
    ours: float
    by_hand: float
    difference: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("flows/base_models/nano"))
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        races = race_all(options.model, options.items, Path(folder))
        costs = cost_by_round(options.model, options.items, options.rounds, Path(folder))
    numbers = "\n\n".join([race_table(races), cost_table(costs)])
    print(numbers)
    if options.out:
        text = options.out.read_text(encoding="utf-8")
        head, tail = text.split(BEGIN)[0], text.split(END)[1]
        options.out.write_text(f"{head}{BEGIN}\n\n{numbers}\n\n{END}{tail}", encoding="utf-8")


# ------------------------------------------------------------------------------------------------ items per second


def race_all(model: Path, items: int, folder: Path) -> list[Race]:
    config = EvaluationConfig(device="cpu", num_threads=1)
    session = Session(model, config, ModelUse(), device="cpu", dtype="float32")
    answers = [name for name in ("reverse", "add") if name in BASE_SKILLS]
    suites = [topic_suite(folder, items), sentence_suite(folder, items), text_suite(folder, items)]
    suites += [answer_suite(BASE_SKILLS[name], folder, items) for name in answers]
    warm_up(session, suites[0])
    return [race(session, suite, folder) for suite in suites]


def race(session: Session, suite: SuiteConfig, folder: Path) -> Race:
    items = load_items(suite)
    ours, rows = timed(lambda: session.score(suite, items, lambda _: None))
    task = by_hand(suite, session._renderer, folder)
    metric = {"choice": "acc,none", "answer": "exact_match,none", "text": "bits_per_byte,none"}[items[0].kind]
    best, theirs = float("inf"), 0.0
    for batch in BATCHES:
        lm = HFLM(pretrained=session._lm.model, tokenizer=session._tokenizer, batch_size=batch)
        seconds, outcome = timed(
            lambda lm=lm: simple_evaluate(lm, tasks=[task], task_manager=TaskManager(include_defaults=False), bootstrap_iters=0)
        )
        best, theirs = min(best, seconds), outcome["results"][task["task"]][metric]
    mean = float((rows["score"] * rows["weight"]).sum() / rows["weight"].sum())
    return Race(suite.name, len(items), ours, best, abs(mean - theirs))


def by_hand(suite: SuiteConfig, renderer: Any, folder: Path) -> dict[str, Any]:
    """The same items as a user of lm-eval would write them: one JSON file and one task."""
    items = load_items(suite)
    kind = items[0].kind
    prompts = [renderer.context({"messages": item.turns}, "row")[1] if suite.chat else item.prompt for item in items]
    keys = ("text", "choices", "gold", "answer")
    rows = [{"prompt": prompt} | {key: getattr(item, key) for key in keys} for prompt, item in zip(prompts, items, strict=True)]
    data = folder / f"by-hand-{suite.name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    task: dict[str, Any] = {
        "task": f"{suite.name}_by_hand",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(folder / "arrow")},
        "test_split": "test",
        "target_delimiter": "" if suite.chat else " ",
        "doc_to_text": "prompt",
    }
    if kind == "choice":
        return task | {"output_type": "multiple_choice", "doc_to_choice": "choices", "doc_to_target": "gold"}
    if kind == "text":
        metric = {"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False}
        return task | {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "text", "metric_list": [metric]}
    metric = {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}
    generation = {"until": list(suite.stops), "max_gen_toks": suite.generation_limit, "do_sample": False}
    return task | {"output_type": "generate_until", "doc_to_target": "answer", "generation_kwargs": generation, "metric_list": [metric]}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def warm_up(session: Session, suite: SuiteConfig) -> None:
    session.score(suite, load_items(suite)[:4], lambda _: None)


# ------------------------------------------------------------------------------------------------ suites


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def draw(skill: Skill, count: int, seed: int) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    source = pairs(skill, random.Random(seed), heldout=True)
    while len(found) < count:
        prompt, answer = next(source)
        found[prompt] = answer
    return list(found.items())


def answer_suite(skill: Skill, folder: Path, count: int, *, name: str = "", seed: int = 1) -> SuiteConfig:
    rows = [{"prompt": prompt, "answer": answer} for prompt, answer in draw(skill, count, seed)]
    name = name or f"{skill.name} (exact match)".split()[0]
    return SuiteConfig(name=name, category="skill", source=write(folder / f"{name}.jsonl", rows), chat=True, max_new_tokens=16)


def topic_suite(folder: Path, count: int) -> SuiteConfig:
    """Multiple choice from a closed set of labels of several tokens, as a classification skill."""
    labels = sorted({f"the topic is {topic}" for topic in TOPICS})
    found = draw(BASE_SKILLS["topic"], count, 2)
    rows = [{"prompt": prompt, "choices": labels, "gold": number % len(labels)} for number, (prompt, _) in enumerate(found)]
    return SuiteConfig(name="topic-choice", source=write(folder / "topic-choice.jsonl", rows), chat=True)


def sentence_suite(folder: Path, count: int) -> SuiteConfig:
    """Multiple choice between two whole sentences, as PIQA: little context to share."""
    prompts = [prompt for prompt, _ in draw(BASE_SKILLS["topic"], 3 * count, 3)]
    rows = [{"prompt": prompts[3 * n], "choices": prompts[3 * n + 1 : 3 * n + 3], "gold": n % 2} for n in range(count)]
    return SuiteConfig(name="sentence-choice", source=write(folder / "sentence-choice.jsonl", rows))


def text_suite(folder: Path, count: int) -> SuiteConfig:
    prompts = [prompt for prompt, _ in draw(BASE_SKILLS["topic"], count * 2, 4)]
    rng = random.Random(5)
    rows = [{"text": f"{n}: " + " ".join(rng.choices(prompts, k=rng.randint(1, 8)))} for n in range(count)]
    return SuiteConfig(name="text-bits-per-byte", category="drift", source=write(folder / "text.jsonl", rows))


# ------------------------------------------------------------------------------------------------ rounds


@dataclass(frozen=True)
class RoundCost:
    """CPU seconds of one round's evaluations, as flows.round.reports asks for them."""

    round: int
    suites: int
    with_cache: float
    without_cache: float
    whole_matrix: float


def cost_by_round(model: Path, items: int, rounds: int, folder: Path) -> list[RoundCost]:
    """Round t has t skills: candidate, champion and base answer all of them, the learner of each earlier one answers its own.

    With the cache that is measured. Without it, it is counted from one measured evaluation of the candidate on all suites; so is the
    whole matrix, every version on every suite.
    """
    skills = [*BASE_SKILLS.values(), *NEW_SKILLS.values()]
    suites = [answer_suite(skills[n % len(skills)], folder, items, name=f"skill-{n + 1}", seed=100 + n) for n in range(rounds)]
    models = [changed_copy(model, folder / f"model-{n}", seed=n) for n in range(rounds + 1)]
    config = EvaluationConfig(device="cpu", num_threads=1)

    def evaluate(which: int, chosen: list[SuiteConfig], cache: str) -> None:
        evaluate_checkpoint(models[which], chosen, folder / "out", config=config, cache_dir=folder / cache)

    costs = []
    for number in range(1, rounds + 1):
        so_far = suites[:number]
        started = time.process_time()
        for which in sorted({number, number - 1, 0}, reverse=True):
            evaluate(which, so_far, "cache")
        for learner in range(1, number):
            evaluate(learner, [suites[learner - 1]], "cache")
        cached = time.process_time() - started
        started = time.process_time()
        evaluate(number, so_far, "fresh")
        one = time.process_time() - started
        shutil.rmtree(folder / "fresh")
        whole = len({number, number - 1, 0})
        costs.append(RoundCost(number, number, cached, one * (whole + (number - 1) / number), one * (number + 1)))
    return costs


def changed_copy(model: Path, folder: Path, seed: int) -> Path:
    """The same model with weights that differ in the last digits: another checkpoint to the cache."""
    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    name = sorted(weights)[0]
    generator = torch.Generator().manual_seed(seed)
    weights[name] = weights[name] * (1 + 1e-6 * torch.randn(weights[name].shape, generator=generator).to(weights[name].dtype))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


# ------------------------------------------------------------------------------------------------ tables


def race_table(races: list[Race]) -> str:
    lines = [
        "| suite | items | items/s | lm-eval by hand, items/s | times faster | difference of the aggregate |",
        "|---|---|---|---|---|---|",
    ]
    for race in races:
        rates = f"{race.items / race.ours:.0f} | {race.items / race.by_hand:.0f} | {race.by_hand / race.ours:.1f}"
        lines.append(f"| {race.suite} | {race.items} | {rates} | {race.difference:.0e} |")
    return "\n".join(lines)


def cost_table(costs: list[RoundCost]) -> str:
    lines = ["| round | suites | with the cache | the same without | every version on every suite |", "|---|---|---|---|---|"]
    for cost in costs:
        seconds = f"{cost.with_cache:.1f} | {cost.without_cache:.1f} | {cost.whole_matrix:.1f}"
        lines.append(f"| {cost.round} | {cost.suites} | {seconds} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
