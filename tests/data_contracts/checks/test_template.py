"""The model's own template prints each row, or the check names what it refuses, leaves out or would cut."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_contracts.config import ContractConfig
from data_contracts.errors import RenderingError
from data_contracts.manifests import DropManifest
from data_contracts.rendering import Missing, RowText
from data_contracts.validate import validate_drop

LENIENT = ContractConfig(max_bad_fraction=1.0, max_dropped_fraction=1.0)
Chat = Callable[[str, str], str]
Prose = Callable[[int, int], str]


class Template:
    """A small ChatML template that refuses what templates refuse, and drops what some of them drop."""

    max_tokens = 60

    def render(self, rows: Sequence[Mapping[str, Any]]) -> list[RowText | RenderingError]:
        return [self._render_one(row["messages"]) for row in rows]

    def _render_one(self, messages: Sequence[Mapping[str, Any]]) -> RowText | RenderingError:
        if any(turn["role"] == "tool" for turn in messages):
            return RenderingError("", "the chat template refuses it: Only user and assistant roles are supported!")
        parts = [f"<|im_start|>{turn['role']}\n{turn['content'].strip()}<|im_end|>\n" for turn in messages if turn["role"] != "system"]
        missing = [Missing("messages[0] (system)", final=False)] if messages[0]["role"] == "system" else []
        if "swallow" in messages[-1]["content"]:
            missing.append(Missing("messages[1] (assistant)", final=True))
        ends = tuple(mark for mark in ("<eos>", "</s>") if mark in messages[-1]["content"])
        return RowText(("".join(parts),), tuple(missing), ends)

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]


def counts(manifest: DropManifest) -> dict[str, int]:
    return {finding.check: finding.rows for finding in manifest.findings}


def test_rows_that_the_model_s_template_refuses_or_swallows_are_named(
    chat: Chat, prose: Prose, write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [chat(prose(seed, 30), prose(600 + seed, 10)) for seed in range(60)]
    call = {"role": "assistant", "tool_calls": [{"id": "1"}]}
    tools = [{"role": "user", "content": "a"}, call, {"role": "tool", "content": "b"}, {"role": "assistant", "content": "c"}]
    rows[9] = json.dumps({"messages": tools})
    rows[19] = chat("Say it.", "I swallow this answer.")
    rows[29] = chat(prose(29, 90), "A long one.")
    ordered = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}]
    rows[39] = json.dumps({"messages": ordered})
    manifest = validate_drop(write_drop(rows), tmp_path / "out", skill="notes", config=LENIENT, renderer=Template())
    assert counts(manifest)["template"] == 2
    assert counts(manifest)["template_change"] == 1
    assert counts(manifest)["too_long"] == 1
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    reasons = {
        example["line"]: example["reason"]
        for finding in report["findings"]
        if finding["check"] == "template"
        for example in finding["examples"]
    }
    assert "Only user and assistant roles" in reasons[10]
    assert "leaves messages[1]" in reasons[20]
    assert report["details"]["length"]["over_limit"] == 1
    assert sum(part["rows"] for part in report["details"]["length"]["bins"]) == 59


def test_a_turn_that_holds_what_ends_an_answer_of_this_model_is_left_out_once(
    chat: Chat, prose: Prose, write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    """Whatever it looks like: `<eos>` is plain text to one model and the end to another."""
    rows = [chat(prose(seed, 30), prose(600 + seed, 10)) for seed in range(60)]
    rows[9], rows[19] = chat(prose(9, 30), "It ends <eos> here."), chat(prose(19, 30), "And </s> here.")
    manifest = validate_drop(write_drop(rows), tmp_path / "out", skill="notes", config=LENIENT, renderer=Template())
    assert counts(manifest)["control_token"] == 2
    assert validate_drop(write_drop(rows), tmp_path / "other", skill="notes", config=LENIENT).rows_read == 60
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    [found] = [finding for finding in report["findings"] if finding["check"] == "control_token"]
    assert {example["line"]: example["reason"] for example in found["examples"]} == {
        10: "holds '<eos>', with which this model ends an answer",
        20: "text 2 holds '</s>', which chat templates use as a mark",
    }
