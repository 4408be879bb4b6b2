"""Train nano, the included model, from scratch:  python -m flows.demo.train_nano --out flows/base_models/nano

About a million parameters of the Llama architecture, trained on a mixture of small skills and plain sentences from this project, in twenty
minutes on two cores. Beside the model it writes nano.json: the command, the seed, the versions and the measured scores.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import platform
import random
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from flows.demo.skills import BASE_SKILLS, FIND, PRACTICE, Skill, pairs
from flows.demo.spare_words import spread_spare_words
from flows.demo.text import passage
from flows.demo.tokenizer import END, MAX_LENGTH, build_tokenizer

# Examples of each kind per step. Skills that need several operations get more.
MIXTURE = {"reverse": 32, "sort": 32, "add": 36, "find": 28, "larger": 20, "copy": 12, "upper": 12, "topic": 10, "practice": 18, "text": 20}
TEXT_WEIGHT = 0.25  # plain text cannot be predicted exactly, so its tokens weigh less than those of the answers
MICROBATCHES = 4  # each step is split by length, to reduce padding
SCORED_ITEMS = 400  # held-out items per skill
CLAIMED = 0.9  # exact match from which a skill counts as learned
IGNORED = -100


@dataclass(frozen=True)
class Recipe:
    """All settings that determine the weights."""

    seed: int = 17
    steps: int = 1600
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    weight_decay: float = 0.1
    hidden_size: int = 160
    layers: int = 3
    heads: int = 5
    intermediate_size: int = 416
    threads: int = 1


@dataclass(frozen=True)
class Example:
    """Token ids, and the first of them that the model must predict."""

    ids: tuple[int, ...]
    first_target: int
    weight: float


def build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        intermediate_size=recipe.intermediate_size,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config)


def encode(tokenizer: PreTrainedTokenizerFast, rows: Sequence[tuple[str, str]], weight: float) -> list[Example]:
    """Tokens of (given, predicted) strings; only the second string is predicted."""
    given = tokenizer([head for head, _ in rows]).input_ids
    predicted = tokenizer([tail for _, tail in rows]).input_ids
    return [Example((*head, *tail), len(head), weight) for head, tail in zip(given, predicted, strict=True)]


def chat_row(prompt: str, answer: str) -> tuple[str, str]:
    """The chat template's text of one turn, without the time of a template engine per row (a test compares the two)."""
    return f"<|user|>{prompt}{END}<|assistant|>", answer + END


def training_steps(tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> Iterator[list[Example]]:
    """The mixture, one step at a time, the same for the same seed."""
    rng = random.Random(recipe.seed)
    learned = {**BASE_SKILLS, PRACTICE.name: PRACTICE, FIND.name: FIND}
    sources = {name: pairs(skill, rng, heldout=False) for name, skill in learned.items()}
    while True:
        chats = [chat_row(*next(sources[name])) for name, count in MIXTURE.items() if name in sources for _ in range(count)]
        texts = [(END, passage(rng) + END) for _ in range(MIXTURE["text"])]  # after an end token, as for the measurement of bits per byte
        step = encode(tokenizer, chats, 1.0) + encode(tokenizer, texts, TEXT_WEIGHT)
        yield sorted(step, key=lambda example: len(example.ids))


def pad_batch(examples: Sequence[Example], pad: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(ids, targets, weights), each batch x length; padding comes last, so causal attention never sees it."""
    length = max(len(example.ids) for example in examples)
    ids = torch.full((len(examples), length), pad)
    targets = torch.full((len(examples), length), IGNORED)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        targets[row, example.first_target : len(example.ids)] = torch.tensor(example.ids[example.first_target :])
    weights = torch.tensor([[example.weight] for example in examples]).expand(-1, length)
    return ids, targets, weights


def weighted_loss(model: LlamaForCausalLM, batch: Sequence[Example], pad: int) -> torch.Tensor:
    """Sum over the predicted tokens of weight times nats; logits are computed for those tokens only."""
    ids, targets, weights = pad_batch(batch, pad)
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
    wanted = targets[:, 1:] != IGNORED
    logits = model.lm_head(hidden[wanted])
    nats = torch.nn.functional.cross_entropy(logits, targets[:, 1:][wanted], reduction="none")
    return (nats * weights[:, 1:][wanted]).sum()


def learning_rate(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then a cosine to zero."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    share = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


def fit(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> float:
    """Train in place; returns the last step's loss in weighted nats per token."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay, fused=True
    )
    data = training_steps(tokenizer, recipe)
    loss = math.nan
    bar = tqdm(range(recipe.steps), desc="nano", unit="step", mininterval=10)
    for step in bar:
        examples = next(data)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, recipe)
        total = sum(example.weight * (len(example.ids) - example.first_target) for example in examples)
        size = math.ceil(len(examples) / MICROBATCHES)
        loss = 0.0
        for start in range(0, len(examples), size):
            part = weighted_loss(model, examples[start : start + size], tokenizer.pad_token_id) / total
            torch.autograd.backward(part)
            loss += float(part)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        bar.set_postfix(loss=f"{loss:.3f}")
    return loss


@torch.inference_mode()
def exact_match(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, items: Sequence[tuple[str, str]]) -> float:
    """Share of prompts whose greedy completion equals the answer exactly."""
    model.eval()
    chats = [[{"role": "user", "content": prompt}] for prompt, _ in items]
    heads = [tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False) for chat in chats]
    right = 0
    for start in range(0, len(items), 64):
        batch = tokenizer(heads[start : start + 64], return_tensors="pt", padding=True, padding_side="left")
        made = model.generate(**batch, max_new_tokens=16, do_sample=False)
        answers = tokenizer.batch_decode(made[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        right += sum(answer == gold for answer, (_, gold) in zip(answers, items[start : start + 64], strict=True))
    return right / len(items)


def score_skills(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, skills: Iterable[Skill], *, items: int, seed: int = 1
) -> dict[str, float]:
    """Exact match on held-out items of each skill."""
    scores = {}
    for skill in skills:
        source = pairs(skill, random.Random(seed), heldout=True)
        chosen = list(dict.fromkeys(next(source) for _ in range(2 * items)))[:items]
        scores[skill.name] = exact_match(model, tokenizer, chosen)
    return scores


def describe(recipe: Recipe, scores: dict[str, float], loss: float, seconds: float) -> dict[str, Any]:
    """The content of nano.json: how the model was trained, and its scores. Skills below CLAIMED are listed separately."""
    return {
        "command": "python -m flows.demo.train_nano " + " ".join(sys.argv[1:]),
        "recipe": asdict(recipe),
        "mixture": MIXTURE,
        "final_loss": round(loss, 4),
        "heldout_items": SCORED_ITEMS,
        "heldout_exact_match": {name: score for name, score in scores.items() if score >= CLAIMED},
        "not_learned": {name: score for name, score in scores.items() if not score >= CLAIMED},
        "seconds": round(seconds),
        "cores": os.cpu_count(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--threads", type=int, default=Recipe.threads)
    given = parser.parse_args(arguments)
    recipe = Recipe(seed=given.seed, steps=given.steps, threads=given.threads)
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    started = time.monotonic()
    tokenizer = build_tokenizer()
    model = build_model(recipe, tokenizer)
    loss = fit(model, tokenizer, recipe)
    sample = [example.ids for step in itertools.islice(training_steps(tokenizer, recipe), 30) for example in step]
    spread_spare_words(model, sample, recipe.seed)
    seconds = time.monotonic() - started
    scores = score_skills(model, tokenizer, [*BASE_SKILLS.values(), FIND], items=SCORED_ITEMS)
    model.save_pretrained(given.out)
    tokenizer.save_pretrained(given.out)
    card = describe(recipe, scores, loss, seconds)
    (given.out / "nano.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(scores, indent=2))


if __name__ == "__main__":
    main()
