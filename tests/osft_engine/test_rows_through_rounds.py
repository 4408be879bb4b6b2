"""Rows of every kind on their way through `osft()`, training, the buffer and a second round: the text that is trained on is the one given.

What the trainer is handed is compared with plain `apply_chat_template` and the tokenizer.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from data_contracts.errors import TrainingError
from osft_engine import osft, train
from osft_engine.data.examples import Example
from osft_engine.memory.buffer import load_buffer
from osft_engine.run import TrainRun
from osft_engine.train import train_candidate

MakeRun = Callable[..., TrainRun]
MakeDrop = Callable[..., Path]

TEMPLATE = (
    "{% if tools %}<|im_start|>tools\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['tool_calls'] %}{{ m['tool_calls'][0]['function'] | tojson }}{% else %}{{ m['content'] }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if mood %}<{{ mood }}>\n{% endif %}{% endif %}"
)
TOOLS = [{"type": "function", "function": {"name": "order"}}]
CALL = {"id": "c1", "type": "function", "function": {"name": "order", "arguments": {"id": "A7"}}}
WITH_TOOLS = {
    "messages": [
        {"role": "user", "content": "where is A7?"},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "name": "order", "content": "sent"},
        {"role": "assistant", "content": "On its way."},
    ],
    "tools": TOOLS,
}
UNMASKED = {"messages": [{"role": "user", "content": "the rule?"}, {"role": "assistant", "content": "sign it"}], "unmask": True}
PLAIN = {"messages": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]}
END = 257


@pytest.fixture
def handed_over(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[Example]]:
    """The examples of every training, as its trainer is handed them."""
    seen: list[Sequence[Example]] = []

    class Recording(train.Trainer):
        def __init__(self, attachment: Any, examples: Sequence[Example], *args: Any, **settings: Any) -> None:
            super().__init__(attachment, examples, *args, **settings)
            seen.append(self.examples)

    monkeypatch.setattr(train, "Trainer", Recording)
    return seen


@pytest.fixture
def talking_base(base_folder: Path, tmp_path: Path) -> Path:
    """The tiny model with a template that prints tools and calls, and a mood where it is given one."""
    folder = tmp_path / "talking"
    shutil.copytree(base_folder, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def _write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def _printed(tokenizer: Any, row: dict[str, Any], **variables: Any) -> list[int]:
    text = tokenizer.apply_chat_template(row["messages"], tools=row.get("tools"), tokenize=False, **variables)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _answers(tokenizer: Any, ids: Sequence[int]) -> list[bool]:
    """What counts in the loss, found in the ids: everything behind `<|im_start|>assistant\\n` up to and including the end of the turn."""
    head = tokenizer("<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
    learn, inside = [False] * len(ids), False
    for index in range(len(ids)):
        inside = inside or list(ids[index - len(head) : index]) == head
        learn[index] = inside
        inside = inside and ids[index] != END
    return learn


def _without_tail(example: Example) -> tuple[list[int], list[bool]]:
    """Ids and flags up to the last end of a turn: a line break behind it is neither learned nor read by anything."""
    last = max(index for index, token in enumerate(example.ids) if token == END) + 1
    return list(example.ids[:last]), list(example.learn[:last])


def test_tools_and_unmask_reach_the_trainer_through_osft_and_through_the_buffer_of_a_second_round(
    talking_base: Path, tmp_path: Path, make_run: MakeRun, make_drop: MakeDrop, handed_over: list[Sequence[Example]]
) -> None:
    asked = AutoTokenizer.from_pretrained(talking_base)
    rows = [WITH_TOOLS, UNMASKED, PLAIN]
    june = tmp_path / "june"
    osft(talking_base, _write(tmp_path / "june.jsonl", rows), june, protect="weights", effective_batch_size=4)
    wanted = []
    for row in rows:
        ids = _printed(asked, row)[:-1]  # less the line break behind the last turn
        wanted.append((ids, [False, *[True] * (len(ids) - 1)] if row.get("unmask") else _answers(asked, ids)))
    assert asked.decode([token for token, learn in zip(*wanted[0], strict=True) if learn]).endswith("}<|im_end|>On its way.<|im_end|>")
    assert "order" in asked.decode(wanted[0][0][:60]), "the tools are not in the context"
    [first] = handed_over
    assert [_without_tail(each) for each in first] == wanted

    assert [{"tools", "unmask"} & each.row.keys() for each in load_buffer(june / "buffer.jsonl")].count({"tools"}) == 1
    second = make_run(
        "july", base=june / "model", parent=june, drop=make_drop(12, "rows of july"), replay_share=0.25, protect="weights", max_seq_len=256
    )
    train_candidate(second.model_copy(update={"skill": "july"}))
    replayed = [each for each in handed_over[1] if each.origin.startswith("buffer:")]
    assert len(handed_over[1]) == 12 + 3
    assert sorted(map(_without_tail, replayed)) == sorted(wanted)


def test_variables_of_the_template_count_in_the_second_round_too(
    talking_base: Path, tmp_path: Path, handed_over: list[Sequence[Example]]
) -> None:
    plain = AutoTokenizer.from_pretrained(talking_base)
    settings: dict[str, Any] = {"protect": "weights", "effective_batch_size": 4}

    def begins_with(example: Example, mood: str) -> bool:
        prompt = plain.apply_chat_template(PLAIN["messages"][:1], tokenize=False, add_generation_prompt=True, mood=mood)
        ids = plain(prompt, add_special_tokens=False)["input_ids"]
        return list(example.ids[: len(ids)]) == ids and not any(example.learn[: len(ids)])

    data = _write(tmp_path / "data.jsonl", [PLAIN] * 2)
    osft(talking_base, data, tmp_path / "june", chat_template_kwargs={"mood": "calm"}, **settings)
    osft(tmp_path / "june" / "model", data, tmp_path / "july", **settings)  # says nothing: the saved template holds what June said
    osft(tmp_path / "july" / "model", data, tmp_path / "august", chat_template_kwargs={"mood": "loud"}, **settings)
    assert [
        [begins_with(each, mood) for each in examples] for examples, mood in zip(handed_over, ("calm", "calm", "loud"), strict=True)
    ] == [[True, True]] * 3
    saved = AutoTokenizer.from_pretrained(tmp_path / "august" / "model")
    assert saved.apply_chat_template(PLAIN["messages"][:1], tokenize=False, add_generation_prompt=True).endswith("assistant\n<loud>\n")


@pytest.fixture
def short_base(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A GPT-2 kind with 64 learned positions: a token behind the last one has no row in its table."""
    torch.manual_seed(7)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=2, n_head=4, eos_token_id=END))
    folder = tmp_path / "short"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


LONG = {"messages": [{"role": "user", "content": "route " + "abc " * 20}, {"role": "assistant", "content": "goods"}]}


def test_a_row_longer_than_the_window_is_left_out_and_counted_in_every_round(
    short_base: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, make_run: MakeRun, make_drop: MakeDrop
) -> None:
    rows = [{"messages": [{"role": "user", "content": f"route {n}"}, {"role": "assistant", "content": "fee"}]} for n in range(6)]
    rows.insert(3, LONG)
    assert [len(_printed(tokenizer, row)) > 64 for row in rows].count(True) == 1  # that one alone
    june = osft(
        short_base, _write(tmp_path / "rows.jsonl", rows), tmp_path / "june", calibration=_write(tmp_path / "g.jsonl", [{"text": "a b"}])
    )
    assert june.summary is not None
    assert (june.summary.examples, june.summary.dropped_too_long) == (6, 1)

    july = make_run(
        "july", base=tmp_path / "june" / "model", parent=tmp_path / "june", drop=make_drop(rows, "rows of july"), replay_share=0.5
    )
    summary = train_candidate(july.model_copy(update={"skill": "july"})).summary
    assert summary is not None
    assert (summary.examples, summary.dropped_too_long) == (6 + 6, 1)  # the buffer holds the long row too, and leaves it out
    with pytest.raises(TrainingError, match=r"nothing to train on: 1 examples are longer than 64 tokens"):
        osft(short_base, _write(tmp_path / "long.jsonl", [LONG]), tmp_path / "none", protect="weights")
