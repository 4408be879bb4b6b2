"""The lineage as Prometheus metrics, computed from what rounds have stored: for node_exporter's textfile collector or a Pushgateway.

    skillstack metrics --out /var/lib/prometheus/node-exporter/skillstack.prom

A round is a batch job that ends, so there is no port to scrape: a schedule writes the file. Names, units and labels follow
https://prometheus.io/docs/practices/naming/; every metric has the label `model`, the registered model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import Field

from data_contracts.errors import ConfigError, ManifestError
from data_contracts.manifests import CheckpointManifest, Decision, EvalReport, M, Record, read_manifest
from evals.audit.capacity import free_shares, mean_share
from flows.config.model import SkillstackConfig
from flows.lineage import LedgerEntry, Lineage, RoundRecord
from flows.lineage.registry.history import read_lineage
from flows.lineage.stage_times import stage_seconds
from flows.lineage.storage.records import MOVES_CHAMPION, Stage
from flows.review.monthly import waiting_rounds
from flows.workspace.workspace import has_lineage, open_workspace

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric


class Sample(Record):
    """One number: metric, labels and value."""

    name: str
    labels: dict[str, str]
    value: float


class Metrics(Record):
    """Every number, the file that was written, and its text in Prometheus' format."""

    samples: tuple[Sample, ...]
    out: Path | None
    text: str = Field(exclude=True, repr=False)


def lineage_registry(lineage: Lineage | None, model: str) -> CollectorRegistry:
    """The metrics of a lineage (None: no round yet) in a registry of prometheus_client. Raises LineageError if it cannot be read."""
    from prometheus_client import CollectorRegistry

    records, ledger = read_lineage(lineage) if lineage is not None else ((), ())
    attempts = [record for record in records if record.skill is not None]
    newest = max((record for record in attempts if record.ended), key=lambda record: str(record.ended), default=None)
    seconds = stage_seconds(lineage, newest.run_id) if lineage is not None and newest is not None else {}
    found = [*_counts(attempts), *_champion(records, ledger), *_newest_round(newest, seconds)]

    class Stored:
        def collect(self) -> Iterator[Metric]:
            yield from (_family(name, about, samples, model) for name, about, samples in found)

    registry = CollectorRegistry()
    registry.register(Stored())
    return registry


def write_metrics(config: SkillstackConfig, out: Path | None) -> Metrics:
    """Compute the metrics, and write them to `out` by a rename, as the textfile collector needs. Raises ConfigError for another name."""
    from prometheus_client import generate_latest, write_to_textfile

    if out is not None and out.suffix != ".prom":
        what = "would not be read: the textfile collector takes files that end with .prom"
        raise ConfigError(f"--out {out}", what, f"name it {out.with_suffix('.prom').name}")
    registry = lineage_registry(open_workspace(config).lineage if has_lineage(config) else None, config.tracking.model_name)
    if out is not None:
        try:
            write_to_textfile(str(out), registry)
        except OSError as error:
            raise ConfigError(f"--out {out}", f"cannot be written: {error.strerror}", "make the folder, or name another file") from error
    samples = (sample for family in registry.collect() for sample in family.samples)
    found = tuple(Sample(name=each.name, labels=each.labels, value=each.value) for each in samples)
    return Metrics(samples=found, out=out, text=generate_latest(registry).decode())


# ---------------------------------------------------------------------------------------------------- what is counted

Family = tuple[str, str, list[tuple[dict[str, str], float]]]
"""Name without `skillstack_`, help, and (labels, value) of each sample. A name that ends with _total is a counter, every other a gauge."""


def _family(name: str, about: str, samples: Sequence[tuple[dict[str, str], float]], model: str) -> Metric:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    labels = ("model", *(samples[0][0] if samples else ()))
    kind: Any = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    family: Metric = kind(f"skillstack_{name}", about, labels=labels)
    for own, value in samples:
        family.add_metric([model, *own.values()], value)  # type: ignore[attr-defined]
    return family


def _counts(attempts: Sequence[RoundRecord]) -> Iterator[Family]:
    verdicts = [decision.value for decision in Decision]
    judged = {verdict: [record for record in attempts if record.decision == verdict] for verdict in verdicts}
    yield "rounds_total", "Rounds with a verdict.", [({"verdict": verdict}, len(found)) for verdict, found in judged.items()]
    unfinished = {status: sum(record.status == status for record in attempts) for status in ("running", "failed")}
    yield "rounds_unfinished", "Rounds that have not ended with a verdict.", [({"status": s}, n) for s, n in unfinished.items()]
    ends = {verdict: max(record.ended.timestamp() for record in found if record.ended) for verdict, found in judged.items() if found}
    times = [({"verdict": verdict}, when) for verdict, when in ends.items()]
    yield "last_round_timestamp_seconds", "When the newest round with this verdict ended (Unix time).", times


def _champion(records: Sequence[RoundRecord], ledger: Sequence[LedgerEntry]) -> Iterator[Family]:
    yield "versions_waiting", "Held versions that a person can still approve.", [({}, len(list(waiting_rounds(records))))]
    promotions = [entry.time.timestamp() for entry in ledger if entry.action in MOVES_CHAMPION - {"rollback"}]
    newest: list[tuple[dict[str, str], float]] = [({}, max(promotions))] if promotions else []
    yield "last_promotion_timestamp_seconds", "When a version last became champion, rollbacks aside (Unix time).", newest
    champion = next((record for record in records if record.champion), None)
    if champion is None or champion.version is None:
        return
    yield "champion_version", "Version that the alias champion names.", [({}, champion.version)]
    yield "champion_round", "Round of the champion; 0 is the base model.", [({}, champion.round)]
    made = _manifest(champion.checkpoint, CheckpointManifest)
    free = list(free_shares(made.layers).values()) if made is not None else []
    mean = mean_share(free)
    shares = [({"layers": "least"}, min(free)), ({"layers": "mean"}, mean)] if mean is not None else []
    yield "capacity_free_ratio", "Share of directions still free for later rounds: of the least free layer, and on average.", shares


def _newest_round(record: RoundRecord | None, seconds: dict[Stage, float]) -> Iterator[Family]:
    """Of the newest attempt that has ended, whatever its verdict."""
    if record is None:
        return
    named = {"round": str(record.round), "attempt": str(record.attempt), "skill": record.skill or "", "verdict": record.decision or "none"}
    yield "round_info", "The newest round that has ended, which the metrics skillstack_round_* are about.", [(named, 1)]
    whole: list[tuple[dict[str, str], float]] = [({}, record.seconds)] if record.seconds is not None else []
    yield "round_duration_seconds", "From the first start of the newest round to its end.", whole
    stages = [({"stage": stage}, seconds[stage]) for stage in get_args(Stage) if stage in seconds]
    yield "round_stage_duration_seconds", "Seconds of each stage of the newest round.", stages
    report = _manifest(record.evaluation, EvalReport)
    if report is not None:
        yield "round_items", "Items that the candidate of the newest round was evaluated on.", [({}, sum(s.n for s in report.suites))]
    made = _manifest(record.checkpoint, CheckpointManifest)
    if made is not None and made.summary is not None:
        yield "round_training_tokens_per_second", "Tokens per second of the newest training.", [({}, made.summary.tokens_per_second)]
        yield "round_peak_memory_bytes", "Peak memory of the newest training.", [({}, made.summary.peak_memory_bytes)]
        yield "round_training_loss", "Loss at the end of the newest training (nats per token).", [({}, made.summary.final_loss)]


def _manifest(folder: Path | None, kind: type[M]) -> M | None:
    """The manifest of a stage's folder; None where it is not on this machine."""
    if folder is None:
        return None
    try:
        return read_manifest(folder, kind, verify=False)
    except ManifestError:
        return None
