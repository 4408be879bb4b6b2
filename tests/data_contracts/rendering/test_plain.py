"""A rendered prompt without the marks of its template, for the chat templates of the known families and for text that has none."""

from __future__ import annotations

import pytest

from data_contracts.rendering.plain import plain_prompt

USER = "Is 3 < 4?\nSay yes or no."


@pytest.mark.parametrize(
    "prompt",
    [
        f"<|user|>{USER}<|end|><|assistant|>",
        f"<|im_start|>user\n{USER}<|im_end|>\n<|im_start|>assistant\n",
        f"<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{USER}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        f"<bos><start_of_turn>user\n{USER}<end_of_turn>\n<start_of_turn>model\n",
        f"<s>[INST] {USER} [/INST]",
        f"<｜begin▁of▁sentence｜><｜User｜>{USER}<｜Assistant｜>",
        f"<|start|>user<|message|>{USER}<|end|><|start|>assistant",
        f"<|start_of_role|>user<|end_of_role|>{USER}<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
        USER,
    ],
)
def test_one_turn_is_its_text_alone(prompt: str) -> None:
    assert plain_prompt(prompt) == USER


def test_several_turns_begin_with_their_role() -> None:
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", USER)]
    prompt = "".join(f"<|im_start|>{role}\n{said}<|im_end|>\n" for role, said in turns) + "<|im_start|>assistant\n"
    assert plain_prompt(prompt) == "\n".join(f"{role}: {said}" for role, said in turns)


@pytest.mark.parametrize("text", ["a < b > c", "f(x) = x | y", "<html><body>user</body></html>", "array[INDEX]", "if a<b: user\n  b>a", ""])
def test_text_that_only_looks_like_a_mark_stays(text: str) -> None:
    assert plain_prompt(text) == text
