"""Validate a drop: rows that keep the contract are used, the others are quarantined with their reasons."""

from __future__ import annotations

import json
import time
from pathlib import Path

from prefect.artifacts import create_markdown_artifact

from data_contracts.digests import file_digest
from data_contracts.errors import DropError
from data_contracts.escaping import markdown_text
from data_contracts.manifests import MANIFEST_NAME, DropManifest
from data_contracts.report.render import report_markdown
from data_contracts.validate import validate_drop
from flows.machine.progress import bar
from flows.round.context import Trial, stage_task
from flows.text.added_items import require_unseen
from flows.text.facts import FACTS_NAME, write_facts
from flows.text.held_out import suite_files
from flows.text.model_facts import model_facts
from flows.text.renderer import TokenizerRenderer
from flows.text.template_facts import text_facts
from flows.workspace.pages import not_vital
from flows.workspace.stages import Stage, digest_or_none, discard_partial, run_stage


@stage_task("validate", "validate {round.skill}")
def validate(round: Trial) -> Stage[DropManifest]:
    """drop -> clean, held-out, sealed and quarantined rows. A refused drop leaves no finished stage; its report says why."""
    started = time.perf_counter()
    require_unseen(round.config, round.chain, {round.skill: round.heldout} if round.refresh and round.heldout is not None else {})
    config, model = round.config, round.champion.checkpoint / "model"
    earlier = [version.drop for version in round.chain if version.drop is not None]
    suites = suite_files(config.evaluation, config.state_dir)
    suite_names = [suite.name for suite in config.evaluation.suites]
    inputs = {
        "suite_names": suite_names,
        "drop": digest_or_none(round.drop),
        "name": round.drop.name,
        "heldout": digest_or_none(round.heldout),
        "skill": round.skill,
        **({"refresh": True} if round.refresh else {}),
        "contract": config.contract.model_dump(mode="json") | {"path": digest_or_none(config.contract.path)},
        "tokenizer": round.champion.model_sha256,
        "text": config.train.model_dump(mode="json", include={"max_seq_len", "chat_template", "chat_template_kwargs"}),
        "earlier": [file_digest(folder / MANIFEST_NAME) for folder in earlier],
        "suites": [digest_or_none(path) for path in suites],
    }

    def build(folder: Path) -> None:
        discard_partial(folder)
        # Refuses a template that gives training and evaluation different texts, and a model that cannot be loaded or trained.
        facts = (*text_facts(model, config.train), *model_facts(model, config.train))
        try:
            with bar(f"validate {round.skill}") as advance:
                validate_drop(
                    round.drop,
                    folder,
                    skill=round.skill,
                    config=config.contract,
                    renderer=TokenizerRenderer(model, config.train),
                    heldout=round.heldout,
                    earlier=earlier,
                    suites=suites,
                    suite_names=suite_names,
                    refresh=round.refresh,
                    progress=lambda done, total: advance(done, total, "bytes"),
                )
        except DropError as error:
            publish_drop_report(folder, error)
            round.attach(folder / "report.html")
            raise
        write_facts(folder / FACTS_NAME, facts)

    code = ("data_contracts.validate", "flows.text.renderer")
    stage = run_stage(round.workspace.stages, "validate", inputs, DropManifest, build, code=code)
    publish_drop_report(stage.folder)
    pages = [path for name in ("report.html", FACTS_NAME) if (path := stage.folder / name).is_file()]
    round.record("validate", stage, *pages, since=started)
    return stage


def publish_drop_report(folder: Path, refusal: DropError | None = None) -> None:
    """Attach the report in `folder` to the running task. For a file that could not be read there is only the error.

    The key is fixed, so that its page lists the drop of every round.
    """
    report, page = folder / "report.json", folder / "report.html"
    if report.is_file():
        text = report_markdown(json.loads(report.read_text(encoding="utf-8")))
        text += f"\nThe full report, with plots: [{page.name}]({page.as_uri()})\n"
    else:
        text = f"# The drop cannot be read\n\n{markdown_text(str(refusal))}\n"
    with not_vital("the drop"):
        create_markdown_artifact(
            text, key="drop", description=f"refused: {markdown_text(str(refusal))}" if refusal else "the drop keeps its contract"
        )
