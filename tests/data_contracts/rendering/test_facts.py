"""What is found of a template by printing it: the marks of its tokenizer, its prompt, its ends and its reasoning block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from data_contracts.rendering import TextRenderer
from data_contracts.rendering.facts import Closing, TemplateFacts, first_mark_end, last_mark_end, opened_block
from data_contracts.rendering.template import ChatTemplate


def _facts(tokenizer: Any) -> TemplateFacts:
    return TemplateFacts(ChatTemplate(tokenizer), tokenizer)


@pytest.mark.parametrize(
    ("template", "closing"),
    [
        ("chatml", Closing("<|im_end|>", "\n")),
        ("gemma", Closing("<end_of_turn>", "\n")),
        ("mistral", Closing("</s>", "")),
        ("plain", Closing("\n", "")),
        ("no-end", Closing("</s>", "", added=True)),
        ("{{ raise_exception('never') }}", None),
        ("{{ messages[0]['content'] }}", None),
    ],
)
def test_how_the_last_turn_is_closed(made: Callable[[str], Any], template: str, closing: Closing | None) -> None:
    assert _facts(made(template)).closing == closing


@pytest.mark.parametrize(("template", "has"), [("chatml", True), ("no-prompt", False), ("mistral", False), ("plain", True)])
def test_whether_there_is_a_generation_prompt(made: Callable[[str], Any], template: str, has: bool) -> None:
    assert _facts(made(template)).has_prompt is has


@pytest.mark.parametrize(
    ("template", "reasoning"),
    [("qwen3", ("<think>", "</think>")), ("opens-think", ("<think>", "</think>")), ("chatml", None), ("closes-think", None)],
)
def test_what_surrounds_reasoning(made: Callable[[str], Any], template: str, reasoning: tuple[str, str] | None) -> None:
    assert _facts(made(template)).reasoning == reasoning


def test_an_answer_with_a_header_of_its_own_is_read_behind_that_header_with_and_without_reasoning(made: Callable[[str], Any]) -> None:
    """Harmony puts reasoning and words into messages of their own: a model that reasoned and a gold answer without reasoning end alike."""
    harmony = (
        "{% for m in messages %}<s>{{ m['role'] }}{% if m['role'] == 'assistant' %}"
        "{% if m['reasoning_content'] %}[analysis]{{ m['reasoning_content'] }}<|im_end|><s>assistant{% endif %}[final]"
        "{% endif %}{{ m['content'] }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}<s>assistant{% endif %}"
    )
    assert _facts(made(harmony)).reasoning == ("[analysis]", "[final]")


@pytest.mark.parametrize(("template", "end"), [("llama3", "<|eom_id|>"), ("chatml-tools", "<|im_end|>"), ("plain", "")])
def test_what_ends_a_call(made: Callable[[str], Any], template: str, end: str) -> None:
    assert _facts(made(template)).call_end == end


def test_rows_with_tools_may_have_a_template_of_their_own_with_another_end(made: Callable[[str], Any]) -> None:
    tokenizer = made("gemma")
    tokenizer.chat_template = {"default": tokenizer.chat_template, "tool_use": made("chatml-tools").chat_template}
    renderer = TextRenderer(tokenizer)
    assert {tokenizer.convert_tokens_to_ids(end) for end in ("<end_of_turn>", "<|im_end|>", "</s>")} == set(renderer.end_ids)
    call = {"type": "function", "function": {"name": "find", "arguments": {}}}
    question, tools = {"role": "user", "content": "where is order A0?"}, {"tools": [{"type": "function", "function": {"name": "find"}}]}
    words = {"messages": [question, {"role": "assistant", "content": "on its way"}]}
    called = {"messages": [question, {"role": "assistant", "content": "", "tool_calls": [call]}]}
    for row, end in ((words, "<end_of_turn>"), (words | tools, "<|im_end|>"), (called | tools, "<|im_end|>")):
        asked = renderer.question(row, "row")
        assert (asked.end, asked.answer_ids[-1]) == (end, tokenizer.convert_tokens_to_ids(end))
        assert not set(asked.answer_ids[:-1]) & set(renderer.end_ids)


@pytest.mark.parametrize(("for_tools", "ends"), [("chatml", {"<|im_end|>"}), ("llama3", {"<|eot_id|>", "<|eom_id|>"})])
def test_words_and_calls_beside_tools_end_as_their_template_ends_each(made: Callable[[str], Any], for_tools: str, ends: set[str]) -> None:
    tokenizer = made("gemma")
    tokenizer.chat_template = {"default": tokenizer.chat_template, "tool_use": made(for_tools).chat_template}
    assert set(_facts(tokenizer).end_marks) == {"<end_of_turn>", "</s>", *ends}


def test_a_template_for_tools_that_prints_an_end_needs_none_beside_one_that_prints_none(made: Callable[[str], Any]) -> None:
    tokenizer = made("no-end")
    tokenizer.chat_template = {"default": tokenizer.chat_template, "tool_use": made("chatml-tools").chat_template}
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "tools": [{"name": "find"}]}
    asked = TextRenderer(tokenizer).question(row, "row")
    assert (asked.said, asked.end) == ("b", "<|im_end|>")


def test_marks_are_the_special_tokens_and_what_was_added_by_hand(made: Callable[[str], Any]) -> None:
    tokenizer = made("chatml")
    tokenizer.add_tokens(["<own>"])
    facts = _facts(tokenizer)
    assert {"<s>", "</s>", "<|im_end|>", "<own>"} <= set(facts.marks)
    assert facts.end_mark("done<|im_end|>") == "<|im_end|>"
    assert facts.end_mark("<|im_end|>.") == ""


def test_the_first_and_the_last_mark_of_a_text() -> None:
    marks = ("<e>", "<end>", "<e><e>")
    assert first_mark_end("a<end>b<e>", marks) == 6
    assert first_mark_end("<e><e>", marks) == 6, "the longest of those that begin at one place"
    assert last_mark_end("a<end>b<e>c", marks) == 10
    assert first_mark_end("none", marks) is last_mark_end("none", marks) is None


@pytest.mark.parametrize(("text", "name"), [("x\n<think>\n", "think"), ("<think></think>", ""), ("<|im_start|>", ""), ("a <b> c", "")])
def test_a_block_that_is_left_open(text: str, name: str) -> None:
    assert opened_block(text) == name
