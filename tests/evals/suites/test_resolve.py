"""Ready sets, the suites that a drop brings, and the items of local files: what is kept, what is refused, what names an item."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import ConfigError, EvaluationError
from data_contracts.manifests import DropManifest, file_ref, write_manifest
from evals.config import EvaluationConfig, SkillPolicy, SuiteConfig
from evals.harness.plan import prefer_local_data
from evals.suites.items import load_items
from evals.suites.resolve import _closed_set, ready_sets, resolve_suites, skill_suites

Write = Callable[..., Path]
Rows = list[dict[str, Any]]


# ------------------------------------------------------------------------------------------------ sets


@pytest.mark.parametrize("name", ready_sets())
def test_ready_sets_resolve_and_their_own_files_load(name: str, tmp_path: Path) -> None:
    suites = resolve_suites([SuiteConfig(source=name)], tmp_path)
    assert suites
    for suite in suites:
        if suite.is_file:
            items = load_items(suite)
            assert len(items) >= 30, "fewer items decide nothing at the gate"
            assert len({item.doc_hash for item in items}) == len(items)
    assert resolve_suites(suites, Path("/elsewhere")) == suites, "resolving twice changes nothing"


@pytest.mark.parametrize("name", ready_sets())
def test_the_local_files_of_a_ready_set_load(name: str, tmp_path: Path) -> None:
    root = Path(os.environ.get("SKILLSTACK_DATA", Path(__file__).parents[4] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip("no real text: set SKILLSTACK_DATA to a folder with mmlu/*.jsonl and the like")
    for suite in resolve_suites([SuiteConfig(source=name)], tmp_path):
        local = prefer_local_data(suite, EvaluationConfig(data_folder=str(root)))
        assert not local.is_file or len(load_items(local)) >= 30


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("it is 15, as 12, 15, say", "15"),
        ("so 18 dollars.", "18"),
        ("$2,125.", "2,125"),
        ("12,3", "3"),
        ("it is -3.", "-3"),
        ("3.5", "3.5"),
    ],
)
def test_the_last_number_of_an_answer_is_found_without_the_marks_behind_it(said: str, number: str, tmp_path: Path) -> None:
    (gsm8k,) = (suite for suite in resolve_suites([SuiteConfig(source="general-full")], tmp_path) if suite.name == "gsm8k")
    assert re.findall(gsm8k.local["answer_pattern"], said)[-1] == number


def test_a_set_with_a_key_twice_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("suites:\n  - source: a.jsonl\n    chat: true\n    items: 5\n    chat: false\n")
    with pytest.raises(ConfigError, match=r"mine.yaml:5: the key 'suites\[0\].chat' is on line 3 too"):
        resolve_suites([SuiteConfig(source="mine.yaml")], tmp_path)


def test_the_promised_sets_are_there() -> None:
    assert set(ready_sets()) >= {"general-small", "general-full", "safety", "instruction-following", "drift"}


def _repeated(word: str, times: str) -> str:
    return " ".join([word] * int(times))


def _fulfilled(prompt: str) -> str:
    """What an instruction of the packaged set asks for, read from its words."""
    rules: tuple[tuple[str, Callable[..., str]], ...] = (
        (r"Reply with the single word (\w+) and nothing else\.", str),
        (r"Write this in capital letters, and write nothing else: (.+)", str.upper),
        (r"Write this in small letters, and write nothing else: (.+)", str.lower),
        (r"Join these words with commas and no spaces, and write nothing else: (.+)", lambda words: words.replace(" ", ",")),
        (r"Write only the last of these words: (.+)", lambda words: words.split()[-1]),
        (r"Write only the first of these words: (.+)", lambda words: words.split()[0]),
        (
            r"Repeat the word (\w+) (\d) times, separated by single spaces, and write nothing else\.",
            lambda word, n: " ".join([word] * int(n)),
        ),
        (r"Repeat this sentence exactly: (.+)", str),
        (r"Fill in the name (\w+) and write only the result: (.+)", lambda name, form: form.replace("[name]", name)),
    )
    [answer] = [say(*found.groups()) for form, say in rules if (found := re.fullmatch(form, prompt))]
    return answer


def test_the_packaged_instructions_are_right_and_enough_for_the_floor(tmp_path: Path) -> None:
    (suite,) = resolve_suites([SuiteConfig(source="instruction-following")], tmp_path)
    items = load_items(suite)
    assert 0.05 * len(items) > 10, "a handful of answers must not fall through the floor"
    assert [_fulfilled(item.turns[-1]["content"]) for item in items] == [item.answer for item in items]


def test_paths_are_taken_from_the_config_files_folder(tmp_path: Path) -> None:
    (suite,) = resolve_suites([SuiteConfig(source="data/a.jsonl", few_shot_source="data/b.jsonl", data={"test": "c.jsonl"})], tmp_path)
    assert suite.source == str(tmp_path / "data/a.jsonl")
    assert suite.few_shot_source == str(tmp_path / "data/b.jsonl")
    assert suite.data == {"test": str(tmp_path / "c.jsonl")}


def test_a_set_of_ones_own_and_an_lm_eval_task_file_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("suites:\n  - {source: a.jsonl}\n  - {source: b.jsonl, chat: true}\n")
    (tmp_path / "task.yaml").write_text("task: my_task\ndataset_path: json\n")
    names = [suite.name for suite in resolve_suites([SuiteConfig(source="mine.yaml"), SuiteConfig(source="task.yaml")], tmp_path)]
    assert names == ["a", "b", "task"]


@pytest.mark.parametrize(
    ("content", "what"), [("suites: [{nmae: x}]", "not a suite set"), ("- a\n- b", "not a suite set"), (None, "cannot be read")]
)
def test_a_set_that_cannot_be_used_is_refused(tmp_path: Path, content: str | None, what: str) -> None:
    if content is not None:
        (tmp_path / "bad.yaml").write_text(content)
    with pytest.raises(ConfigError, match=what):
        resolve_suites([SuiteConfig(source="bad.yaml")], tmp_path)


def test_two_suites_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="more than once"):
        resolve_suites([SuiteConfig(source="a.jsonl"), SuiteConfig(source="other/a.jsonl")], tmp_path)


# ------------------------------------------------------------------------------------------------ skills


@pytest.fixture
def make_drop(write_rows: Write, tmp_path: Path) -> Callable[..., Path]:
    def make(**splits: Rows) -> Path:
        folder = tmp_path / "drop"
        files = {role: write_rows(f"drop/{role}.jsonl", rows) for role, rows in splits.items()}
        counts = {
            "rows_clean": len(splits["clean"]),
            "rows_heldout": len(splits.get("heldout", [])),
            "rows_sealed": len(splits.get("sealed", [])),
        }
        write_manifest(
            folder,
            DropManifest(
                skill="s", source="s.jsonl", source_sha256="0", contract="c", contract_version="1", rows_read=0, rows_quarantined=0,
                files={role: file_ref(folder, path) for role, path in files.items()}, **counts,
            ),
        )  # fmt: skip
        return folder

    return make


def _chat(answer: str, n: int) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": answer}]}


def test_answers_from_a_small_closed_set_become_multiple_choice(make_drop: Callable[..., Path]) -> None:
    drop = make_drop(
        clean=[_chat(["a", "b", "c"][n % 3], n) for n in range(30)],
        heldout=[_chat(["a", "b"][n % 2], n) for n in range(8)],
        sealed=[_chat("a", n) for n in range(5)],
    )
    gate, sealed = skill_suites("s", drop, EvaluationConfig())
    assert (gate.name, sealed.name, gate.sealed, sealed.sealed) == ("s", "s.sealed", False, True)
    assert gate.choices == sealed.choices == ("a", "b", "c"), "the set is that of training and held-out rows together"
    assert (gate.category, gate.chat) == ("skill", True)
    assert {item.kind for item in load_items(gate)} == {"choice"}
    assert [item.answer for item in load_items(gate)] == ["a", "b"] * 4


def test_white_space_around_an_answer_makes_no_class_of_its_own(make_drop: Callable[..., Path]) -> None:
    """Half of the templates cut it off: two such choices would be the same to the model, and the second could not win."""
    drop = make_drop(
        clean=[_chat(["a", "a ", " b\n"][n % 3], n) for n in range(30)], heldout=[_chat(["a ", "b", "a", " b"][n % 4], n) for n in range(8)]
    )
    (gate,) = skill_suites("s", drop, EvaluationConfig())
    assert gate.choices == ("a", "b")
    assert [item.answer for item in load_items(gate)] == ["a", "b"] * 4


@pytest.mark.parametrize("policy", [SkillPolicy(metric="exact_match"), SkillPolicy(max_classes=2)])
def test_a_policy_can_ask_for_exact_match(make_drop: Callable[..., Path], policy: SkillPolicy) -> None:
    rows = [_chat(["a", "b", "c"][n % 3], n) for n in range(30)]
    (gate,) = skill_suites("s", make_drop(clean=rows, heldout=rows[:9]), EvaluationConfig(skill=policy))
    assert {item.kind for item in load_items(gate)} == {"answer"}


def test_free_answers_of_a_small_drop_are_no_closed_set(make_drop: Callable[..., Path]) -> None:
    rows = [_chat(f"answer {n}", n) for n in range(15)]
    (gate,) = skill_suites("s", make_drop(clean=rows[:10], heldout=rows[10:]), EvaluationConfig())
    assert gate.choices == ()
    assert {item.kind for item in load_items(gate)} == {"answer"}


def test_a_drop_of_free_answers_is_read_no_further_than_needed(make_drop: Callable[..., Path]) -> None:
    """A learned drop may have 200,000 rows, and every round asks for its choices: what comes after three answers is not looked at."""
    drop = make_drop(clean=[_chat(f"answer {n}", n) for n in range(3)], heldout=[_chat("answer 0", 3)])
    with (drop / "clean.jsonl").open("a") as stream:
        stream.write("what is no row is an error where it is read\n")
    with pytest.raises(EvaluationError, match="is not JSON"):
        _closed_set([drop / "clean.jsonl"], SkillPolicy(max_classes=3))
    assert _closed_set([drop / "clean.jsonl"], SkillPolicy(max_classes=2)) == ()


def test_supplied_items_keep_their_own_choices(make_drop: Callable[..., Path], choice_rows: Rows) -> None:
    (gate,) = skill_suites("s", make_drop(clean=[_chat("red", n) for n in range(30)], heldout=choice_rows), EvaluationConfig())
    assert {item.choices for item in load_items(gate)} == {tuple(choice_rows[0]["choices"])}


def test_a_drop_without_held_out_items_is_refused(make_drop: Callable[..., Path]) -> None:
    with pytest.raises(EvaluationError, match="no held-out items"):
        skill_suites("s", make_drop(clean=[_chat("a", 1)], heldout=[]), EvaluationConfig())


# ------------------------------------------------------------------------------------------------ items
