"""A row becomes the tokens that plain transformers gives it, for every kind of template and row; a context is what training reads before
the answer, token for token."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from data_contracts.errors import RenderingError
from data_contracts.rendering import Rendering, TextRenderer

Made = Callable[[str], Any]
TOOLS = [{"type": "function", "function": {"name": "route", "description": "d", "parameters": {"type": "object", "properties": {}}}}]


def _call(arguments: Any) -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": "route", "arguments": arguments}}


def _calling(call: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [USER, {"role": "assistant", "tool_calls": [call]}]}


CALL = {"role": "assistant", "tool_calls": [_call({"team": "technical"})]}
USER, ANSWER = {"role": "user", "content": "where is order A0?"}, {"role": "assistant", "content": "It is on its way."}
RESULT = {"role": "tool", "tool_call_id": "call_1", "name": "route", "content": "ok"}
IMAGE = {"role": "user", "content": [{"type": "image_url"}]}
ROWS: dict[str, dict[str, Any]] = {
    "one": {"messages": [USER, ANSWER]},
    "two": {"messages": [USER, ANSWER, {"role": "user", "content": "again"}, {"role": "assistant", "content": "technical"}]},
    "lines": {"messages": [USER, {"role": "assistant", "content": "one line\n\nand another"}]},
    "tool-answer": {"messages": [USER, CALL, RESULT, ANSWER], "tools": TOOLS},
    "call": {"messages": [USER, CALL], "tools": TOOLS},
    "reasoning": {"messages": [USER, {"role": "assistant", "reasoning_content": "2 and 3", "content": "5"}]},
}  # fmt: skip
WITH_CALLS = {"chatml-tools", "llama3", "qwen3"}
#: Templates that begin a printed answer with what they ask it with.
BEHIND_PROMPT = ["chatml", "chatml-tools", "llama3", "gemma", "mistral", "qwen3", "last-differs", "plain"]
ENDS = {
    "chatml": "<|im_end|>", "chatml-tools": "<|im_end|>", "llama3": "<|eot_id|>", "gemma": "<end_of_turn>", "mistral": "</s>",
    "qwen3": "<|im_end|>", "last-differs": "<|im_end|>", "plain": "\n", "no-prompt": "<|im_end|>", "no-end": "</s>",
    "opens-think": "<|im_end|>", "closes-think": "<|im_end|>",
}  # fmt: skip


def _pairs(templates: Iterable[str]) -> list[tuple[str, str]]:
    """Every template with every row that it can print."""
    return [(template, row) for template in templates for row in ROWS if template in WITH_CALLS or row not in ("tool-answer", "call")]


def _learned(tokenizer: Any, rendering: Rendering) -> str:
    return str(tokenizer.decode([token for token, learn in zip(rendering.ids, rendering.learn, strict=True) if learn]))


def _spelled(tokenizer: Any, text: str) -> str:
    """A text as the tokenizer gives it back: some put a space before it."""
    return str(tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"])).strip()


@pytest.mark.parametrize(("template", "row"), _pairs(ENDS))
def test_a_context_is_what_training_reads_before_the_answer(made: Made, template: str, row: str) -> None:
    renderer = TextRenderer(made(template))
    asked = renderer.question(ROWS[row], "row")
    example = renderer.render_row(ROWS[row], "row", max_tokens=512)[-1]
    last = example.answers[-1]
    assert example.ids[: last.start] == asked.context_ids
    assert example.ids[last.start : last.stop] == asked.answer_ids
    assert not any(example.learn[: last.start]) or len(example.answers) > 1
    assert all(example.learn[last.start : last.stop])


@pytest.mark.parametrize(("template", "row"), _pairs(BEHIND_PROMPT))
def test_text_is_what_transformers_prints_and_the_context_its_generation_prompt(made: Made, template: str, row: str) -> None:
    tokenizer, value = made(template), ROWS[row]
    renderer = TextRenderer(tokenizer)
    example = renderer.render_row(value, "row", max_tokens=512)[-1]
    messages, tools = value["messages"], value.get("tools")
    assert example.text == tokenizer.apply_chat_template(messages, tools=tools, tokenize=False)
    prompt = tokenizer.apply_chat_template(messages[:-1], tools=tools, add_generation_prompt=True)["input_ids"]
    assert list(renderer.question(value, "row").context_ids) == prompt


@pytest.mark.parametrize("template", ["chatml", "chatml-tools", "gemma", "mistral"])
def test_ids_are_those_of_transformers_where_nothing_merges_over_an_answers_beginning(made: Made, template: str) -> None:
    tokenizer = made(template)
    for row in ("one", "lines"):
        [example] = TextRenderer(tokenizer).render_row(ROWS[row], "row", max_tokens=512)
        assert list(example.ids) == tokenizer.apply_chat_template(ROWS[row]["messages"])["input_ids"]


@pytest.mark.parametrize("template", ENDS)
def test_the_end_of_an_answer_is_found_and_learned(made: Made, template: str) -> None:
    tokenizer = made(template)
    renderer = TextRenderer(tokenizer)
    assert renderer.end_text == ENDS[template]
    ends = {tokenizer.convert_tokens_to_ids(ENDS[template]), tokenizer.eos_token_id} if ENDS[template] != "\n" else {tokenizer.eos_token_id}
    assert ends <= set(renderer.end_ids)
    [example] = renderer.render_row(ROWS["one"], "row", max_tokens=512)
    assert _learned(tokenizer, example).strip(" ").endswith("It is on its way." + ENDS[template])
    if ENDS[template] != "\n":
        assert example.ids[example.answers[0].stop - 1] == tokenizer.convert_tokens_to_ids(ENDS[template])


def test_a_call_may_end_otherwise_than_words_do(made: Made) -> None:
    tokenizer = made("llama3")
    renderer = TextRenderer(tokenizer)
    assert {tokenizer.convert_tokens_to_ids(end) for end in ("<|eot_id|>", "<|eom_id|>", "</s>")} == set(renderer.end_ids)
    [example] = renderer.render_row(ROWS["call"], "row", max_tokens=512)
    assert example.ids[example.answers[0].stop - 1] == tokenizer.convert_tokens_to_ids("<|eom_id|>")


def test_each_answer_is_learned_as_it_is_asked_where_the_template_prints_the_last_turn_otherwise(made: Made) -> None:
    for template, expected in (("last-differs", ["It is on its way.", "technical"]), ("qwen3", ["It is on its way.", "technical"])):
        tokenizer = made(template)
        examples = TextRenderer(tokenizer).render_row(ROWS["two"], "row", max_tokens=512)
        assert len(examples) == 2
        for example, count, words in zip(examples, (1, 3), expected, strict=True):
            turns = ROWS["two"]["messages"][:count]
            prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
            assert list(example.ids[: example.answers[0].start]) == prompt
            assert _learned(tokenizer, example).endswith(words + "<|im_end|>")


def test_the_answer_stands_behind_a_prompt_that_the_printed_turn_lacks(made: Made) -> None:
    closes, opens = made("closes-think"), made("opens-think")
    asked = TextRenderer(closes).question(ROWS["reasoning"], "row")
    assert asked.context.endswith("assistant\n<think>\n\n</think>\n\n")
    assert asked.said == "5"
    asked = TextRenderer(opens).question(ROWS["reasoning"], "row")
    assert asked.context.endswith("assistant\n<think>\n")
    assert asked.said == "2 and 3\n</think>\n\n5"
    assert TextRenderer(opens).question(ROWS["one"], "row").said == "\n</think>\n\nIt is on its way."
    assert TextRenderer(opens).reasoning_close == "</think>"  # so that an evaluation sets aside what stands before it
    assert TextRenderer(closes).reasoning_close == ""


def test_variables_of_the_template_reach_context_and_answer(made: Made) -> None:
    tokenizer = made("qwen3")
    thinking, direct = TextRenderer(tokenizer), TextRenderer(tokenizer, chat_template_kwargs={"enable_thinking": False})
    assert thinking.question(ROWS["one"], "row").said == "<think>\n\n</think>\n\nIt is on its way."
    assert direct.question(ROWS["one"], "row").said == "It is on its way."
    prompt = tokenizer.apply_chat_template([USER], add_generation_prompt=True, enable_thinking=False)["input_ids"]
    assert list(direct.question(ROWS["one"], "row").context_ids) == prompt
    assert thinking.facts.reasoning == ("<think>", "</think>")
    assert TextRenderer(made("chatml")).facts.reasoning is None


def test_reasoning_in_the_content_of_a_template_that_drops_it_is_refused(made: Made) -> None:
    """As in rows distilled from R1: an empty block before the answer would teach the model not to reason."""
    own = made("opens-think").chat_template
    drops = own.replace("{{ m['content'] }}", "{{ m['content'].split('</think>')[-1].lstrip('\n') }}")
    assert drops != own
    renderer = TextRenderer(made("opens-think"), drops)
    for turns in ([], [USER, {"role": "assistant", "content": "4"}]):
        row = {"messages": [USER, {"role": "assistant", "content": "<think>\n2 and 3\n</think>\n\n5"}, *turns]}
        with pytest.raises(
            RenderingError, match=r"row messages\[1\]: has reasoning in its content \(<think>\).*as the turn's reasoning_content"
        ):
            renderer.render_row(row, "row", unmask=False, max_tokens=200)
    row = {"messages": [USER, {"role": "assistant", "reasoning_content": "2 and 3", "content": "5"}]}
    assert renderer.question(row, "row").said == "2 and 3\n</think>\n\n5"


def test_reasoning_in_the_content_under_enable_thinking_false_is_named_as_the_cause(made: Made) -> None:
    """Qwen3's own template takes reasoning out of the content, and prints it where the prompt has an empty block already."""
    reasoning = "(m['content'].split('</think>')[0].split('<think>')[-1] if '</think>' in m['content'] else '')"
    splits = made("qwen3").chat_template.replace("(m['reasoning_content'] or '')", reasoning)
    splits = splits.replace("{{ m['content'] or '' }}", "{{ m['content'].split('</think>')[-1].lstrip('\n') }}")
    row = {"messages": [USER, {"role": "assistant", "content": "<think>\n2 and 3\n</think>\n\n5"}]}
    assert TextRenderer(made("qwen3"), splits).question(row, "row").said == "<think>\n2 and 3\n</think>\n\n5"
    direct = TextRenderer(made("qwen3"), splits, {"enable_thinking": False})
    with pytest.raises(RenderingError, match=r"row messages\[1\]: has reasoning in its content \(<think>\).*enable_thinking: false"):
        direct.row_text(row, "row")
    plain = {"messages": [USER, {"role": "assistant", "content": "5"}]}
    with pytest.raises(RenderingError, match="cannot be found in the rendered chat template"):
        direct.row_text({"messages": [USER, {"role": "assistant", "content": "5 </think> 6"}]}, "row")
    assert direct.question(plain, "row").said == "5"


def test_another_template_counts_everywhere(made: Made) -> None:
    tokenizer = made("chatml")
    gemma = made("gemma").chat_template
    renderer = TextRenderer(tokenizer, gemma)
    assert renderer.end_text == "<end_of_turn>"
    expected = made("gemma").apply_chat_template(ROWS["one"]["messages"])["input_ids"]
    assert list(renderer.render_row(ROWS["one"], "row", max_tokens=512)[0].ids) == expected


def test_arguments_as_json_text_and_as_an_object_are_one(made: Made) -> None:
    tokenizer = made("chatml-tools")
    renderer = TextRenderer(tokenizer)
    expected = tokenizer.apply_chat_template(ROWS["tool-answer"]["messages"], tools=TOOLS)["input_ids"]
    for content in ({}, {"content": None}, {"content": ""}):
        for arguments in ({"team": "technical"}, '{"team": "technical"}'):
            messages = [USER, {"role": "assistant", "tool_calls": [_call(arguments)], **content}, *ROWS["tool-answer"]["messages"][2:]]
            [example] = renderer.render_row({"messages": messages, "tools": TOOLS}, "row", max_tokens=512)
            assert list(example.ids) == expected
            assert len(example.answers) == 2


def test_a_template_that_joins_content_is_given_an_empty_one(made: Made) -> None:
    tokenizer = made(
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}{% for c in m['tool_calls'] or [] %}{{ c['function'] | tojson }}"
        "{% endfor %}<|im_end|>{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    )
    asked = TextRenderer(tokenizer).question(ROWS["call"], "row")
    assert json.loads(asked.said) == {"name": "route", "arguments": {"team": "technical"}}


def test_text_in_parts_is_the_text(made: Made) -> None:
    tokenizer = made("chatml")
    parts = [{"type": "text", "text": "It is "}, {"type": "text", "text": "on its way."}]
    [example] = TextRenderer(tokenizer).render_row({"messages": [USER, {"role": "assistant", "content": parts}]}, "row", max_tokens=512)
    assert list(example.ids) == tokenizer.apply_chat_template(ROWS["one"]["messages"])["input_ids"]


def test_prompt_and_completion_are_a_question_and_an_answer(made: Made) -> None:
    renderer = TextRenderer(made("chatml"))
    row = {"prompt": USER["content"], "completion": ANSWER["content"]}
    assert renderer.render_row(row, "row", max_tokens=512) == renderer.render_row(ROWS["one"], "row", max_tokens=512)


def test_a_row_says_itself_whether_all_its_tokens_count(made: Made) -> None:
    tokenizer = made("chatml")
    renderer = TextRenderer(tokenizer)
    for value, default in ((True, False), (None, True)):
        [example] = renderer.render_row({**ROWS["one"], "unmask": value}, "row", unmask=default, max_tokens=512)
        assert list(example.ids) == tokenizer.apply_chat_template(ROWS["one"]["messages"])["input_ids"]
        assert example.learn == (False, *[True] * (len(example.ids) - 1))
    [masked] = renderer.render_row({**ROWS["one"], "unmask": False}, "row", unmask=True, max_tokens=512)
    assert _learned(tokenizer, masked).strip() == _spelled(tokenizer, "It is on its way.<|im_end|>")


def test_an_unmasked_row_keeps_the_turns_behind_its_last_answer(made: Made) -> None:
    tokenizer = made("chatml")
    messages = [USER, ANSWER, {"role": "user", "content": "thanks"}]
    [example] = TextRenderer(tokenizer).render_row({"messages": messages, "unmask": True}, "row", max_tokens=512)
    assert list(example.ids) == tokenizer.apply_chat_template(messages)["input_ids"]
    assert all(example.learn[1:])


@pytest.mark.parametrize("unmask", [False, True])
def test_a_turn_of_weight_zero_is_context(made: Made, unmask: bool) -> None:
    tokenizer = made("gemma")
    messages = copy.deepcopy(ROWS["two"]["messages"])
    expected = tokenizer.apply_chat_template(messages)["input_ids"]
    messages[1]["weight"], messages[3]["weight"] = 0, 1
    examples = TextRenderer(tokenizer).render_row({"messages": messages, "unmask": unmask}, "row", max_tokens=512)
    learned = "".join(_learned(tokenizer, example) for example in examples)
    assert "It is on its way." not in learned
    assert "technical<end_of_turn>" in learned
    if unmask:
        assert "where is order A0?" in learned
    assert any(list(example.ids) == expected for example in examples)


def test_a_chat_gets_one_bos_and_a_document_one_whether_the_tokenizer_adds_it_or_not(made: Made) -> None:
    tokenizer = made("gemma")
    renderer = TextRenderer(tokenizer)
    [example] = renderer.render_row(ROWS["one"], "row", max_tokens=512)
    assert example.ids.count(tokenizer.bos_token_id) == 1
    for text, limit in (("always sign the form", 512), ("always sign the form " * 9, 7)):
        pieces = renderer.render_row({"text": text}, "row", max_tokens=limit)
        words = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert [token for piece in pieces for token in piece.ids] == [tokenizer.bos_token_id, *words, tokenizer.eos_token_id]
        assert max(len(piece.ids) for piece in pieces) <= limit


def test_a_document_follows_the_end_of_another_where_a_model_has_no_beginning(made: Made) -> None:
    tokenizer = copy.deepcopy(made("chatml"))
    tokenizer.bos_token = None
    [document] = TextRenderer(tokenizer).render_row({"text": "always sign"}, "row", max_tokens=64)
    assert list(document.ids) == [tokenizer.eos_token_id, *tokenizer("always sign")["input_ids"], tokenizer.eos_token_id]
    assert document.learn == (False, *[True] * (len(document.ids) - 1)), "the first word is learned too"


def test_token_ids_are_taken_as_they_are(made: Made) -> None:
    [example] = TextRenderer(made("chatml")).render_row({"input_ids": [5, 6, 7], "labels": [-100, -100, 7]}, "row", max_tokens=9)
    assert (example.ids, example.learn) == ((5, 6, 7), (False, False, True))


def test_ends_of_an_answer_in_a_rows_own_words_are_named(made: Made) -> None:
    renderer = TextRenderer(made("gemma"))
    for row, ends in (
        (ROWS["one"], ()),
        ({"messages": [USER, {**ANSWER, "content": "It <end_of_turn> and </s>"}]}, ("<end_of_turn>", "</s>")),
        ({"messages": [{**USER, "content": "what is </s>?"}, ANSWER]}, ("</s>",)),
        ({"messages": [USER, {**ANSWER, "content": "the <|im_end|> of another model"}]}, ()),
        ({"text": "one document</s>and another"}, ("</s>",)),
    ):
        assert renderer.row_text(row, "row").ends == ends


LOOPS = "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}x"
GROWS = "{% for i in range(90000) %}{{ messages[0]['content'] }}{{ 'x' * 100 }}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "row", "message"),
    [
        ("{{ raise_exception('no system turn') }}", ROWS["one"], r"row: the chat template refuses it: no system turn \(correct the row"),
        ("{{ messages[9].content.x }}", ROWS["one"], r"row: the chat template refuses it"),
        ("{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}", ROWS["one"],
         r"row messages\[1\]: is not printed by the chat template"),
        ("chatml", ROWS["call"], r"row messages\[1\]: is not printed by the chat template"),
        ("opens-think", ROWS["call"], r"row messages\[1\]: is not printed by the chat template"),
        (LOOPS, ROWS["one"], r"row: the chat template ran for more than 0\.2 seconds"),
        (GROWS, ROWS["one"], r"row: the chat template prints \d+ characters for it"),
        ("", ROWS["one"], r"row: has messages, and the model's tokenizer has no chat template"),
        ("chatml", {"messages": []}, r"row: messages is not a list of turns"),
        ("chatml", {"messages": [{"content": "x"}]}, r"row messages\[0\]: is not a turn with a role"),
        ("chatml", {"messages": [USER, {**ANSWER, "weight": 0.5}]}, r"row messages\[1\]: has the weight 0\.5"),
        ("chatml", {"messages": [IMAGE, ANSWER]}, r"messages\[0\]: has content of the type 'image_url'"),
        ("chatml-tools", _calling(_call("{")), r"messages\[1\].tool_calls\[0\]: has arguments that are"),
        ("chatml-tools", _calling({"id": 1}), r"tool_calls\[0\]: is not a call with a name"),
        ("chatml", {"words": 1}, r"row: has neither messages, nor prompt"),
    ],
)  # fmt: skip
def test_what_cannot_be_rendered_is_refused_in_one_line(
    made: Made, monkeypatch: pytest.MonkeyPatch, template: str, row: dict[str, Any], message: str
) -> None:
    if template == LOOPS:
        monkeypatch.setattr("data_contracts.rendering.template.SECONDS", 0.2)
    with pytest.raises(RenderingError, match=message):
        TextRenderer(made(template)).render_row(row, "row", max_tokens=512)
