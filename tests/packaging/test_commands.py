"""Every command that README, guides and runbook name is one that exists, and one that a test runs or that the page says was not run.

A skillstack command is known by its words and its options: `round --refresh --skill`. TESTS names the test that runs it; what is in no test
has to stand in NOT_RUN with the words in which its page says so.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from flows.cli.app import app
from flows.cli.options import repeat_options

REPOSITORY = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "docs/runbook.md",
    *sorted(path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "docs/guides").glob("*.md")),
]
_FENCE = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
_SPAN = re.compile(r"`([^`]+)`")
_CRON = re.compile(r"^(?:[\d*/,-]+ ){4}[\d*/,-]+ +cd \S+ && ")
_PROGRAMS = (
    "skillstack", "make", "python", "pip", "pytest", "prefect", "docker", "podman", "kubectl", "mlflow", "openssl", "marimo", "promtool",
    "cp", "infra/backup.sh",
)  # fmt: skip
_VARIABLE = re.compile(r"^(?:[A-Z_]+=\S+ )+")
"""What may stand before a program: `SKILLSTACK_CHARTS=FOLDER pytest ...`."""

CHANGES = "tests/flows/explore/in_browser/test_browser_changes.py::"
SIGNATURE = "tests/flows/lineage/test_model_signature.py::"
OPERATIONS, REFRESH = "tests/e2e/test_operations.py::", "tests/e2e/test_refresh.py::"
GUIDES, LINEAGE, VALIDATION = (
    "tests/flows/cli/test_guides.py::",
    "tests/flows/cli/test_lineage.py::",
    "tests/flows/cli/test_validation.py::",
)

TESTS: dict[str, str] = {
    "--log-format": "tests/e2e/test_json_lines.py::test_every_line_of_a_round_names_round_stage_and_skill",
    "announce --skill": "tests/services/test_month.py::blocked",
    "approve": LINEAGE + "test_approve_promotes_and_reject_does_not",
    "approve --reason --reviewer": LINEAGE + "test_approve_promotes_and_reject_does_not",
    "approve --override --reason --reviewer": "tests/flows/lineage/test_card.py::test_an_override_is_told_from_an_approval",
    "audit": OPERATIONS + "test_an_old_version_is_measured_on_a_new_suite_and_the_matrix_has_no_hole",
    "audit --checkpoints --suites": "tests/flows/review/test_audit.py::test_a_suite_file_that_the_config_names_is_asked_as_the_config_says",
    "deploy": "tests/services/test_deployment.py::test_deploying_again_changes_nothing",
    "diff": "tests/flows/review/test_diff.py::test_data_settings_scores_and_weights_are_those_of_the_files",
    "doctor": "tests/flows/test_only_looks.py::test_doctor_leaves_nothing_behind",
    "estimate --skill": OPERATIONS + "test_a_share_of_the_rounds_own_update_is_chosen_and_judged",
    "explore": "tests/flows/explore/in_browser/browser.py::running_explorer",
    "explore --model": CHANGES + "test_what_is_missing_is_named_and_another_model_can_be_looked_at",
    "export": OPERATIONS + "test_a_version_is_exported_dense_and_as_an_adapter",
    "export --as": OPERATIONS + "test_a_version_is_exported_dense_and_as_an_adapter",
    "export --as --since": OPERATIONS + "test_a_version_is_exported_dense_and_as_an_adapter",
    "gate plan": VALIDATION + "test_gate_plan_with_a_drop_works_before_round_1_and_writes_nothing",
    "gate plan --skill": VALIDATION + "test_gate_plan_with_a_drop_works_before_round_1_and_writes_nothing",
    "gate replay": REFRESH + "test_verify_replay_and_audit_hold_afterwards",
    "gate replay --attempt": GUIDES + "test_one_attempt_of_a_round_is_replayed",
    "gc": LINEAGE + "test_gc_removes_decompositions_of_another_month_only",
    "gc --dry-run": LINEAGE + "test_pull_and_gc_answer_in_json",
    "history": OPERATIONS + "test_a_drop_in_the_inbox_becomes_a_round_and_is_taken_once",
    "history --json": OPERATIONS + "test_a_drop_in_the_inbox_becomes_a_round_and_is_taken_once",
    "init": "tests/packaging/test_wheel.py::test_a_wheel_alone_makes_a_project_validates_a_drop_and_deploys",
    "init --base-model": GUIDES + "test_init_writes_for_the_base_model_that_is_named",
    "items --skill": REFRESH + "test_the_next_round_is_held_to_all_suites_each_with_its_own_anchor",
    "keys introduce --reason": GUIDES + "test_a_key_is_made_introduced_and_replaced_as_the_guide_says",
    "keys new": GUIDES + "test_a_key_is_made_introduced_and_replaced_as_the_guide_says",
    "keys sign": GUIDES + "test_a_version_older_than_the_setting_is_signed",
    "metrics": "tests/flows/review/test_metrics.py::test_the_command_prints_the_text_or_json",
    "metrics --out": "tests/flows/review/test_metrics.py::test_the_command_prints_the_text_or_json",
    "reevaluate --suites": OPERATIONS + "test_an_old_version_is_measured_on_a_new_suite_and_the_matrix_has_no_hole",
    "reject": LINEAGE + "test_approve_promotes_and_reject_does_not",
    "reject --reason --reviewer": LINEAGE + "test_approve_promotes_and_reject_does_not",
    "report": OPERATIONS + "test_the_months_report_is_kept_with_the_ledger",
    "report --month": GUIDES + "test_a_rollback_to_a_version_and_the_month_that_tells_of_it",
    "rollback --reason": LINEAGE + "test_a_rollback_stands_beside_both_versions_in_the_tree",
    "rollback --reason --to": GUIDES + "test_a_rollback_to_a_version_and_the_month_that_tells_of_it",
    "round --refresh --skill": REFRESH + "refreshed",
    "round --scale --skill": OPERATIONS + "test_a_share_of_the_rounds_own_update_is_chosen_and_judged",
    "round --skill": REFRESH + "taught",
    "support-bundle": GUIDES + "test_the_bundle_for_support_is_written_and_says_nothing_secret",
    "sweep --passes --rates --skill": OPERATIONS + "test_a_sweep_over_rates_and_passes_chooses_nothing_where_nothing_is_learned",
    "sweep --rates --skill": OPERATIONS + "test_a_sweep_over_rates_and_passes_chooses_nothing_where_nothing_is_learned",
    "sweep --ratios --scales --skill": OPERATIONS + "test_a_sweep_decomposes_once_and_repeats_nothing",
    "sweep --refresh --skill": REFRESH + "test_a_sweep_of_a_taught_skill_counts_what_its_earlier_drop_taught",
    "sweep --skill": OPERATIONS + "test_a_sweep_decomposes_once_and_repeats_nothing",
    "validate --convert": VALIDATION + "test_convert_on_the_command_line_needs_no_skill_and_no_config",
    "validate --out --skill": "tests/packaging/test_wheel.py::test_a_wheel_alone_makes_a_project_validates_a_drop_and_deploys",
    "validate --refresh --skill": REFRESH + "test_without_refresh_a_taught_skill_is_refused_and_the_way_is_named",
    "validate --skill": REFRESH + "test_without_refresh_a_taught_skill_is_refused_and_the_way_is_named",
    "verify": LINEAGE + "test_verify_says_what_is_wrong_and_exits_with_one",
    "verify --head": GUIDES + "test_the_head_of_a_copy_is_compared",
    "verify --json": LINEAGE + "test_verify_says_what_is_wrong_and_exits_with_one",
    "verify --public-key": GUIDES + "test_a_key_is_made_introduced_and_replaced_as_the_guide_says",
    "watch --json --once": OPERATIONS + "watched",
    "watch --once": OPERATIONS + "watched",
}


#: A line of another program -> the test that runs it, or (page, the words in which that page says that it was not run).
OTHERS: dict[str, str | tuple[str, str]] = {
    r"make test\b|make test-services": ("README.md", "lint, types, import rules and the default tests"),
    r"make demo|make TORCH=": ("README.md", "no test runs it"),
    r"pip install": ("README.md", "not on a package index yet"),
    r"python -m data_contracts": "tests/packaging/test_engine_alone.py::test_it_validates_a_drop",
    r"python -m osft_engine": "tests/osft_engine/loop/test_stopping.py::start",
    r"python infra/services.py": "tests/services/test_files.py::test_the_trial_of_the_guide_serves_its_pages_and_ends_by_ctrl_c",
    r"python -m model_signing verify": SIGNATURE + "test_a_rounds_version_is_signed_and_the_signature_travels_with_the_model",
    r"openssl": GUIDES + "test_a_key_pair_of_openssl_signs",
    r"export SKILLSTACK_SIGNING_KEY=": GUIDES + "with_key",
    r"marimo edit": ("docs/guides/explore.md", "not run by a test"),
    r"prefect worker start": "tests/services/test_bare_worker.py::worker_command",
    r"prefect flow-run retry": "tests/services/test_faults.py::test_the_worker_is_killed_in_training",
    r"infra/backup.sh (save|restore)": "tests/services/test_month.py::test_the_month_comes_back_from_a_backup_on_empty_servers",
    r"docker compose up -d worker-gpu": ("docs/runbook.md", "not run by a test"),
    r"docker compose --env-file": "tests/containers/test_stack.py::test_a_drop_in_the_inbox_becomes_the_champion",
    r"kubectl kustomize": "tests/services/test_files.py::test_kustomize_builds_the_whole",
    r"kubectl": ("docs/guides/service.md", "Not run, because there was no cluster"),
    r"mlflow db upgrade": ("docs/runbook.md", "not run by a test"),
    r"osft\(": "tests/packaging/test_engine_alone.py::test_the_calls_of_the_guide_train_june_and_then_july",
    r"cp infra/\.env\.example infra/\.env": "tests/containers/stack.py::_variables",
    r"podman kube play": "tests/containers/test_kube.py::test_the_pod_of_the_training_job_trains_on_its_claim",
    r"pytest tests/services/test_helm\.py": "tests/services/test_helm.py::rendered",
    r"promtool test rules": ("docs/guides/service.md", "by hand: not run by a test"),
    r"echo \$\?": "tests/flows/cli/test_errors.py::test_a_wrong_option_is_one_line_and_exit_code_1",
}
NOT_RUN = {"demo": ("README.md", "no test runs it")}


@dataclass(frozen=True)
class Named:
    """A command as a page names it; `block`: it stands in a code block, to be typed."""

    page: str
    line: str
    block: bool


def typed_in(line: str, language: str) -> str:
    """What a line of a code block asks for: a line of the shell, what stands behind its prompt or cron's times, a call of `osft`."""
    if language == "python":
        return line if line.startswith("osft(") else ""
    if language == "sh":
        return line.strip()
    cron = _CRON.match(line)
    return line[2:] if line.startswith("$ ") else line[cron.end() :] if cron else ""


def commands_of(page: str) -> Iterator[Named]:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    for language, body in _FENCE.findall(text):
        for line in re.sub(r"\\\n\s*", " ", body).splitlines():
            typed = typed_in(line, language)
            if typed and not typed.startswith("#"):
                yield Named(page, typed, block=True)
    rest = _FENCE.sub("", text)
    for line in rest.splitlines():
        if line.startswith("    $ "):
            yield Named(page, line[6:], block=True)
    for span in _SPAN.findall(rest):
        line = _VARIABLE.sub("", " ".join(span.split()))
        if line.split()[0] in _PROGRAMS and " " in line:
            yield Named(page, line, block=False)


NAMED = [named for page in PAGES for named in commands_of(page)]
SKILLSTACK = [named for named in NAMED if named.line.startswith("skillstack ")]


def form_of(line: str) -> str:
    """`skillstack watch [--once]` -> `watch --once`. Raises for a command (KeyError) or an option (Typer's error) that does not exist."""
    words = repeat_options(shlex.split(re.sub(r"[\[\]]", "", line), comments=True)[1:])
    command: Any = get_command(app)  # of the click that Typer carries inside itself
    path = []
    while hasattr(command, "commands"):
        if words[0] == "--log-format":  # the one option that stands before the command
            return "--log-format"
        path.append(words.pop(0))
        command = command.commands[path[-1]]
    context = command.context_class(command, info_name=path[-1], resilient_parsing=True)
    given, _, _ = command.make_parser(context).parse_args(list(words))
    names = {parameter.name: max(parameter.opts, key=len) for parameter in command.params}
    return " ".join([*path, *sorted(names[name] for name in given if names[name or ""].startswith("--"))])


@pytest.mark.parametrize("named", SKILLSTACK, ids=lambda named: f"{named.page}: {named.line}")
def test_a_command_of_the_pages_exists_and_a_test_runs_it(named: Named) -> None:
    assert form_of(named.line) in {*TESTS, *NOT_RUN}


def test_no_test_is_named_for_a_command_that_no_page_has() -> None:
    assert sorted({*TESTS, *NOT_RUN} - {form_of(named.line) for named in SKILLSTACK}) == []


def test_every_line_of_another_program_is_run_by_a_test_or_said_not_to_be() -> None:
    others = [named for named in NAMED if not named.line.startswith("skillstack ")]
    assert [named for named in others if not any(re.match(pattern, named.line) for pattern in OTHERS)] == []
    for page, words in filter(lambda each: isinstance(each, tuple), [*OTHERS.values(), *NOT_RUN.values()]):
        assert words in " ".join((REPOSITORY / page).read_text(encoding="utf-8").split()), f"{page} does not say: {words}"
    for file, name in (each.split("::") for each in OTHERS.values() if isinstance(each, str)):
        assert re.search(rf"^def {name}\(", (REPOSITORY / file).read_text(encoding="utf-8"), re.MULTILINE), f"{file} has no {name}"


@pytest.mark.parametrize("form", TESTS)
def test_the_test_that_is_named_types_the_command(form: str) -> None:
    """It exists, and its file, or the fixtures beside it, have the command's words and options, as a program's arguments or in one line."""
    file, name = TESTS[form].split("::")
    source = (REPOSITORY / file).read_text(encoding="utf-8")
    assert re.search(rf"^def {name}\(", source, re.MULTILINE), f"{file} has no {name}"
    source += "".join(
        path.read_text(encoding="utf-8") for path in sorted((REPOSITORY / file).parent.glob("*.py")) if "test_" not in path.name
    )
    missing = [word for word in form.split() if word != "--json" and not re.search(rf"[\"' ]{re.escape(word)}[\"' ]", source)]
    assert missing == []
