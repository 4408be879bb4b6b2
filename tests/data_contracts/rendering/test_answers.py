"""One answer of a conversation: the prompt before it, its words, what ends it and what follows, for templates of several kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from data_contracts.errors import RenderingError
from data_contracts.rendering.answers import AnswerText, answer_text, question_text, says_something
from data_contracts.rendering.chat import chat_of
from data_contracts.rendering.facts import TemplateFacts
from data_contracts.rendering.template import ChatTemplate

Made = Callable[[str], Any]
TURNS = [
    {"role": "user", "content": "again"},
    {"role": "assistant", "content": "yes"},
    {"role": "user", "content": "sure?"},
    {"role": "assistant", "content": "no"},
]


def _answer(tokenizer: Any, turn: int, messages: list[dict[str, Any]] = TURNS) -> AnswerText:
    template = ChatTemplate(tokenizer)
    chat = chat_of({"messages": messages}, "row")
    assert chat is not None
    return answer_text(template, TemplateFacts(template, tokenizer), chat, turn)


@pytest.mark.parametrize(
    ("template", "context", "end", "tail", "fits"),
    [
        ("chatml", "<|im_start|>user\nagain<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>", "\n", True),
        ("plain", "user: again\nassistant: ", "\n", "", True),
        ("no-prompt", "[user] again<|im_end|>[assistant] ", "<|im_end|>", "", True),
        ("mistral", "<s>[INST] again [/INST]", "</s>", "", True),
        ("opens-think", "<s><|im_start|>user\nagain<|im_end|><|im_start|>assistant\n<think>\n", "<|im_end|>", "", False),
    ],
)
def test_the_parts_of_the_first_answer(made: Made, template: str, context: str, end: str, tail: str, fits: bool) -> None:
    found = _answer(made(template), 1)
    assert (found.context, found.end, found.tail, found.fits) == (context, end, tail, fits)
    assert found.said.lstrip(" ") == ("yes" if fits else "\n</think>\n\nyes")


def test_a_later_answer_follows_all_turns_before_it(made: Made) -> None:
    tokenizer = made("chatml")
    found = _answer(tokenizer, 3)
    assert found.context == tokenizer.apply_chat_template(TURNS[:3], tokenize=False, add_generation_prompt=True)
    assert found.answer == "no<|im_end|>"


def test_an_answer_at_the_beginning_has_the_header_for_its_context(made: Made) -> None:
    tokenizer = made("chatml")
    template = ChatTemplate(tokenizer)
    assert question_text(template, TemplateFacts(template, tokenizer), [], None) == "<|im_start|>assistant\n"


def test_an_answer_that_is_not_printed_is_refused(made: Made) -> None:
    questions_only = made("{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}")
    with pytest.raises(RenderingError, match=r"messages\[1\]: is not printed by the chat template"):
        _answer(questions_only, 1)


def test_an_empty_answer_is_its_end(made: Made) -> None:
    found = _answer(made("chatml"), 1, [TURNS[0], {"role": "assistant", "content": ""}])
    assert (found.said, found.answer) == ("", "<|im_end|>")
    assert not says_something({"role": "assistant", "content": " \n"})
    assert says_something({"role": "assistant", "tool_calls": [{"name": "f"}]})


def test_words_before_a_call_do_not_end_the_answer_where_the_template_ends_them_with_a_token_of_its_own(made: Made) -> None:
    """Harmony prints words as one message and the call as the next, both of one answer."""
    tokenizer = made(
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] or '' }}"
        "{% for c in m['tool_calls'] or [] %}<|im_end|><|im_start|>assistant to={{ c['function']['name'] }}<|eom_id|>{% else %}<|eot_id|>"
        "{% endfor %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    turn = {"role": "assistant", "content": "let me see", "tool_calls": [{"function": {"name": "route", "arguments": {}}}]}
    found = _answer(tokenizer, 1, [TURNS[0], turn])
    assert found.answer == "let me see<|im_end|><|im_start|>assistant to=route<|eom_id|>"
    assert (found.end, found.tail) == ("<|eom_id|>", "")
    assert _answer(tokenizer, 1).end == "<|eot_id|>"
