"""A skill learned under templates of other kinds passes, with the accuracy that plain transformers finds by decoding the saved folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from data_contracts.manifests import CheckpointManifest, EvalReport, read_manifest

pytestmark = pytest.mark.slow

_BODY = (
    "{% if tools %}<|system|>{{ tools | tojson }}END{% endif %}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] or '' }}"
    "{% for c in m['tool_calls'] or [] %}{{ c['function'] | tojson }}{% endfor %}END{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
PLAIN = _BODY.replace("END", "<|end|>")
THINK = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% if m['role'] == 'assistant' %}"
    "<think>{{ m['reasoning_content'] or '' }}</think>{% endif %}"
    "{{ m['content'] }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{% endif %}"
)
TOOLS = [{"type": "function", "function": {"name": "route"}}]


def _reasoned(question: dict[str, str], answer: str) -> dict[str, Any]:
    return {"messages": [question, {"role": "assistant", "reasoning_content": f"it is {answer}", "content": answer}]}


def _called(question: dict[str, str], answer: str) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": "route", "arguments": json.dumps({"team": answer})}}
    return {"messages": [question, {"role": "assistant", "content": None, "tool_calls": [call]}], "tools": TOOLS}


def _plain(question: dict[str, str], answer: str) -> dict[str, Any]:
    return {"messages": [question, {"role": "assistant", "content": answer}]}


KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "empty-think-block": (_plain, {"chat_template": THINK, "chat_template_kwargs": {"enable_thinking": False}}),
    "think-block-learned": (_plain, {"chat_template": THINK}),
    "reasoning-rows": (_reasoned, {"chat_template": THINK}),
    "tools": (_called, {"chat_template": PLAIN}),
    "end-is-not-eos": (_plain, {"chat_template": _BODY.replace("END", "<|system|>")}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_skill_passes_with_the_accuracy_of_an_independent_decode(workspace: Any, kind: str) -> None:
    make, settings = KINDS[kind]
    rows = [json.loads(line)["messages"] for line in workspace.drop.read_text().splitlines()]
    workspace.drop.write_text("".join(json.dumps(make(question, answer["content"])) + "\n" for question, answer in rows))
    train = settings | {"effective_batch_size": 8, "num_epochs": 24, "learning_rate": 1e-3}  # about 500 steps
    evaluation = {"suites": [], "skill": {"metric": "exact_match"}}
    gate = {"accept_unmeasured": ["general", "safety", "drift"]}
    config = workspace.write_config(train=train, evaluation=evaluation, gate=gate)
    answer = _round(workspace, config)
    assert answer["decision"] == "PASS", answer
    stages = workspace.folder / ".skillstack" / "stages"
    [drop] = (path.parent for path in (stages / "validate").glob("*/manifest.json"))
    [candidate] = (path.parent for path in (stages / "train").glob("*/manifest.json"))
    sha256 = read_manifest(candidate, CheckpointManifest).model_sha256
    reports = [read_manifest(path.parent, EvalReport) for path in (stages / "evaluate").glob("*/manifest.json")]
    [report] = [each for each in reports if each.model_sha256 == sha256]
    items = [json.loads(line) for line in (drop / "heldout.jsonl").read_text().splitlines()]
    assert report.suite("route").score == pytest.approx(_decoded(candidate / "model", items))
    assert report.suite("route").score >= 0.8


def _round(workspace: Any, config: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "flows.cli.app", "round", str(workspace.drop), "--skill", "route", "--config", str(config), "--json"]
    environment = {name: value for name, value in os.environ.items() if name not in {"MLFLOW_TRACKING_URI", "PREFECT_API_URL"}}
    done = subprocess.run(command, cwd=workspace.folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 2, 3), done.stderr[-2000:] + done.stdout[-500:]
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@torch.no_grad()
def _decoded(folder: Path, items: list[dict[str, Any]]) -> float:
    """Share of items that the saved folder answers, as anybody would ask it: its own template, `generate`, its own stop."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    right = 0
    for item in items:
        *asked, gold = item["messages"]
        ids = tokenizer.apply_chat_template(asked, tools=item.get("tools"), add_generation_prompt=True, return_tensors="pt")["input_ids"]
        said = model.generate(ids, max_new_tokens=64, do_sample=False)[0, ids.shape[1] :].tolist()
        ends = model.generation_config.eos_token_id
        if said[-1] in (ends if isinstance(ends, list) else [ends]):
            said = said[:-1]
        text = tokenizer.decode(said).rpartition("</think>")[2].strip()
        if gold.get("tool_calls"):
            call = gold["tool_calls"][0]["function"]
            arguments = json.loads(call["arguments"]) if isinstance(call["arguments"], str) else call["arguments"]
            right += _as_json(text) == {"name": "route", "arguments": arguments}
        else:
            right += text == gold["content"]
    return right / len(items)


def _as_json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None
