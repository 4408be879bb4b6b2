"""Which language a text is in, by its script and its commonest words; a drop that mixes them is warned about."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from data_contracts.checks.language import languages_of, script_of
from data_contracts.config import ContractConfig
from data_contracts.manifests import DropManifest
from data_contracts.rows.words import word_batch
from data_contracts.validate import validate_drop

Chat = Callable[[str, str], str]
Prose = Callable[[int, int], str]


def counts(manifest: DropManifest) -> dict[str, int]:
    return {finding.check: finding.rows for finding in manifest.findings}


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
