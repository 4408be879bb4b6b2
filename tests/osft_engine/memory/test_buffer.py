"""The buffer keeps a uniform sample of the rows of all rounds, in the forms that training reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM

from data_contracts.rendering import TextRenderer
from osft_engine.config import TrainConfig
from osft_engine.memory.buffer import buffer_examples, extend_buffer, load_buffer, save_buffer
from osft_engine.run import TrainRun
from osft_engine.train import train_candidate

MakeRun = Callable[..., TrainRun]
PROCESSED = [{"input_ids": [65, 66 + n, 67, 70 + n], "labels": [-100, -100, 67, 70 + n]} for n in range(8)]


def test_the_buffer_keeps_processed_rows_and_what_it_kept_before_stays_the_same(tmp_path: Path) -> None:
    chat: dict[str, Any] = {"messages": [{"role": "user", "content": "a"}], "source": "x", "input_ids": [1]}
    rows = extend_buffer((), [*PROCESSED, *PROCESSED, chat, {"text": "b", "n": 1}], skill="sums", size=100, seed=3)
    save_buffer(rows, tmp_path / "buffer.jsonl")
    assert load_buffer(tmp_path / "buffer.jsonl") == rows
    kept = [each.row for each in rows]
    assert len(kept) == len(PROCESSED) + 2
    assert all(row in kept for row in [*PROCESSED, {"messages": chat["messages"]}, {"text": "b"}])
    (tmp_path / "old.jsonl").write_text('{"key": "k", "skill": "sums", "row": {}}\n')
    assert load_buffer(tmp_path / "old.jsonl") == ()


def test_processed_rows_are_replayed_in_the_next_round(make_run: MakeRun, make_drop: Callable[..., Path]) -> None:
    first = make_run("first", make_drop(PROCESSED, "ids"))
    train_candidate(first)
    assert len(load_buffer(first.out_dir / "buffer.jsonl")) == len(PROCESSED)
    second = make_run("second", make_drop(4, "chat"), first.out_dir / "model", first.out_dir, replay_share=0.5)
    summary = train_candidate(second).summary
    assert summary is not None
    assert summary.examples == 8  # four of the drop, four of the buffer
    assert AutoModelForCausalLM.from_pretrained(second.out_dir / "model") is not None


def test_the_buffer_is_the_same_whatever_the_order_and_a_sample_of_everything_offered() -> None:
    rows = [{"text": f"row {number}"} for number in range(400)]
    at_once = extend_buffer((), rows, skill="a", size=50, seed=1)
    in_parts = extend_buffer(extend_buffer((), rows[200:], skill="a", size=50, seed=1), rows[:200], skill="a", size=50, seed=1)
    assert at_once == in_parts
    first_half = sum(int(each.row["text"].split()[1]) < 200 for each in at_once)
    assert 10 <= first_half <= 40, "four standard deviations of a fair half"
    assert extend_buffer((), rows, skill="a", size=50, seed=2) != at_once


def test_a_row_keeps_the_skill_that_offered_it_first() -> None:
    rows = extend_buffer((), [{"text": "same"}], skill="first", size=5, seed=1)
    assert [each.skill for each in extend_buffer(rows, [{"text": "same"}, {"text": "new"}], skill="second", size=5, seed=1)] in (
        ["first", "second"],
        ["second", "first"],
    )


def test_examples_of_the_buffer_fit_and_have_something_to_learn(tokenizer) -> None:
    kept = [{"text": "short"}, {"text": "a very long document " * 30}, {"messages": [{"role": "user", "content": "only a question"}]}]
    rows = extend_buffer((), kept, skill="a", size=5, seed=1)
    examples = buffer_examples(rows, TextRenderer(tokenizer), TrainConfig(max_seq_len=64))
    assert examples
    assert all(each.loss_tokens and len(each.ids) <= 64 for each in examples)
    assert not any("only a question" in tokenizer.decode(each.ids) for each in examples)
