"""One loaded model: code of its own runs only where it is trusted, and an answer ends where its turn does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import CheckpointError, EvaluationError
from evals.config import EvaluationConfig, ModelUse, SuiteConfig
from evals.harness.run import evaluate_checkpoint

CODE = {
    "configuration_own.py": "from transformers import LlamaConfig\n\nclass OwnConfig(LlamaConfig):\n    model_type = 'own_llama'\n",
    "modeling_own.py": (
        "from transformers import LlamaForCausalLM\n\nfrom .configuration_own import OwnConfig\n\n\n"
        "class OwnForCausalLM(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    ),
}
AUTO_MAP = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}


def test_code_of_a_models_own_runs_only_where_it_is_trusted(tiny_model: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(tiny_model, own)
    for name, text in CODE.items():
        (own / name).write_text(text)
    config = json.loads((own / "config.json").read_text())
    changed = {"model_type": "own_llama", "auto_map": AUTO_MAP, "architectures": ["OwnForCausalLM"]}
    (own / "config.json").write_text(json.dumps(config | changed))
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"q{n}", "choices": ["red", "blue"], "gold": n % 2}) + "\n" for n in range(6)))
    suites = [SuiteConfig(name="colours", chat=True, source=str(rows))]

    def score(model: Path, name: str, *, trust: bool) -> float:
        use, settings = ModelUse(trust_remote_code=trust), EvaluationConfig(device="cpu", num_threads=1)
        report = evaluate_checkpoint(model, suites, tmp_path / name, config=settings, cache_dir=tmp_path / f"{name}-items", use=use)
        return report.suites[0].score

    assert score(own, "trusted", trust=True) == score(tiny_model, "plain", trust=False), "the same weights under another class"
    with pytest.raises(CheckpointError, match=r"brings its own Python code .*set trust_remote_code: true"):
        score(own, "refused", trust=False)


Write = Callable[..., Path]


def test_generation_stops_at_the_end_of_a_turn_that_is_no_end_of_sequence(rich_model: Path, write_rows: Write, tmp_path: Path) -> None:
    """A model that says one letter, ends its turn and would go on: with the end of sequence alone it never stops."""
    import torch

    from evals.harness.session import Session

    session = Session(rich_model, EvaluationConfig(device="cpu", num_threads=1), ModelUse(), device="cpu", dtype="float32")
    end, letter = (session._tokenizer.convert_tokens_to_ids(token) for token in ("<|end|>", "a"))
    assert session._renderer.end_ids[0] == end != session._tokenizer.eos_token_id

    def forward(input_ids: Any, **_: Any) -> Any:
        from transformers.modeling_outputs import CausalLMOutputWithPast

        logits = torch.zeros(*input_ids.shape, len(session._tokenizer))
        logits[..., letter] = 1.0
        logits[input_ids == letter] = 0.0
        logits[..., end] += (input_ids == letter) * 2.0
        return CausalLMOutputWithPast(logits=logits)

    session._lm.model.forward = forward
    answers = session._lm.generator.answers([(1, 2), (1, 2, 3)], ends=session._renderer.end_ids, stops=(), limit=8)
    assert answers == ["a", "a"]


def test_an_answer_beside_tools_ends_where_the_template_for_tools_ends_it(rich_model: Path, write_rows: Write, tmp_path: Path) -> None:
    from evals.harness.session import Session
    from evals.suites.items import load_items

    both = tmp_path / "both"
    shutil.copytree(rich_model, both)
    (both / "additional_chat_templates").mkdir()
    other = (both / "chat_template.jinja").read_text().replace("<|end|>\n{% endfor %}", "<|tool|>\n{% endfor %}")
    (both / "additional_chat_templates" / "tool_use.jinja").write_text(other)
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "five"}]
    suite = SuiteConfig(name="s", source=str(write_rows("s.jsonl", [{"messages": turns, "tools": [{"name": "f"}]}])), chat=True)
    session = Session(both, EvaluationConfig(device="cpu", num_threads=1), ModelUse(), device="cpu", dtype="float32")
    task = session.task(suite, load_items(suite))
    (prompt,), tokens = task.prompts, session._tokenizer
    assert (prompt.gold, prompt.texts) == ("five", ("five<|tool|>",))
    assert prompt.text.startswith("<|system|>")
    assert {"<|end|>", "<|tool|>", "<|eos|>"} == set(tokens.convert_ids_to_tokens(list(task.reading.ends)))
    assert tokens.decode(prompt.continuations[0]) == "five<|tool|>"


def test_lm_evals_own_chat_tasks_are_asked_in_the_rounds_template_also_where_they_begin_the_answer(rich_model: Path) -> None:
    """arc_challenge_chat and its like put words into the model's mouth (`gen_prefix`)."""
    from evals.harness.session import Session

    turns = (
        "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}<|end|>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    use = ModelUse(chat_template="{{ greeting }}" + turns, chat_template_kwargs={"greeting": "Hi! "})
    session = Session(rich_model, EvaluationConfig(device="cpu", num_threads=1), use, device="cpu", dtype="float32")
    asked = [{"role": "user", "content": "which?"}]
    begun = [*asked, {"role": "assistant", "content": "The best answer is"}]
    rendered = session._tokenizer.apply_chat_template
    variables: dict[str, Any] = {"chat_template": use.chat_template, "greeting": "Hi! ", "tokenize": False}
    assert session._lm.apply_chat_template(asked, True) == rendered(asked, add_generation_prompt=True, **variables)
    assert session._lm.apply_chat_template(begun, False) == rendered(begun, continue_final_message=True, **variables)


def test_a_chat_suite_needs_a_chat_template(tiny_model: Path, write_rows: Write, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(tiny_model, bare, ignore=shutil.ignore_patterns("chat_template*"))
    settings = json.loads((bare / "tokenizer_config.json").read_text())
    (bare / "tokenizer_config.json").write_text(json.dumps({name: value for name, value in settings.items() if name != "chat_template"}))
    suite = SuiteConfig(name="s", chat=True, source=str(write_rows("s.jsonl", [{"prompt": "q", "answer": "a"}])))
    config = EvaluationConfig(device="cpu", num_threads=1)
    with pytest.raises(EvaluationError, match="has no chat template"):
        evaluate_checkpoint(bare, [suite], tmp_path / "out", config=config, cache_dir=tmp_path / "items")
    plain = suite.model_copy(update={"chat": False})
    assert evaluate_checkpoint(bare, [plain], tmp_path / "out", config=config, cache_dir=tmp_path / "items").suites[0].n == 1
