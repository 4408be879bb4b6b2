"""Commands that read the lineage or change it: verify, lineage, pull, gc, rebuild, approve, reject, keys."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from data_contracts.errors import ConfigError
from flows.cli.console import choose, print_answer, show_ledger_entry
from flows.cli.options import AsJson, ConfigFile, read_config
from flows.lineage.storage.connection import authenticated_user

if TYPE_CHECKING:
    from flows.lineage import Lineage

Version = Annotated[int, typer.Argument(help="Version in the registry.")]
Reviewer = Annotated[str, typer.Option(help="Who decides; kept in the ledger. Default: the user that is signed in to the MLflow server.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the ledger.")]
Actor = Annotated[str, typer.Option(help="Who does it; default: the user that is signed in to the MLflow server, else the system's.")]


def _lineage(path: Path | None, as_json: bool) -> Lineage:
    settings = read_config(path, as_json)
    from flows.workspace.workspace import open_workspace

    return open_workspace(settings).lineage


def signed_in(lineage: Lineage, given: str) -> str:
    """The given name, else the user that the MLflow server knows. Raises ConfigError where there is neither."""
    name = given.strip() or authenticated_user(lineage.tracking_uri)
    if not name:
        raise ConfigError("--reviewer", "is missing", "say who decides: the MLflow server has no users that could tell")
    return name


def acting(lineage: Lineage, given: str) -> str:
    return given.strip() or authenticated_user(lineage.tracking_uri) or getpass.getuser()


def verify(
    public_key: Annotated[
        list[Path] | None,
        typer.Option("--public-key", help="PEM file of a trusted key, besides signing.public_keys; may be repeated."),
    ] = None,
    head: Annotated[str | None, typer.Option(help="Head of the ledger from a copy that you kept elsewhere: NUMBER:DIGEST.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Recompute every digest of the lineage and the verdict of every champion; exit code 1 if anything is missing, changed or forged."""
    from flows.lineage import verify_lineage

    result = verify_lineage(_lineage(config, as_json), public_key or (), head)
    table = Table("round", "version", "where", "problem")
    for finding in result.findings:
        table.add_row(*("-" if value is None else str(value) for value in (finding.round, finding.version)), finding.where, finding.problem)
    read = f"{result.rounds} rounds, {result.files} files, {result.bytes / 1e6:.1f} MB, {result.replayed} verdicts recomputed"
    lines = [f"{read}: {len(result.findings)} findings", f"{result.signatures()}; head {result.head or '-'}"]
    print_answer(result.model_dump() | {"ok": result.ok}, [table, *lines] if result.findings else lines)
    raise typer.Exit(0 if result.ok else 1)


def lineage(
    dot: Annotated[bool, typer.Option("--dot", help="Print the tree in Graphviz format.")] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Print the tree of versions: data, digests, verdicts, decisions and reasons."""
    from flows.lineage import read_tree

    tree = read_tree(_lineage(config, as_json))
    print_answer(tree, [tree.dot()] if dot else tree.lines())


def pull(
    folder: Annotated[Path, typer.Argument(help="New folder; the model is written to FOLDER/model.")],
    alias: Annotated[str, typer.Option(help="champion, previous or candidate.")] = "champion",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Copy the model that an alias names, and verify every byte. If the folder holds it already, only verify."""
    from flows.lineage import pull_version

    reference = pull_version(_lineage(config, as_json), folder, alias=alias)
    line = f"version {reference.version} (round {reference.round}) is in {folder / 'model'}"
    print_answer(reference.model_dump() | {"model": folder / "model"}, [line])


def gc(
    keep_last: Annotated[int, typer.Option(help="Number of newest versions to keep.", min=1)] = 3,
    keep_anchors: Annotated[bool, typer.Option(help="Keep all ancestors of the champion.")] = True,
    allow_rounding: Annotated[bool, typer.Option(help="Also delete weights that can be rebuilt equal up to rounding only.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be deleted.")] = False,
    decompositions_days: Annotated[float, typer.Option(help="Delete cached decompositions older than this many days.", min=0.0)] = 35.0,
    actor: Actor = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Delete old dense weights that can be rebuilt from base model and stored updates (checked first), and old cached decompositions."""
    settings = read_config(config, as_json)
    from flows.lineage import RetentionPolicy, collect_garbage
    from flows.workspace.decompositions import forget_old
    from flows.workspace.workspace import open_workspace

    workspace = open_workspace(settings)

    policy = RetentionPolicy(keep_last=keep_last, keep_anchors=keep_anchors, allow_rounding=allow_rounding)
    items = collect_garbage(workspace.lineage, policy, actor=acting(workspace.lineage, actor), dry_run=dry_run)
    table = Table("versions", "action", "MB", "reason")
    for item in items:
        table.add_row(", ".join(map(str, item.versions)), item.action, f"{item.bytes / 1e6:.1f}", item.reason)
    old = forget_old(workspace, decompositions_days, dry_run=dry_run)
    answer = {"checkpoints": items, "decompositions_bytes": old, "dry_run": dry_run}
    print_answer(answer, [table, f"decompositions older than {decompositions_days:g} days: {old / 1e6:.1f} MB"])


def rebuild(
    version: Version,
    out: Annotated[Path | None, typer.Option(help="Write a complete checkpoint to this folder instead of restoring in place.")] = None,
    actor: Actor = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Rebuild deleted weights from the base model and the stored updates."""
    from flows.lineage import rebuild_version

    opened = _lineage(config, as_json)
    manifest = rebuild_version(opened, version, out=out, actor=acting(opened, actor))
    line = f"version {version} was rebuilt{f' in {out}' if out else ''}: model {manifest.model_sha256[:12]}"
    print_answer({"version": version, "model_sha256": manifest.model_sha256, "out": out}, [line])


def approve(
    version: Version,
    reason: Reason,
    reviewer: Reviewer = "",
    override: Annotated[bool, typer.Option("--override", help="Accept a version that the gate blocked.")] = False,
    days: Annotated[float, typer.Option(help="Days until the approval expires.", min=0.01)] = 7.0,
    wait: Annotated[bool, typer.Option("--wait", help="Only record the approval; run it again without --wait to promote.")] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Accept a held version and make it the champion, on the reviewer's responsibility."""
    settings = read_config(config, as_json)
    from flows.review.decisions import promote
    from flows.workspace.workspace import open_workspace

    person = signed_in(open_workspace(settings).lineage, reviewer)
    show_ledger_entry(promote(settings, version, person, reason, override, days, not wait))


def reject(version: Version, reason: Reason, reviewer: Reviewer = "", config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Refuse a held version; the champion does not change."""
    settings = read_config(config, as_json)
    from flows.review.decisions import reject as refuse
    from flows.workspace.workspace import open_workspace

    show_ledger_entry(refuse(settings, version, signed_in(open_workspace(settings).lineage, reviewer), reason))


def keys_new(
    folder: Annotated[Path, typer.Argument(help="Folder for skillstack.key (keep it secret) and skillstack.pub.")],
    as_json: AsJson = False,
) -> None:
    """Make a key pair for signing the ledger; existing files are not replaced."""
    choose(as_json)
    from flows.lineage.storage.signing import KEY_VARIABLE, make_key_pair

    private, public = make_key_pair(folder)
    lines = [f"private key: {private} (name it in {KEY_VARIABLE})", f"public key: {public} (name it in signing.public_keys)"]
    print_answer({"private": private, "public": public}, lines)


def keys_introduce(
    public_key: Annotated[Path, typer.Argument(help="PEM file of the public key that is trusted from now on.")],
    reason: Reason,
    actor: Actor = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Record a new public key, signed with the current private key: for key rotation, or for a lineage that began without a key."""
    from flows.lineage import introduce_key

    opened = _lineage(config, as_json)
    show_ledger_entry(introduce_key(opened, public_key, reason=reason, actor=acting(opened, actor)))


def keys_sign(version: Version, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Sign a version's model folder with OpenSSF model_signing: a version older than `signing.models`, or after a change of the key."""
    from flows.lineage import sign_version

    signature = sign_version(_lineage(config, as_json), version)
    print_answer({"version": version, "signature": signature}, [f"version {version} is signed: {signature}"])


COMMANDS: tuple[Callable[..., None], ...] = (verify, lineage, pull, gc, rebuild, approve, reject)


def add_lineage_commands(app: typer.Typer) -> None:
    for command in COMMANDS:
        app.command()(command)
    keys = typer.Typer(help="Keys that sign the ledger and the models.", no_args_is_help=True)
    keys.command("new")(keys_new)
    keys.command("introduce")(keys_introduce)
    keys.command("sign")(keys_sign)
    app.add_typer(keys, name="keys")
