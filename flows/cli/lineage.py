"""The commands that ask the lineage or decide on it: verify, lineage, pull, gc, rebuild, approve, reject. cli.py adds them."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from flows.cli.options import AsJson, ConfigFile, print_answer, read_config
from flows.lineage import collect_garbage, introduce_key, pull_version, read_tree, rebuild_version, verify_lineage

if TYPE_CHECKING:
    from flows.lineage import LedgerEntry, Lineage

Version = Annotated[int, typer.Argument(help="Version in the registry.")]
Reviewer = Annotated[str, typer.Option(help="Who decides; kept in the ledger.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the ledger.")]
Actor = Annotated[str, typer.Option(help="Who does it; default: the user.")]


def _lineage(path: Path | None, as_json: bool) -> Lineage:
    settings = read_config(path, as_json)
    from flows.workspace.workspace import open_workspace

    return open_workspace(settings).lineage


def _print_entry(as_json: bool, entry: LedgerEntry) -> None:
    from flows.lineage.registry.history import actor_of

    until = f" until {entry.expires:%Y-%m-%d %H:%M} UTC" if entry.expires else ""
    champion = f"version {entry.champion} is champion" if entry.champion else "there is no champion"
    line = f"{entry.action}: version {entry.version} by {actor_of(entry)}{until}: {entry.reason}; {champion}"
    print_answer(as_json, entry.model_dump(mode="json"), [line])


def verify(
    public_key: Annotated[
        list[Path] | None, typer.Option("--public-key", help="PEM file whose signatures count, besides signing.public_keys; repeat it.")
    ] = None,
    head: Annotated[str | None, typer.Option(help="A head of the ledger that was kept elsewhere: NUMBER:DIGEST.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Recompute every digest and verdict in the lineage; exit 1 where anything is missing, changed, forged or out of place."""
    result = verify_lineage(_lineage(config, as_json), public_key or (), head)
    table = Table("round", "version", "where", "what")
    for finding in result.findings:
        table.add_row(*("-" if value is None else str(value) for value in (finding.round, finding.version)), finding.where, finding.problem)
    read = f"{result.rounds} rounds, {result.files} files, {result.bytes / 1e6:.1f} MB, {result.replayed} verdicts computed again"
    lines = [f"{read}: {len(result.findings)} findings", f"{result.signatures()}; head {result.head or '-'}"]
    print_answer(as_json, result.model_dump(mode="json") | {"ok": result.ok}, [table, *lines] if result.findings else lines)
    raise typer.Exit(0 if result.ok else 1)


def lineage(
    dot: Annotated[bool, typer.Option("--dot", help="Print the tree for Graphviz.")] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """The family tree of the versions: data, digests, verdicts, who and why."""
    tree = read_tree(_lineage(config, as_json))
    print_answer(as_json, tree.model_dump(mode="json"), [tree.dot()] if dot else tree.lines())


def pull(
    folder: Annotated[Path, typer.Argument(help="New folder; the model is put in FOLDER/model.")],
    alias: Annotated[str, typer.Option(help="champion, previous or candidate.")] = "champion",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Fetch the model that an alias names, verified byte by byte; run again, it verifies what is there."""
    reference = pull_version(_lineage(config, as_json), folder, alias=alias)
    line = f"version {reference.version} (round {reference.round}) is in {folder / 'model'}"
    print_answer(as_json, reference.model_dump(mode="json") | {"model": str(folder / "model")}, [line])


def gc(
    keep_last: Annotated[int, typer.Option(help="Newest versions that stay whatever they are.", min=1)] = 3,
    keep_anchors: Annotated[bool, typer.Option(help="Keep every version that the champion was built on.")] = True,
    allow_rounding: Annotated[bool, typer.Option(help="Also delete what comes back equal to rounding only.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and stop.")] = False,
    decompositions_days: Annotated[float, typer.Option(help="Also delete the engine's stored decompositions of this age.", min=0.0)] = 35.0,
    actor: Actor = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Delete old dense weights that are proven to come back from base and stored updates, and decompositions that nobody asks for."""
    settings = read_config(config, as_json)
    from flows.lineage import RetentionPolicy
    from flows.workspace.decompositions import forget_old
    from flows.workspace.workspace import open_workspace

    workspace = open_workspace(settings)

    policy = RetentionPolicy(keep_last=keep_last, keep_anchors=keep_anchors, allow_rounding=allow_rounding)
    items = collect_garbage(workspace.lineage, policy, actor=actor or getpass.getuser(), dry_run=dry_run)
    table = Table("versions", "action", "MB", "why")
    for item in items:
        table.add_row(", ".join(map(str, item.versions)), item.action, f"{item.bytes / 1e6:.1f}", item.reason)
    old = forget_old(workspace, decompositions_days, dry_run=dry_run)
    answer = {"checkpoints": [item.model_dump(mode="json") for item in items], "decompositions_bytes": old, "dry_run": dry_run}
    print_answer(as_json, answer, [table, f"decompositions older than {decompositions_days:g} days: {old / 1e6:.1f} MB"])


def rebuild(
    version: Version,
    out: Annotated[Path | None, typer.Option(help="Write a whole checkpoint here instead of in place.")] = None,
    actor: Actor = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Bring collected weights back from base and stored updates."""
    manifest = rebuild_version(_lineage(config, as_json), version, out=out, actor=actor or getpass.getuser())
    line = f"version {version} is whole again{f' in {out}' if out else ''}: model {manifest.model_sha256[:12]}"
    print_answer(as_json, {"version": version, "model_sha256": manifest.model_sha256, "out": str(out) if out else None}, [line])


def approve(
    version: Version,
    reviewer: Reviewer,
    reason: Reason,
    override: Annotated[bool, typer.Option("--override", help="Accept it although the gate blocked it.")] = False,
    days: Annotated[float, typer.Option(help="How long the approval holds, in days.", min=0.01)] = 7.0,
    wait: Annotated[bool, typer.Option("--wait", help="Only record the approval; a later promotion uses it.")] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Accept a held version and make it champion, in the reviewer's name."""
    settings = read_config(config, as_json)
    from flows.review.approve import promote

    _print_entry(as_json, promote(settings, version, reviewer, reason, override, days, not wait))


def reject(version: Version, reviewer: Reviewer, reason: Reason, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Refuse a held version; the champion stays."""
    settings = read_config(config, as_json)
    from flows.review.approve import reject as refuse

    _print_entry(as_json, refuse(settings, version, reviewer, reason))


def keys_new(
    folder: Annotated[Path, typer.Argument(help="Where to write skillstack.key (keep it secret) and skillstack.pub.")],
    as_json: AsJson = False,
) -> None:
    """Make a key pair that signs the ledger; nothing that exists is replaced."""
    from flows.lineage.storage.signing import KEY_VARIABLE, make_key_pair

    private, public = make_key_pair(folder)
    lines = [f"private key: {private} (name it in {KEY_VARIABLE})", f"public key: {public} (name it in signing.public_keys)"]
    print_answer(as_json, {"private": str(private), "public": str(public)}, lines)


def keys_introduce(
    public_key: Annotated[Path, typer.Argument(help="PEM file of the public key that may sign from now on.")],
    reason: Reason,
    actor: Actor = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Record a public key, signed by the present private key: the next key, or the first one of a lineage that is older than it."""
    _print_entry(as_json, introduce_key(_lineage(config, as_json), public_key, reason=reason, actor=actor or getpass.getuser()))


COMMANDS: tuple[Callable[..., None], ...] = (verify, lineage, pull, gc, rebuild, approve, reject)


def add_lineage_commands(app: typer.Typer) -> None:
    for command in COMMANDS:
        app.command()(command)
    keys = typer.Typer(help="Keys that sign the ledger.", no_args_is_help=True)
    keys.command("new")(keys_new)
    keys.command("introduce")(keys_introduce)
    app.add_typer(keys, name="keys")
