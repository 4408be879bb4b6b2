"""Prompts of chat suites: the model reads what its template prints, ends where it ends, and scores as plain transformers does.

Every expected number is computed here with `apply_chat_template`, full forward passes and argmax, and with nothing of the harness.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals.config import EvaluationConfig, ModelUse, SuiteConfig

Write = Callable[..., Path]
Row = dict[str, Any]
CALL = {"type": "function", "function": {"name": "route", "arguments": {"team": "billing"}}}
TOOLS = [{"name": "route"}]


class Independent:
    """The model as transformers' own user runs it."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.torch = torch
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.ends = {self.tokenizer.convert_tokens_to_ids("<|end|>"), self.tokenizer.eos_token_id}

    def context(self, row: Row) -> list[int]:
        """Tokens that a server would ask with."""
        text = self.tokenizer.apply_chat_template(row["messages"][:-1], tools=row.get("tools"), add_generation_prompt=True, tokenize=False)
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def logits(self, ids: list[int]) -> Any:
        with self.torch.no_grad():
            return self.model(self.torch.tensor([ids])).logits[0]

    def nats(self, context: list[int], answer: list[int]) -> float:
        logprobs = self.torch.log_softmax(self.logits([*context, *answer]), dim=-1)
        return float(sum(logprobs[len(context) - 1 + at, token] for at, token in enumerate(answer)))

    def answer_ids(self, text: str, end: str = "<|end|>") -> list[int]:
        return list(self.tokenizer(text + end, add_special_tokens=False)["input_ids"])

    def greedy(self, context: list[int], limit: int) -> str:
        said: list[int] = []
        while len(said) < limit:
            token = int(self.logits([*context, *said])[-1].argmax())
            if token in self.ends:
                break
            said.append(token)
        return str(self.tokenizer.decode(said))


@pytest.fixture(scope="module")
def plain(rich_model: Path) -> Independent:
    return Independent(rich_model)


@pytest.fixture(scope="module")
def session(rich_model: Path) -> Any:
    from evals.harness.session import Session

    return Session(rich_model, EvaluationConfig(device="cpu", num_threads=1), ModelUse(), device="cpu", dtype="float32")


def _score(session: Any, write_rows: Write, rows: list[Row], **fields: Any) -> tuple[Any, Any]:
    """(the task that lm-eval ran, the rows of the store)."""
    from evals.suites.items import load_items

    suite = SuiteConfig(name="s", source=str(write_rows("s.jsonl", rows)), chat=True, **fields)
    items = load_items(suite)
    return session.task(suite, items), session.score(suite, items, lambda _: None)


def _chat(question: str, **last: Any) -> Row:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", **last}]}


# ------------------------------------------------------------------------------------------------ choices


@pytest.mark.parametrize(
    ("labels", "packs"), [(("1", "10", "11", "12"), True), (("1", "10", "11", "12"), False), (("refund", "refund denied"), True)]
)
def test_a_choice_is_scored_with_the_end_of_its_turn(
    session: Any, plain: Independent, write_rows: Write, labels: tuple[str, ...], packs: bool
) -> None:
    rows = [_chat(f"route {n}", content=labels[n % len(labels)]) for n in range(8)]
    session._lm.scorer.packs, before = packs, session._lm.scorer.packs
    try:
        _, table = _score(session, write_rows, rows, choices=labels)
    finally:
        session._lm.scorer.packs = before
    assert before, "the mask of a Llama is honoured"
    for row, (_, kept) in zip(rows, table.iterrows(), strict=True):
        nats = [plain.nats(plain.context(row), plain.answer_ids(label)) for label in labels]
        np.testing.assert_allclose(kept["choice_logprobs"], nats, atol=2e-4)
        assert kept["prediction"] == labels[int(np.argmax(nats))]
        assert kept["score"] == float(kept["prediction"] == row["messages"][-1]["content"])
        assert kept["gold_logprob"] == pytest.approx(nats[labels.index(row["messages"][-1]["content"])], abs=2e-4)


def test_choices_that_begin_an_answer_have_no_end(session: Any, plain: Independent, write_rows: Write) -> None:
    openings = ("Sure, here", "Sorry")
    rows = [{"prompt": f"Tell me {n}"} for n in range(3)]
    _, table = _score(session, write_rows, rows, choices=openings, gold="1", open_choices=True)
    for row, (_, kept) in zip(rows, table.iterrows(), strict=True):
        context = plain.context({"messages": [{"role": "user", "content": row["prompt"]}, {}]})
        np.testing.assert_allclose(
            kept["choice_logprobs"], [plain.nats(context, plain.answer_ids(each, "")) for each in openings], atol=2e-4
        )


def test_a_plain_choice_that_begins_another_is_scored_with_the_line_break(session: Any, plain: Independent, write_rows: Write) -> None:
    """The documented rule for plain prompts: only where one begins another, so that other suites score as lm-eval does."""
    from evals.suites.items import load_items

    def nats(choices: list[str], end: str) -> tuple[Any, list[float]]:
        suite = SuiteConfig(name="p", source=str(write_rows("p.jsonl", [{"prompt": "Class:", "choices": choices, "gold": 0}])))
        table = session.score(suite, load_items(suite), lambda _: None)
        context = plain.answer_ids("Class:", "")
        return table["choice_logprobs"][0], [plain.nats(context, plain.answer_ids(f" {choice}", end)) for choice in choices]

    for choices, end in ((["refund", "refund denied", "refund pending"], "\n"), (["refund", "denied"], "")):
        ours, theirs = nats(choices, end)
        np.testing.assert_allclose(ours, theirs, atol=2e-4)


def test_choices_that_are_the_same_to_the_model_are_one_line(rich_model: Path, session: Any, write_rows: Write) -> None:
    """The first of them would win whatever the model knows."""
    from data_contracts.errors import EvaluationError

    rows = [_chat(f"q{n}", content="yes") for n in range(2)]
    _score(session, write_rows, rows, choices=("yes", "yes ", "no"))  # this template prints both as they are
    trims = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] | trim }}<|end|>{% endfor %}" + _ASKS
    with pytest.raises(EvaluationError, match=r"the choices 'yes' and 'yes ' are the same tokens to this model"):
        _score(_opened(rich_model, trims), write_rows, rows, choices=("no", "yes", "yes "))


# ------------------------------------------------------------------------------------------------ contexts and answers


def _rows_of_every_kind() -> list[Row]:
    turns = [{"role": "user", "content": "x"}]
    called = [*turns, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": "ok"}]
    null = [*turns, {"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "tool", "content": "ok"}]
    return [
        _chat("two and three", content="five"),
        {"messages": [*called, {"role": "assistant", "content": "done"}]},
        {"messages": [*null, {"role": "assistant", "content": "gone"}], "tools": TOOLS},
        {"messages": [*turns, {"role": "assistant", "content": None, "tool_calls": [CALL]}], "tools": TOOLS},
        _chat("two and four", content="six", reasoning_content="count on"),
        {"messages": [{"role": "system", "content": "be short"}, *turns, {"role": "assistant", "content": "word " * 20 + "end"}]},
    ]


def test_every_kind_of_row_is_asked_as_the_template_prints_it(session: Any, plain: Independent, write_rows: Write) -> None:
    rows = _rows_of_every_kind()
    task, table = _score(session, write_rows, rows, max_new_tokens=8)
    for row, prompt, (_, kept) in zip(rows, task.prompts, table.iterrows(), strict=True):
        context = plain.context(row)
        assert list(prompt.context) == list(prompt.asked) == context
        whole = plain.tokenizer.apply_chat_template(row["messages"], tools=row.get("tools"), tokenize=False)
        trained = list(plain.tokenizer(whole.rstrip("\n"), add_special_tokens=False)["input_ids"])
        assert [*context, *prompt.continuations[0]] == trained, "context and answer are what training reads, the end of the turn included"
        assert kept["gold_logprob"] == pytest.approx(plain.nats(context, trained[len(context) :]), abs=5e-4)
        said = plain.greedy(context, prompt.limit)
        assert f"{kept['reasoning']}{kept['prediction']}".split() == said.split()
        assert prompt.limit > len(prompt.continuations[0]), "a gold that is longer than the limit raises it"
    assert set(table["score"]) == {0.0}


def test_an_answer_that_the_model_gives_is_right_however_it_is_found(session: Any, plain: Independent, write_rows: Write) -> None:
    """Gold answers are the model's own greedy ones: recognised without decoding where they end by themselves, decoded where not."""
    questions = [f"tell {n}" for n in range(6)]
    answers = [plain.greedy(plain.context(_chat(question)), 6) for question in questions]
    rows = [_chat(question, content=answer) for question, answer in zip(questions, answers, strict=True)]
    _, table = _score(session, write_rows, rows, max_new_tokens=6)
    for row, (_, kept) in zip(rows, table.iterrows(), strict=True):
        gold = row["messages"][-1]["content"]
        limit = 1 << (len(plain.answer_ids(gold)) + 1).bit_length()
        said = plain.greedy(plain.context(row), max(min(6, limit), len(plain.answer_ids(gold)) + 1))
        assert (kept["prediction"], kept["score"]) == (said.strip(), float(said.split() == gold.split()))


def test_reasoning_is_set_aside_unless_the_suite_scores_it(session: Any, write_rows: Write) -> None:
    rows = [_chat("two and four", content="six", reasoning_content="count on")]
    for fields, expected in (({}, [1.0, 0.0, 1.0]), ({"score_reasoning": True}, [1.0, 0.0, 0.0])):
        task, _ = _score(session, write_rows, rows, **fields)
        doc = task.test_docs()[0]
        said = ["<think>count on</think>six", "<think>count on</think>five", "<think>another way</think> six"]
        assert [task.process_results(doc, [(-1.0, False), text])["exact_match"] for text in said] == expected
        twice = "<think>count</think>five, no</think>six"
        assert task.process_results(doc, [(-1.0, False), twice])["exact_match"] == float(not fields), (
            "the last close is the one that counts"
        )
        assert task.set_aside(said[2]) == (("<think>another way</think>", " six") if not fields else ("", said[2]))


_ASKS = "{% if add_generation_prompt %}<|assistant|>{% endif %}"


def _ending_with(text: str) -> str:
    """A template whose answers end with a text that is no token."""
    turn = "<|{{ m['role'] }}|>{{ m['content'] }}{% if m['role'] == 'assistant' %}" + text + "{% endif %}"
    return f"{{% for m in messages %}}{turn}{{% endfor %}}{_ASKS}"


@pytest.mark.parametrize("length", [1, 2])
def test_an_answer_ends_with_the_text_that_ends_a_turn_where_that_is_no_token(
    rich_model: Path, plain: Independent, write_rows: Write, length: int
) -> None:
    """The end is a text that the model says of itself, so that what it says before it is known."""
    turns = [{"role": "user", "content": "tell me"}]
    asked = plain.tokenizer.apply_chat_template(turns, chat_template=_ending_with("?"), add_generation_prompt=True, tokenize=False)
    would_say = plain.greedy(plain.tokenizer(asked, add_special_tokens=False)["input_ids"], 20)
    end = would_say[6 : 6 + length]
    said = would_say.partition(end)[0]
    assert said.strip()
    session = _opened(rich_model, _ending_with(end))
    right = {"messages": [*turns, {"role": "assistant", "content": said}]}
    other = {"messages": [{"role": "user", "content": "tell it"}, {"role": "assistant", "content": f"{end}?{end}!"}]}
    for rows in ([right], [right, other]):  # an answer that holds the end itself does not change how the others are read
        _, table = _score(session, write_rows, rows, max_new_tokens=64)
        assert (table.iloc[0]["prediction"], table.iloc[0]["score"]) == (said.strip(), 1.0)


def _opened(model: Path, template: str) -> Any:
    from evals.harness.session import Session

    config = EvaluationConfig(device="cpu", num_threads=1)
    return Session(model, config, ModelUse(chat_template=template), device="cpu", dtype="float32")


def test_an_answer_that_holds_the_text_of_an_end_is_read_to_its_own_end(rich_model: Path, write_rows: Write) -> None:
    session = _opened(rich_model, _ending_with("zz"))
    task, _ = _score(session, write_rows, [_chat("q", content="a zz b"), _chat("r", content="a")])
    with_end, without = task.test_docs()
    said = ["a zz bzz", "a zz bzz and more zz", "a zz b", "azz", "a zz czz"]
    assert [task.process_results(with_end, [(-1.0, False), text])["exact_match"] for text in said] == [1.0, 1.0, 1.0, 0.0, 0.0]
    said = ["azz", "azzazz", "a", "a zz b"]
    assert [task.process_results(without, [(-1.0, False), text])["exact_match"] for text in said] == [1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("answer", ["<|end|>", "say <|end|> now", "say <|eos|>"])
def test_a_right_answer_that_holds_a_token_that_ends_answers_is_one_line(session: Any, write_rows: Write, answer: str) -> None:
    """What follows the token could never be said, and the answer that is left would be another one, or none."""
    from data_contracts.errors import EvaluationError

    with pytest.raises(EvaluationError, match=r"right answer holds '<\|(end|eos)\|>', which ends an answer of this model"):
        _score(session, write_rows, [_chat("q", content=answer), _chat("r", content="fine")])
    _score(session, write_rows, [_chat("q", content=answer)], choices=(answer, "fine"))  # a choice is scored whole


def test_a_template_and_its_variables_reach_the_question(rich_model: Path, write_rows: Write) -> None:
    from evals.harness.fill import harness_settings
    from evals.harness.session import Session

    config = EvaluationConfig(device="cpu", num_threads=1)
    turns = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}<|end|>{% endfor %}"
    template = "{{ greeting }}" + turns + "{% if add_generation_prompt %}[assistant]{% endif %}"
    use = ModelUse(chat_template=template, chat_template_kwargs={"greeting": "Hi! "})
    session = Session(rich_model, config, use, device="cpu", dtype="float32")
    task, _ = _score(session, write_rows, [_chat("q", content="a")])
    assert task.prompts[0].text == "Hi! [user]q<|end|>[assistant]"
    uses = (ModelUse(), use, use.model_copy(update={"chat_template_kwargs": {}}))
    assert len({str(harness_settings(config, each)) for each in uses}) == 3, "what was asked otherwise is never compared"


def test_a_context_longer_than_the_window_is_cut_alike_for_every_choice_and_counted(
    session: Any, plain: Independent, write_rows: Write
) -> None:
    rows = [_chat("why " * 80 + str(n), content="no") for n in range(2)] + [_chat("why", content="no")]
    _, table = _score(session, write_rows, rows, choices=("no", "certainly"))
    longest = len(plain.answer_ids("certainly"))
    for row, (_, kept) in zip(rows, table.iterrows(), strict=True):
        context = plain.context(row)
        assert kept["cut"] == max(0, len(context) + longest - 1 - 256)
        np.testing.assert_allclose(
            kept["choice_logprobs"],
            [plain.nats(context[kept["cut"] :], plain.answer_ids(label)) for label in ("no", "certainly")],
            atol=5e-4,
        )


def test_an_answer_longer_than_the_window_is_one_line(session: Any, write_rows: Write) -> None:
    from data_contracts.errors import EvaluationError

    with pytest.raises(EvaluationError, match="does not fit a model of 256 tokens"):
        _score(session, write_rows, [_chat("q", content="word " * 80)])
