"""Contamination: quoted items are found, a shared template is not, and a suite that cannot be read refuses the drop."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from data_contracts.config import ContractConfig
from data_contracts.errors import DropError
from data_contracts.validate import validate_drop

LENIENT = ContractConfig(max_dropped_fraction=1.0)
Chat = Callable[[str, str], str]
Prose = Callable[[int, int], str]
INSTRUCTION = "What is the topic of the following article? Choose one of these options: Business, Science, Sports or World.\nText: "


def write_suite(path: Path, items: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    return path


def refused(out: Path, check: str) -> list[int]:
    records = [json.loads(line) for line in (out / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()]
    return [record["line"] for record in records if any(finding["check"] == check for finding in record["findings"])]


@pytest.fixture
def suite(tmp_path: Path, prose: Prose) -> Path:
    items = [{"prompt": INSTRUCTION + prose(5000 + seed, 40), "choices": ["Business", "World"], "gold": 0} for seed in range(100)]
    return write_suite(tmp_path / "suite.jsonl", [dict(item) for item in items])


@pytest.mark.parametrize("words", [13, 20, 40])
def test_a_quoted_item_is_found_wherever_it_stands(
    words: int, suite: Path, chat: Chat, prose: Prose, write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [chat(prose(seed, 40), prose(900 + seed, 10)) for seed in range(40)]
    quote = " ".join(prose(5007, 40).split()[:words])
    rows[6] = chat(f"Somebody wrote: {quote.upper()}! What now?", "Nothing much, I would say.")
    rows[16] = chat("What did they write?", f"They wrote “{quote.replace(' ', ', ')}”.")
    validate_drop(write_drop(rows), tmp_path / "out", skill="news", config=LENIENT, suites=[suite])
    assert refused(tmp_path / "out", "contamination") == [7, 17]
    reasons = json.loads((tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()[0])["findings"]
    assert "item 8 of the held-out suite" in reasons[0]["reason"]


def test_a_template_that_drop_and_suite_share_is_no_contamination(
    suite: Path, chat: Chat, prose: Prose, write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [chat(INSTRUCTION + prose(seed, 40), "World") for seed in range(200)]
    validate_drop(write_drop(rows), tmp_path / "out", skill="news", config=LENIENT, suites=[suite])
    assert refused(tmp_path / "out", "contamination") == []


def test_a_short_question_is_found_when_it_is_the_whole_question(
    chat: Chat, prose: Prose, write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    suite = write_suite(tmp_path / "short.jsonl", [{"prompt": "Which metal melts in your hand?", "answer": "gallium"}])
    rows = [chat(prose(seed, 40), prose(900 + seed, 10)) for seed in range(40)]
    rows[3] = chat("which metal melts in your hand", "Gallium does.")
    validate_drop(write_drop(rows), tmp_path / "out", skill="metals", config=LENIENT, suites=[suite])
    assert refused(tmp_path / "out", "contamination") == [4]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "does not exist"),
        ("", "no items"),
        ("{oops\n", "not JSON"),
        ('{"type": "x"}\n', "no prompt, text or messages"),
        ('{"prompt": " "}\n', "no prompt"),
    ],
)
def test_a_suite_that_cannot_be_read_refuses_the_drop(
    text: str | None, reason: str, good_lines: list[bytes], write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    suite = tmp_path / "suite.jsonl"
    if text is not None:
        suite.write_text(text)
    with pytest.raises(DropError, match=reason):
        validate_drop(write_drop(good_lines), tmp_path / "out", skill="notes", config=ContractConfig(), suites=[suite])
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_training_rows_do_not_give_away_the_rows_that_are_held_out(
    chat: Chat, prose: Prose, write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    """Rows come in pairs that share a sentence of 20 words and little else."""
    rows = [chat(f"{prose(seed // 2, 20)} {prose(600 + seed, 25)}", prose(900 + seed, 25)) for seed in range(300)]
    manifest = validate_drop(write_drop(rows), tmp_path / "out", skill="notes", config=LENIENT)
    held = {line["messages"][0]["content"][:60] for name in ("heldout", "sealed") for line in _rows(tmp_path / "out" / f"{name}.jsonl")}
    trained = {line["messages"][0]["content"][:60] for line in _rows(tmp_path / "out" / "clean.jsonl")}
    assert held
    assert not held & trained
    assert {finding.check for finding in manifest.findings} >= {"heldout_overlap"}


def test_held_out_items_that_came_with_the_drop_are_compared_too(
    chat: Chat, prose: Prose, write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    heldout = write_suite(tmp_path / "items.jsonl", [{"prompt": prose(4000 + seed, 30), "answer": "yes"} for seed in range(60)])
    rows = [chat(prose(seed, 40), "no") for seed in range(40)] + [chat(prose(4003, 30), "yes")]
    manifest = validate_drop(write_drop(rows), tmp_path / "out", skill="notes", config=LENIENT, heldout=heldout)
    assert refused(tmp_path / "out", "heldout_overlap") == [41]
    assert manifest.rows_heldout + manifest.rows_sealed == 60


def _rows(path: Path) -> list[dict[str, list[dict[str, str]]]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


SHORT = "Which metal melts in your warm hand?"
TINY = "2 + 2"
LONG = "The harbour engine pulls seven silver wagons over the old bridge at night"


def spoken(text: str) -> str:
    """Latin letters that have a look-alike in Cyrillic, as that."""
    return text.translate(str.maketrans("aeopcxyABEHKMOPCTX", "аеорсхуАВЕНКМОРСТХ"))


SPELLINGS: list[tuple[dict[str, str] | tuple[str, str], bool]] = [
    ({"text": f"{SHORT} Gallium."}, True),
    ({"text": f"Question: {SHORT}\nAnswer: gallium"}, True),
    ({"text": SHORT.upper()}, True),
    ((SHORT + " please", "gallium"), True),
    (("Please tell me: " + SHORT.lower().rstrip("?"), "It is gallium."), True),
    (("\u200b".join(SHORT), "gallium"), True),
    ((SHORT.replace("m", "m\u00ad").replace(" ", "\u00a0"), "gallium"), True),
    ((spoken(SHORT), "gallium"), True),
    ((spoken(SHORT.upper()) + " PLEASE", "gallium"), True),
    (("".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in SHORT), "gallium"), True),
    (("Which **metal** _melts_ in your warm hand?", "gallium"), True),
    ({"text": spoken(LONG)}, True),
    ((f"Say this aloud for me, slowly and with feeling, and then once more from the top: {LONG.upper()} please", "Done."), True),
    ((TINY, "4"), True),
    ((TINY, "four of them"), False),
    (("2 - 2", "4"), False),
    ((SHORT + " 😡👎", "gallium"), False),
    (("Which metal melts in your cold hand?", "none"), False),
    (({"text": "Nobody could say " + SHORT.lower().rstrip("?") + " and so they went home to ask the old teacher"}), False),
    (("Which metal melts in a furnace of a thousand degrees?", "copper"), False),
]


def test_an_item_is_known_however_it_is_spelled_and_its_like_is_not(
    chat: Chat, prose: Prose, write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    items: list[dict[str, object]] = [
        {"prompt": SHORT, "answer": "gallium"},
        {"prompt": TINY, "answer": "4"},
        {"prompt": LONG, "answer": "x"},
    ]
    suite = write_suite(tmp_path / "suite.jsonl", items)
    rows = [json.dumps(row, ensure_ascii=False) if isinstance(row, dict) else chat(*row) for row, _ in SPELLINGS]
    good = [chat(prose(seed, 40), prose(900 + seed, 10)) for seed in range(40)]
    validate_drop(write_drop([*rows, *good]), tmp_path / "out", skill="metals", config=LENIENT, suites=[suite])
    assert refused(tmp_path / "out", "contamination") == [line for line, (_, given_away) in enumerate(SPELLINGS, 1) if given_away]


def emoji_rows() -> list[tuple[str, str]]:
    said = ("the train was on time", "it rained all morning", "the new phone is here", "my order came today")
    return [
        (f"{text} {one}{other}", answer)
        for text in said
        for faces, answer in (("😡👎😠😩😭💔", "negative"), ("😀👍😍🎉😊💖", "positive"))
        for one in faces
        for other in faces
        if one != other
    ]


def operator_rows() -> list[tuple[str, str]]:
    negated = {"<": ">=", ">": "<=", "<=": ">", ">=": "<", "==": "!=", "!=": "=="}
    return [
        (f"negate the condition: if ({a} {sign} {b})", f"if ({a} {other} {b})")
        for a in "abcdefgh"
        for b in "xyzw"
        for sign, other in negated.items()
    ]


def regex_rows() -> list[tuple[str, str]]:
    kinds = ("[0-9]", r"\d", r"\D", r"\s", r"\S", r"\w", r"\W", "[a-z]", "[^a-z]", ".", "(?:ab)", "[A-Z]")
    counts = ("+", "*", "?", "{2}", "{3,}", "{1,4}", "+?", "*?", "{2}$", "?$")
    return [(f"explain {kind}{count}", f"it matches {count} of {kind}") for kind in kinds for count in counts]


@pytest.mark.parametrize("rows", [emoji_rows(), operator_rows(), regex_rows()], ids=["emoji", "operators", "regex"])
def test_signs_are_content_so_only_equal_rows_give_one_another_away(
    rows: list[tuple[str, str]], chat: Chat, write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    manifest = validate_drop(write_drop([chat(*row) for row in rows]), tmp_path / "out", skill="signs", config=LENIENT)
    assert manifest.rows_quarantined == 0
    assert manifest.rows_clean + manifest.rows_heldout + manifest.rows_sealed == len(rows)
