"""Ready sets, the suites that a drop brings, and the items of local files: what is kept, what is refused, what names an item."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import ConfigError, EvaluationError
from data_contracts.manifests import DropManifest, file_ref, write_manifest
from evals.config import EvaluationConfig, SkillPolicy, SuiteConfig
from evals.harness.plan import prefer_local_data
from evals.suites.items import load_items, prompting_digest, select_items, suite_digest
from evals.suites.resolve import ready_sets, resolve_suites, skill_suites

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


def test_the_promised_sets_are_there() -> None:
    assert set(ready_sets()) >= {"general-small", "general-full", "safety", "instruction-following", "drift"}


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


def test_local_data_take_the_place_of_the_hub_where_they_are(write_rows: Write, choice_rows: Rows, tmp_path: Path) -> None:
    write_rows("piqa/suite.jsonl", choice_rows)
    suite = SuiteConfig(name="piqa", source="piqa", items=7, local={"source": "piqa/suite.jsonl", "chat": True})
    local = prefer_local_data(suite, EvaluationConfig(data_folder=str(tmp_path)))
    assert (local.name, local.source, local.chat, local.items) == ("piqa", str(tmp_path / "piqa/suite.jsonl"), True, 7)
    assert prefer_local_data(suite, EvaluationConfig(data_folder=str(tmp_path / "absent"))) == suite


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


def test_supplied_items_keep_their_own_choices(make_drop: Callable[..., Path], choice_rows: Rows) -> None:
    (gate,) = skill_suites("s", make_drop(clean=[_chat("red", n) for n in range(30)], heldout=choice_rows), EvaluationConfig())
    assert {item.choices for item in load_items(gate)} == {tuple(choice_rows[0]["choices"])}


def test_a_drop_without_held_out_items_is_refused(make_drop: Callable[..., Path]) -> None:
    with pytest.raises(EvaluationError, match="no held-out items"):
        skill_suites("s", make_drop(clean=[_chat("a", 1)], heldout=[]), EvaluationConfig())


# ------------------------------------------------------------------------------------------------ items


def test_a_limit_is_a_sample_that_a_larger_limit_contains(write_rows: Write, choice_rows: Rows) -> None:
    items = load_items(SuiteConfig(source=str(write_rows("c.jsonl", choice_rows))))
    few, more = select_items(items, 5), select_items(items, 11)
    assert (len(few), len(more)) == (5, 11)
    assert {item.doc_hash for item in few} <= {item.doc_hash for item in more}
    assert [item for item in items if item in more] == more, "in the order of the file"
    assert few != items[:5], "not just the beginning, which may be sorted by class"


def test_what_names_an_item_is_its_content_and_nothing_else(write_rows: Write, choice_rows: Rows) -> None:
    suite = SuiteConfig(name="c", source=str(write_rows("c.jsonl", choice_rows)))
    tagged = SuiteConfig(name="c", source=str(write_rows("d.jsonl", [{**row, "subject": "art"} for row in choice_rows])))
    assert [item.doc_hash for item in load_items(suite)] == [item.doc_hash for item in load_items(tagged)]
    changed = SuiteConfig(name="c", source=str(write_rows("e.jsonl", [{**row, "gold": (row["gold"] + 1) % 4} for row in choice_rows])))
    assert not {item.doc_hash for item in load_items(suite)} & {item.doc_hash for item in load_items(changed)}


@pytest.mark.parametrize(
    "change", [{"chat": True}, {"prompt": "Q: {{ prompt }}"}, {"separator": ""}, {"few_shot": 1}, {"metric": "acc_norm"}]
)
def test_what_decides_the_prompt_is_in_the_suites_digest(write_rows: Write, choice_rows: Rows, change: dict[str, Any]) -> None:
    suite = SuiteConfig(source=str(write_rows("c.jsonl", choice_rows)))
    other = suite.model_copy(update=change)
    assert prompting_digest(suite) != prompting_digest(other)
    assert suite_digest(suite, load_items(suite)) == suite_digest(suite.model_copy(update={"margin": 0.1}), load_items(suite))


def test_worked_examples_come_first_and_are_not_evaluated(write_rows: Write, answer_rows: Rows) -> None:
    items = load_items(SuiteConfig(source=str(write_rows("a.jsonl", answer_rows)), few_shot=2, prompt="Q: {{ prompt }}"))
    assert len(items) == len(answer_rows) - 2
    assert items[0].prompt == "Q: 0 plus 0 is 0\n\nQ: 1 plus 1 is 2\n\nQ: 2 plus 2 is"
    assert [turn["role"] for turn in items[0].turns] == ["user", "assistant"] * 2 + ["user"]


def test_rows_of_another_shape_are_fitted_by_templates(write_rows: Write) -> None:
    path = write_rows("x.jsonl", [{"prompt": f"p{n}", "safe": n % 2 == 0} for n in range(6)])
    suite = SuiteConfig(source=str(path), where="not safe", choices=("yes", "no"), gold="{{ 0 if safe else 1 }}", cluster="{{ prompt }}")
    items = load_items(suite)
    assert [(item.prompt, item.answer, item.cluster) for item in items] == [("p1", "no", "p1"), ("p3", "no", "p3"), ("p5", "no", "p5")]


def test_a_pattern_of_files_is_one_suite(write_rows: Write, choice_rows: Rows, tmp_path: Path) -> None:
    write_rows("m/b.jsonl", choice_rows[:3])
    write_rows("m/a.jsonl", choice_rows[3:5])
    assert len(load_items(SuiteConfig(name="m", source=str(tmp_path / "m" / "*.jsonl")))) == 5


def _row(**fields: Any) -> str:
    return json.dumps(fields)


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ([], "has no items"),
        (["", "  "], "has no items"),
        ([_row(prompt="p", answer="a"), "{"], r":2: is not JSON"),
        (["[1]"], "is one JSON array"),
        ([_row(prompt="p", answer="a")] * 2, "the same item twice"),
        ([_row(prompt="p")], "no answer"),
        ([_row(prompt="", answer="a")], "empty prompt"),
        ([_row(text="")], "empty text"),
        ([_row(prompt="p", choices=["a", "b"], gold=2)], "gold 2 is not one of the 2 choices"),
        ([_row(prompt="p", choices=["a", "b"], gold=-1)], "gold -1 is not one"),
        ([_row(prompt="p", choices=["a", "b"], gold="1")], "gold '1' is not one of the 2 choices"),
        ([_row(prompt="p", choices=[1, 2, 3], gold=1)], "may be a choice or its index"),
        ([_row(prompt="p", choices=["a", None], gold=0)], "has the choices"),
        ([_row(prompt="p", choices=["a", "b"], gold=True)], "gold True is not one"),
        ([_row(prompt="p", answer=["a", "b"])], "has the answer"),
        ([_row(prompt=None, answer="a")], "null"),
        ([_row(messages=[{"role": "user", "content": "q"}, {"role": "assistant", "content": ""}])], "has no answer"),
        ([_row(messages=["q", "a"])], "no list of turns"),
        ([_row(prompt="p", choices=["a", "a"], gold=0)], "has the choices"),
        ([_row(prompt="p", choices=["a"], gold=0)], "has the choices"),
        ([_row(messages=[{"role": "user", "content": "q"}])], "does not end with an assistant turn"),
        ([_row(question="q", answer="a")], "does not fit the template"),
        ([_row(prompt="p", answer="a"), _row(text="t")], "mixes items"),
    ],
)
def test_bad_files_end_with_a_reason_that_names_the_place(tmp_path: Path, lines: list[str], what: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text("".join(line + "\n" for line in lines))
    with pytest.raises(EvaluationError, match=what) as caught:
        load_items(SuiteConfig(source=str(path)))
    assert str(path) in str(caught.value)
    assert caught.value.way_out


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.jsonl"
    path.write_bytes('{"prompt": "café", "answer": "a"}\n'.encode("latin-1"))
    with pytest.raises(EvaluationError, match="not UTF-8"):
        load_items(SuiteConfig(source=str(path)))


def test_duplicates_can_be_dropped(write_rows: Write, answer_rows: Rows) -> None:
    suite = SuiteConfig(source=str(write_rows("a.jsonl", answer_rows + answer_rows[:3])), duplicates="drop")
    assert len(load_items(suite)) == len(answer_rows)
