"""Which tokens count in the loss: the assistant's, whatever the chat template looks like."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from data_contracts.errors import RenderingError, TrainingError
from data_contracts.rendering import TextRenderer
from osft_engine.config import TrainConfig
from osft_engine.data.examples import load_examples, open_renderer

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Say yes."},
    {"role": "assistant", "content": "yes"},
    {"role": "user", "content": "Say no, not yes."},
    {"role": "assistant", "content": "no"},
]
# Rewrites earlier turns, as templates of thinking models do: no rendering of a part is a prefix of the whole.
REWRITES = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}"
    "{% if not loop.last and message['role'] == 'assistant' %} (earlier){% endif %}{{ '\n' }}"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# No special token ends a turn: the line break does.
PLAIN = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
# Strips what it is given and adds no generation prompt at all.
STRIPS = "{% for message in messages %}[{{ message['role'] }}] {{ message['content'] | trim }}<|im_end|>{% endfor %}"


def _with_template(tokenizer: PreTrainedTokenizerFast, template: str) -> PreTrainedTokenizerFast:
    other = copy.deepcopy(tokenizer)
    other.chat_template = template
    return other


def _learned_texts(tokenizer: PreTrainedTokenizerFast, messages: list[dict[str, str]], **options: bool) -> list[str]:
    """What counts in the loss, one text an example."""
    examples = TextRenderer(tokenizer).render_row({"messages": messages}, "row", max_tokens=512, **options)
    return [tokenizer.decode([token for token, learn in zip(each.ids, each.learn, strict=True) if learn]) for each in examples]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (CHAT_TEMPLATE, ["yes<|im_end|>no<|im_end|>"]),
        (REWRITES, ["yes<|im_end|>", "no<|im_end|>"]),  # "yes" is learned where it is asked: as the last turn, under its own header
        (PLAIN, ["yes\nno\n"]),
        (STRIPS, ["yes<|im_end|>no<|im_end|>"]),
    ],
    ids=["chatml", "rewrites-earlier-turns", "no-special-tokens", "no-generation-prompt"],
)
def test_only_the_assistants_words_and_end_of_turn_count(tokenizer: PreTrainedTokenizerFast, template: str, expected: list[str]) -> None:
    assert _learned_texts(_with_template(tokenizer, template), CONVERSATION) == expected


def test_an_answer_that_repeats_the_question_is_found_in_its_own_place(tokenizer: PreTrainedTokenizerFast) -> None:
    messages = [{"role": "user", "content": "echo echo"}, {"role": "assistant", "content": "echo echo"}]
    [example] = TextRenderer(_with_template(tokenizer, REWRITES)).render_row({"messages": messages}, "row", max_tokens=512)
    text = tokenizer.decode(example.ids)
    first = example.learn.index(True)
    assert text.count("echo echo") == 2
    assert len(tokenizer.decode(example.ids[:first])) > text.index("echo echo") + len("echo echo")


def test_unmask_counts_every_token_but_the_first(tokenizer: PreTrainedTokenizerFast) -> None:
    [example] = TextRenderer(tokenizer).render_row({"messages": CONVERSATION}, "row", unmask=True, max_tokens=512)
    assert example.learn == (False, *[True] * (len(example.ids) - 1))


def test_a_long_document_becomes_several_examples_and_loses_nothing(tokenizer: PreTrainedTokenizerFast) -> None:
    pieces = TextRenderer(tokenizer).render_row({"text": "abcdefghij"}, "row", max_tokens=4)
    assert [len(piece.ids) for piece in pieces] == [4, 4, 4]
    assert tokenizer.decode([token for piece in pieces for token in piece.ids]) == "<|im_start|>abcdefghij<|im_end|>"


def test_long_and_silent_examples_are_left_out_and_counted(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    file = tmp_path / "clean.jsonl"
    long = '{"messages":[{"role":"user","content":"' + "x" * 200 + '"},{"role":"assistant","content":"y"}]}'
    silent = '{"messages":[{"role":"user","content":"anyone?"}]}'
    good = '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}'
    file.write_text("\n".join([long, silent, good]) + "\n")
    found = load_examples(file, TextRenderer(tokenizer), max_tokens=100)
    assert (len(found.examples), found.dropped_too_long, found.dropped_without_loss) == (1, 1, 1)
    file.write_text("\n".join([long, silent]) + "\n")
    with pytest.raises(TrainingError, match="nothing to train on: 1 examples are longer than 100 tokens, 1 have no token"):
        load_examples(file, TextRenderer(tokenizer), max_tokens=100)


def test_a_row_of_another_shape_is_named_by_its_line(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    file = tmp_path / "clean.jsonl"
    file.write_text('{"text": "fine"}\n{"question": "?"}\n')
    with pytest.raises(RenderingError, match=r"clean\.jsonl:2: has neither messages, nor prompt and completion, nor text"):
        load_examples(file, TextRenderer(tokenizer), max_tokens=100)


def test_a_tokenizer_without_a_template_needs_an_override(tokenizer: PreTrainedTokenizerFast) -> None:
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    config = TrainConfig(chat_template=PLAIN)
    row = {"messages": CONVERSATION}
    with pytest.raises(RenderingError, match="row: has messages, and the model's tokenizer has no chat template"):
        open_renderer(bare, TrainConfig()).render_row(row, "row", max_tokens=512)
    given = open_renderer(bare, config).render_row(row, "row", max_tokens=512)
    assert given == open_renderer(_with_template(tokenizer, PLAIN), TrainConfig()).render_row(row, "row", max_tokens=512)
