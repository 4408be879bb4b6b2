"""The story of a round: a drop goes in, a promoted or refused model version with its reasons comes out, and the next round builds on it.

    skillstack round DROP --skill NAME

Each stage is a thin task (tasks.py) over a pure function of one of the packages; what a stage hands on is a manifest and its folder.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from prefect import flow
from rich.markup import escape

from data_contracts.digests import file_digest, text_digest, value_digest
from data_contracts.errors import SkillstackError
from data_contracts.manifests import CheckpointManifest, DropManifest, Verdict
from evals.audit import ForgettingAudit
from flows import tasks
from flows.disk import naming_disk_errors
from flows.evidence import Evaluated
from flows.house import House, open_house, round_sources
from flows.intake import local_drop
from flows.lineage import RoundRun, VersionRef
from flows.outcome import RoundOutcome, past_outcome
from flows.pages import ended_as, tag_flow_run
from flows.parameters import ConfigParameter, DropAddress, Heldout, Scale, SkillName, named, this_month
from flows.planning import what_is_missing
from flows.progress import say
from flows.service.server import announce_outcome, gpu_slot
from flows.stages import Stage

logger = logging.getLogger(__name__)


def _name_of_round() -> str:
    return named("round")


@flow(name="continual-round", flow_run_name=_name_of_round, persist_result=False)
def continual_round(
    drop: DropAddress, skill: SkillName, config: ConfigParameter, heldout: Heldout = None, scale: Scale = 1.0
) -> RoundOutcome:
    """One round. Raises SkillstackError where it cannot be finished: the round is then recorded as failed and the champion stays.

    A round that was killed continues after its last finished stage when it is started again with the same drop and config; one that
    has ended returns its recorded outcome. `scale` below 1 offers the trained update times that number: another attempt at the round,
    which trains nothing.
    """
    local = local_drop(config, drop)
    items = local_drop(config, heldout) if heldout is not None else None
    house = open_house(config)
    champion = tasks.find_champion(house)
    run = begin_round(house, champion, local, skill, items, scale)
    if run.finished:
        return ended_as(past_outcome(house, run))
    with failure_recorded(house, run):
        chain = house.lineage.ancestry(champion.version)
        clean = tasks.validate(house, run, chain, local, skill, items)
        say_what_is_missing(what_is_missing(config, chain, skill, clean.manifest))
        with gpu_slot(config.service):
            candidate = tasks.train(house, run, champion, clean, skill)
            if scale < 1.0:
                candidate = tasks.rescale(house, run, champion, candidate, skill, scale)
            reports, forgetting, verdict = judge(house, run, chain, clean, candidate, skill)
        outcome = tasks.register(house, run, champion, clean, candidate, reports, forgetting, verdict, round_sources(config, local, items))
        tag_flow_run(f"skill:{skill}", f"round:{run.round}", f"month:{this_month()}", outcome.decision.value)
    announce_outcome(outcome, house.config.tracking.model_name)
    return ended_as(outcome)


def say_what_is_missing(notes: Sequence[str]) -> None:
    """Before anything is trained, to the person at the terminal and in Prefect's log."""
    for note in notes:
        say(escape(f"before training: {note}"))
        logger.warning("before training: %s", note)


def judge(
    house: House, run: RoundRun, chain: Sequence[VersionRef], drop: Stage[DropManifest], candidate: Stage[CheckpointManifest], skill: str
) -> tuple[Evaluated, ForgettingAudit, Stage[Verdict]]:
    """Evaluate, audit, decide; where that is inconclusive and suites have items to spare, once more with those, under a stricter alpha."""
    wanted: dict[str, int] = {}
    for look in (1, 2):
        reports = tasks.evaluate(house, run, chain, drop, candidate, skill, wanted)
        forgetting = tasks.audit(house, run, chain, candidate, reports, skill)
        verdict = tasks.decide(house, run, reports, forgetting, skill, look)
        wanted = tasks.items_to_add(verdict, reports)
        if not wanted:
            break
    return reports, forgetting, verdict


def begin_round(house: House, champion: VersionRef, drop: Path, skill: str, heldout: Path | None, scale: float = 1.0) -> RoundRun:
    """Open the round's parent run, or find the one that an earlier start of the same round left."""
    config = house.config
    sections = {name: getattr(config, name).model_dump(mode="json") for name in ("contract", "train", "evaluation", "gate")}
    identity = {
        "champion": champion.model_sha256,
        "skill": skill,
        "drop": _identity(drop),
        "heldout": heldout and _identity(heldout),
        "config": sections,
    }
    key = value_digest(identity | ({"scale": scale} if scale < 1.0 else {}))
    tags = {"skillstack.drop_name": drop.name, "skillstack.method": config.train.method}
    return house.lineage.open_round(
        champion.round + 1, skill, key=key, tags=tags | ({"skillstack.scale": str(scale)} if scale < 1.0 else {})
    )


def _identity(path: Path) -> str:
    """A drop's digest; a drop that cannot be read still begins a round, so that its failure is recorded."""
    try:
        return file_digest(path)
    except OSError:
        return text_digest(f"unreadable {path.absolute()}")


@contextmanager
def failure_recorded(house: House, run: RoundRun) -> Iterator[None]:
    """Record the round as failed, in one line, whatever stops it short of a kill; then let the error go on."""
    try:
        with naming_disk_errors(house.config.state_dir):
            yield
    except SkillstackError as error:
        house.lineage.record_failure(run, error)
        raise
    except BaseException as error:
        house.lineage.record_failure(run, f"{type(error).__name__}: {error}")
        raise
