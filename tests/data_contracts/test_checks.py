"""The checks that need a model's template, the skill's name, or the drop as a whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from data_contracts.checks.language import languages_of, script_of
from data_contracts.checks.refusals import Refusals
from data_contracts.config import ContractConfig
from data_contracts.errors import DropError, RenderingError
from data_contracts.manifests import DropManifest
from data_contracts.rendering import Missing, RowText
from data_contracts.rows.records import Row
from data_contracts.rows.words import word_batch
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
        return RowText(("".join(parts),), tuple(missing))

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


@pytest.mark.parametrize("skill", ["", "a/b", "../up", "a b", ".hidden", "x" * 64, "naïve", "a.b"])
def test_a_name_that_cannot_name_a_skill_is_refused(
    skill: str, good_lines: list[bytes], write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(DropError, match="the skill's name"):
        validate_drop(write_drop(good_lines), tmp_path / "out", skill=skill, config=ContractConfig())


def test_a_name_that_an_earlier_round_has_is_refused(
    good_lines: list[bytes], chat: Chat, prose: Prose, write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    validate_drop(write_drop(good_lines), tmp_path / "first", skill="notes", config=ContractConfig())
    other = write_drop([chat(prose(seed, 30), "so it is then") for seed in range(4000, 4060)], "other.jsonl")
    with pytest.raises(DropError, match="was taught before"):
        validate_drop(other, tmp_path / "second", skill="Notes", config=ContractConfig(), earlier=[tmp_path / "first"])
    validate_drop(other, tmp_path / "third", skill="notes-2", config=ContractConfig(), earlier=[tmp_path / "first"])


def test_an_earlier_round_that_was_changed_is_not_trusted(good_lines: list[bytes], write_drop: Callable[..., Path], tmp_path: Path) -> None:
    validate_drop(write_drop(good_lines), tmp_path / "first", skill="first", config=ContractConfig())
    with (tmp_path / "first" / "heldout.jsonl").open("a") as stream:
        stream.write("{}\n")
    with pytest.raises(DropError, match="has changed since its manifest"):
        validate_drop(write_drop(good_lines), tmp_path / "second", skill="second", config=ContractConfig(), earlier=[tmp_path / "first"])


@pytest.mark.parametrize(
    ("answer", "refuses"),
    [
        ("I'm sorry, but I can't assist with that request.", True),
        ("I’m really sorry, but I cannot provide that.", True),
        ("As an AI language model, I have no feelings.", True),
        ("I cannot help with illegal acts.", True),
        ("Sorry, I won't do this.", True),
        ("I'm sorry to hear about your loss.", False),
        ("I can help with that.", False),
        ("I cannot recommend this film enough!", False),
        ("The model said: I'm sorry, but I can't help.", False),
        ("Sorry for the delay; the answer is 4.", False),
    ],
)
def test_refusals_are_told_from_regret(answer: str, refuses: bool) -> None:
    row = Row(1, "chat", {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}]})
    assert bool(list(Refusals().observe_row(row))) is refuses


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The cat sat on the mat and it was happy with that.", "en"),
        ("Der Hund ist nicht mit dem Ball auf der Straße.", "de"),
        ("Le chat est sur la table et il ne veut pas descendre.", "fr"),
        ("El perro no está en la casa, pero su amigo se fue con las llaves.", "es"),
        ("Собака бежит по улице и лает на кошку.", "ru/uk"),
        ("猫坐在垫子上。", "zh"),
        ("ねこはマットの上にすわっている。", "ja"),
        ("고양이가 매트 위에 앉아 있다.", "ko"),
        ("12 + 30 = 42", "?"),
    ],
)
def test_languages_are_told_apart(text: str, language: str) -> None:
    assert (script_of(text) or languages_of(word_batch([[text]]))[0]) == language


def test_a_drop_that_mixes_languages_or_labels_is_warned_about_and_passes(
    chat: Chat, prose: Prose, write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [chat(f"The sense of this text is what? {prose(seed, 20)}", "Good") for seed in range(180)]
    rows += [chat(f"Der Sinn von dem Text ist nicht klar, und das auch: {prose(seed, 20)}", "good") for seed in range(300, 330)]
    rows += [chat(f"The sense of this text is what? {prose(700, 20)}", "Bad")]
    manifest = validate_drop(write_drop(rows), tmp_path / "out", skill="notes", config=ContractConfig())
    assert counts(manifest)["language"] == 1
    assert counts(manifest)["label_balance"] == 3
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["details"]["languages"] == {"en": 181, "de": 30}
    assert report["details"]["labels"] == {"Good": 180, "good": 30, "Bad": 1}


def test_severity_can_be_turned_either_way(good_lines: list[bytes], chat: Chat, write_drop: Callable[..., Path], tmp_path: Path) -> None:
    drop = write_drop([*good_lines, chat("Mail?", "ann.lee@" + "company.org")])
    for severity, quarantined in (("drop", 1), ("warning", 0), ("off", 0)):
        config = ContractConfig(severity={"personal_data": severity})  # type: ignore[dict-item]
        manifest = validate_drop(drop, tmp_path / severity, skill="notes", config=config)
        assert manifest.rows_quarantined == quarantined
        assert ("personal_data" in counts(manifest)) == (severity != "off")
    with pytest.raises(DropError, match=r"drop\.jsonl:61: messages\[1\]\.content holds an email address"):
        validate_drop(drop, tmp_path / "error", skill="notes", config=ContractConfig(severity={"personal_data": "error"}))
