"""What the coming round can show is said before training, with the real numbers of the drop and of the suites."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from data_contracts.errors import ConfigError, LineageError
from data_contracts.manifests import DropManifest
from evals.designs import MarginDraw
from evals.gate.plan import margin_shown_by, plan_round
from evals.gate.policy import GatePolicy
from flows.config.model import SkillstackConfig, parse_config
from flows.lineage import VersionRef
from flows.round.planning import (
    PlannedSuite,
    _new_skill,
    check_names,
    no_longer_asked,
    plan_next_round,
    plan_suites,
    plan_with_drop,
    what_is_missing,
)
from flows.round.reports import require_whole_chain


def config(tmp_path: Path, **sections: Any) -> SkillstackConfig:
    return parse_config(sections, where="test", folder=tmp_path)


def drop(heldout: int, clean: int = 500) -> DropManifest:
    return DropManifest(
        skill="tickets", source="d.jsonl", source_sha256="0", contract="c", contract_version="1", rows_read=clean + heldout,
        rows_clean=clean, rows_heldout=heldout, rows_sealed=0, rows_quarantined=0,
    )  # fmt: skip


ACCEPTED = {"accept_unmeasured": ["general", "safety", "drift"]}


@pytest.mark.parametrize(
    ("heldout", "words"),
    [
        (12, "tickets has 12 held-out items, but a gain needs at least 30: set contract.heldout_fraction: 0.06"),
        (32, "enough to decide whether it is learned. Later rounds need about "),
        (90, "or set a margin that 90 items can show: evaluation.skills: {tickets: {margin: 0.0"),
    ],
)
def test_the_drops_own_held_out_rows_are_what_is_planned_with(tmp_path: Path, heldout: int, words: str) -> None:
    notes = what_is_missing(config(tmp_path, gate=ACCEPTED, calibration="c.jsonl"), [], drop(heldout))
    assert words in " ".join(notes)


def test_enough_items_need_no_word(tmp_path: Path) -> None:
    assert what_is_missing(config(tmp_path, gate=ACCEPTED, calibration="c.jsonl"), [], drop(900)) == ()


def test_the_margin_that_is_offered_is_the_smallest_that_is_shown() -> None:
    margin = margin_shown_by(GatePolicy(), 90, 0.05)

    def chance(asked: float) -> float:
        return plan_round(GatePolicy(), {}, 90, 0.05, own_margins={"x": ("skill", asked)}).categories[0].chance_shown

    assert chance(margin - 0.01) < 0.8 <= chance(margin)


@pytest.mark.parametrize("earlier", [0, 4])
def test_the_margin_that_is_offered_is_one_that_the_skill_shows_alone(tmp_path: Path, earlier: int) -> None:
    """A skill with a margin of its own leaves the mean of all skills, so that the others' items do not help it."""
    [note] = _new_skill(config(tmp_path, gate=ACCEPTED), drop(91), earlier, 0.05)
    [offered] = re.findall(r"margin: (0\.\d\d)", note)
    [plan] = plan_round(GatePolicy(), {}, 91, 0.05, own_margins={"tickets": ("skill", float(offered))}).categories
    assert plan.chance_shown >= 0.8


def test_earlier_skills_with_margins_of_their_own_lend_the_new_one_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate averages only suites without one: as the sole member of its mean a skill needs what it would need alone."""
    singly = [PlannedSuite(f"old{number}", "skill", 0.05, 250, 250) for number in range(4)]
    settings = config(tmp_path, gate=ACCEPTED, calibration="c.jsonl")

    def told(earlier: list[PlannedSuite]) -> str:
        monkeypatch.setattr("flows.round.planning.planned_suites", lambda *_: earlier)
        return " ".join(note for note in what_is_missing(settings, [], drop(250), (0.05, "")) if note.startswith("tickets"))

    alone = plan_round(settings.gate, {"skill": 1}, 250, 0.05).categories[0].items_needed
    assert f"Later rounds need about {alone:,} to rule out" in told(singly)
    assert told([dataclasses.replace(suite, margin=None) for suite in singly]) == "", "together their mean needs no more"
    few = [dataclasses.replace(suite, margin=None, items=20, first=20) for suite in singly]
    assert f"Later rounds need about {alone:,} to rule out" in told(few)


def test_a_later_attempt_is_planned_as_strictly_as_it_will_be_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suites = [PlannedSuite(f"{kind}{number}", kind, None, 300, 300) for kind in ("skill", "general") for number in range(3)]  # type: ignore[arg-type]
    monkeypatch.setattr("flows.round.planning.planned_suites", lambda *_: suites)
    settings = config(tmp_path, gate={"accept_unmeasured": ["safety", "drift"]}, calibration="c.jsonl")

    def told(attempt: int) -> list[str]:
        return [note for note in what_is_missing(settings, [], drop(900), (0.05, ""), attempt) if "the chance to show a loss" in note]

    assert [len(told(attempt)) for attempt in (1, 2)] == [0, 2]
    needed = plan_round(settings.gate, {"skill": 3}, 300, 0.05, 2).categories[0].items_needed
    assert f"about {needed:,} items per suite" in told(2)[0]
    assert needed > plan_round(settings.gate, {"skill": 3}, 300, 0.05, 1).categories[0].items_needed


def test_a_suite_of_too_few_items_is_left_out_of_the_mean_and_may_fall_through_its_floor(tmp_path: Path) -> None:
    suites = [PlannedSuite(name, "general", None, n, n) for name, n in (("a", 400), ("b", 400), ("tiny", 12))]
    plan = plan_suites(config(tmp_path, gate=ACCEPTED), suites, None, 0.05, "")
    alone = plan_suites(config(tmp_path, gate=ACCEPTED), suites[:2], None, 0.05, "")
    [mean], [without] = plan.categories, alone.categories
    assert (mean.suites, mean.items, mean.chance_shown) == (2, 400, without.chance_shown)
    assert mean.chance_of_floor > 0.1 > without.chance_of_floor
    named = config(tmp_path, gate={**ACCEPTED, "floors": {"tiny": 0.3}})
    assert plan_suites(named, suites, None, 0.05, "").categories[0].chance_of_floor == pytest.approx(without.chance_of_floor, abs=0.01)


def test_a_small_suite_a_missing_category_and_no_calibration_are_named(tmp_path: Path) -> None:
    (tmp_path / "piqa.jsonl").write_text('{"prompt": "a", "answer": "b"}\n' * 40)
    suites = [{"source": "piqa.jsonl", "category": "general"}]
    notes = " ".join(what_is_missing(config(tmp_path, evaluation={"suites": suites}), [], drop(900)))
    assert "evaluation.suites has no safety suites and drift suites" in notes
    assert "accept_unmeasured: [safety, drift]" in notes
    assert "general suites (1 suite of about 40 items)" in notes
    assert "`calibration` is not set" in notes


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("floors", {"topci": 0.1}),
        ("min_scores", {"topci": 0.1}),
        ("required_suites", ["topci"]),
        ("retired_suites", {"topci": "it is old"}),
    ],
)
def test_a_misspelt_name_is_one_clear_error_before_training(tmp_path: Path, key: str, value: Any) -> None:
    settings = config(tmp_path, gate={key: value}, evaluation={"suites": [{"name": "topic", "source": "t.jsonl"}]})
    with pytest.raises(ConfigError, match=f"gate.{key}: names 'topci', which is neither a suite nor a skill .*'topic'"):
        check_names(settings, [], {})
    check_names(settings, ["topci"], {})


@pytest.mark.parametrize(
    ("suites", "retired", "gone"),
    [
        ([{"name": "copy", "source": "copy.jsonl"}, {"source": "safety"}], {}, ""),
        ([{"source": "safety"}], {}, "copy"),
        ([{"source": "safety"}], {"copy": "too easy"}, ""),
        ([{"name": "copy", "source": "copy.jsonl", "sealed": True}, {"source": "safety"}], {}, "copy"),
        ([{"name": "copy", "source": "copy.jsonl"}], {}, "refusal"),
    ],
)
def test_a_suite_that_a_champion_was_registered_with_and_the_config_lacks_is_named_before_training(
    tmp_path: Path, suites: list[dict[str, Any]], retired: dict[str, str], gone: str
) -> None:
    settings = config(tmp_path, evaluation={"suites": suites}, gate=ACCEPTED | {"retired_suites": retired})
    found = no_longer_asked(settings, {"topic", "topic.more"}, {"copy": 1, "refusal": 1, "topic": 1})
    assert found == (
        []
        if not gone
        else [
            f"{gone}, which an earlier champion was registered with, would not be measured, and the verdict "
            "would be ERROR: put it back, or retire it on record (gate.retired_suites: {name: reason})."
        ]
    )


# ------------------------------------------------------------------------------------------------ the chain is a fact of the ledger


def version(number: int, skill: str | None, drop_folder: Path | None) -> VersionRef:
    return VersionRef(
        version=number, round=number - 1, skill=skill, method="osft" if skill else "base", decision=None, model_sha256=str(number),
        manifest_sha256="", parent_version=number - 1 or None, checkpoint=Path(), drop=drop_folder, run_id="", model_id="",
    )  # fmt: skip


def entries(*actions: tuple[str, int]) -> Any:
    return tuple(SimpleNamespace(action=action, version=number) for action, number in actions)


PROMOTED = (("promote", 1), ("promote", 2))


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        ([version(1, None, None), version(2, "topic", None)], "version 2: has lost its drop in the registry"),
        ([version(1, None, None), version(2, None, Path())], "version 2: has lost its skill in the registry"),
        ([version(2, "topic", Path())], "version 2: is the first of the champion's ancestors, but the ledger begins with version 1"),
        ([version(2, None, None)], "the ledger begins with version 1"),
    ],
)
def test_a_deleted_tag_does_not_make_a_first_round(chain: list[VersionRef], words: str) -> None:
    with pytest.raises(LineageError, match=words):
        require_whole_chain(entries(*PROMOTED), chain)


def test_a_whole_chain_and_a_rollback_to_the_base_are_well() -> None:
    require_whole_chain(entries(*PROMOTED), [version(1, None, None), version(2, "topic", Path())])
    require_whole_chain(entries(*PROMOTED, ("rollback", 1)), [version(1, None, None)])


# ------------------------------------------------------------------------------------------------ a drop's own numbers


def test_before_round_1_the_drops_held_out_rows_are_a_suite_of_later_rounds(tmp_path: Path) -> None:
    suite = tmp_path / "piqa.jsonl"
    suite.write_text('{"prompt": "a", "answer": "b"}\n' * 1500)
    settings = config(
        tmp_path, evaluation={"suites": [{"source": str(suite), "category": "general"}]}, gate=ACCEPTED, calibration="c.jsonl"
    )
    plan = plan_with_drop(settings, [], drop(91))
    assert plan.coming is not None
    assert [(each.subject, each.items) for each in plan.coming.categories] == [("general", 1500)]
    later = {each.subject: each for each in plan.later.categories}
    assert {name: each.items for name, each in later.items()} == {"skill": 91, "general": 1500}
    # 91 items, 5 % of which flip: the standard error is about sqrt(0.05 / 91) = 2.3 points, so a margin of 2 is far from shown
    assert later["skill"].chance_shown < 0.3 < 0.8 < later["general"].chance_shown
    assert plan.later.chance_all_shown < 0.3
    assert "skill: " in plan.later.sentence()


def test_the_table_and_the_note_name_the_same_number_of_items(tmp_path: Path) -> None:
    plan = plan_with_drop(config(tmp_path, gate=ACCEPTED, calibration="c.jsonl"), [], drop(91))
    assert plan.coming is None
    assert f"Later rounds need about {plan.later.categories[0].items_needed:,} to rule out" in " ".join(plan.notes)


def test_a_suite_that_the_first_look_reads_whole_is_not_planned_with_a_second_look(tmp_path: Path) -> None:
    suite = tmp_path / "piqa.jsonl"
    suite.write_text('{"prompt": "a", "answer": "b"}\n' * 100)
    for items, first in ((None, 100), (40, 40)):
        settings = config(tmp_path, evaluation={"suites": [{"source": str(suite), "category": "general", "items": items}]})
        needed = plan_next_round(settings, None, 0.05).categories[0].items_needed
        one_look = plan_round(GatePolicy(), {"general": 1}, first, 0.05).categories[0].items_needed
        assert (needed == one_look) is (items is None)


@pytest.mark.parametrize("first", [300, 800])
def test_a_number_of_items_is_drawn_as_the_config_says(tmp_path: Path, first: int) -> None:
    """`--items 300` of a suite of 800 that draws by margin: 300 drawn from 800, as the first look draws them, and no second look."""
    draw = MarginDraw(tuple(np.random.default_rng(0).exponential(1.0, 800)))
    settings = config(tmp_path, gate=ACCEPTED)
    suites = [PlannedSuite(name, "general", margin, 800, first, True, draw) for name, margin in (("a", None), ("b", 0.03))]
    looks = [dataclasses.replace(suite, first=300) for suite in suites]
    given, drawn, whole = (plan_suites(settings, each, n, 0.05, "") for each, n in ((suites, 300), (looks, None), (suites, 800)))
    for one, two, every in zip(given.categories, drawn.categories, whole.categories, strict=True):
        assert (one.items, one.second_look_items, one.drawn) == (300, 300, 1)
        assert one.even_items == two.even_items > 330, "worth what the first look's are"
        assert one.chance_shown > two.chance_first, "at all of the level, where two looks share it"
        assert (every.items, every.even_items, every.drawn) == (800, 800, 0)


def test_a_drop_with_a_margin_of_its_own_is_planned_by_itself(tmp_path: Path) -> None:
    settings = config(tmp_path, gate=ACCEPTED, calibration="c.jsonl", evaluation={"skills": {"tickets": {"margin": 0.09}}})
    plan = plan_with_drop(settings, [], drop(91))
    assert [(each.subject, each.margin) for each in plan.later.categories] == [("tickets", 0.09)]
    assert plan.later.categories[0].chance_shown >= 0.8
    assert plan.notes == ()


def test_no_held_out_row_is_an_error_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"d.jsonl: has 0 held-out rows \(set contract.heldout_fraction, or give items with --heldout"):
        plan_with_drop(config(tmp_path, gate=ACCEPTED), [], drop(0))
