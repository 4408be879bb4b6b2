"""Signatures of the ledger: a private key signs each entry, and the public key verifies them anywhere, offline.

The hash chain proves the order of entries; only a key that is not stored with the database proves who wrote them. An entry contains the
digests of the version's tags, of its checkpoint's manifest and of its verdict, so one signature covers all of these. ECDSA on P-256 is also
the algorithm of OpenSSF's `model_signing`: the same key pair can sign a model folder for others (docs/guides/trust.md).
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from data_contracts.errors import ConfigError, LineageError
from flows.lineage.storage.records import LedgerEntry

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

KEY_VARIABLE, PASSWORD_VARIABLE = "SKILLSTACK_SIGNING_KEY", "SKILLSTACK_SIGNING_KEY_PASSWORD"
HEAD_URL_VARIABLE = "SKILLSTACK_HEAD_URL"
PRIVATE_NAME, PUBLIC_NAME = "skillstack.key", "skillstack.pub"


class SigningConfig(BaseModel):
    """The key that signs the ledger, and the keys that are trusted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    private_key: Path | None = Field(
        None, description=f"PEM file of the private key of this machine; the environment variable {KEY_VARIABLE} takes precedence"
    )
    public_keys: tuple[Path, ...] = Field(
        (),
        description="PEM files of trusted keys; if there is one, `pull` and promotions refuse unsigned entries, and `verify` reports them",
    )
    models: bool = Field(
        False,
        description="also sign each version's model folder with OpenSSF model_signing (extra `signing`); `pull` and `verify` require it",
    )
    head_file: Path | None = Field(
        None, description="file in another place (another disk, a share) to which the head of the ledger is appended after each entry"
    )
    head_url: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        description=f"webhook that gets the head of the ledger after each entry (JSON by POST); {HEAD_URL_VARIABLE} takes precedence",
    )


@dataclass(frozen=True)
class Keys:
    """The loaded keys. `public` always includes the public key of `private`; `models`: whether model folders are signed too."""

    private: EllipticCurvePrivateKey | None = None
    public: tuple[EllipticCurvePublicKey, ...] = ()
    head_file: Path | None = None
    head_url: str = ""
    private_path: Path | None = None
    models: bool = False

    @property
    def required(self) -> bool:
        return bool(self.public)


def load_keys(config: SigningConfig) -> Keys:
    """Load the configured keys. Raises ConfigError if one cannot be read: a service must not continue unsigned."""
    if config.models and not has_model_signing():
        way_out = "pip install 'skillstack[signing]'"  # said before a training, not at the registration of what it made
        raise ConfigError("signing.models", "needs the packages model-signing and pyopenssl, which are not installed", way_out)
    named = os.environ.get(KEY_VARIABLE)
    path = Path(named) if named else config.private_key
    private = read_private(path) if path is not None else None
    public = [read_public(path) for path in config.public_keys]
    if private is not None and fingerprint(private.public_key()) not in {fingerprint(key) for key in public}:
        public.append(private.public_key())
    head_url = os.environ.get(HEAD_URL_VARIABLE) or config.head_url
    return Keys(private, tuple(public), config.head_file, head_url, path, config.models)


def has_model_signing() -> bool:
    """Whether OpenSSF's model_signing is installed, with what it imports and does not declare."""
    return all(find_spec(name) is not None for name in ("model_signing", "OpenSSL"))


def with_public(keys: Keys, paths: Sequence[Path]) -> Keys:
    return replace(keys, public=(*keys.public, *(read_public(path) for path in paths)))


def read_private(path: Path) -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    password = os.environ.get(PASSWORD_VARIABLE)
    try:
        key = load_pem_private_key(path.read_bytes(), password.encode() if password else None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"private key {path}", f"cannot be read: {_line(error)}", _MAKE) from error
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise ConfigError(f"private key {path}", "is not an elliptic-curve key on P-256", _MAKE)
    return key


def read_public(path: Path) -> EllipticCurvePublicKey:
    try:
        return parse_public(path.read_bytes())
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"public key {path}", f"cannot be read: {_line(error)}", _MAKE) from error


def parse_public(pem: bytes) -> EllipticCurvePublicKey:
    """Raises ValueError unless it is a public key on P-256."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = load_pem_public_key(pem)
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise ValueError("is not an elliptic-curve key on P-256")
    return key


_MAKE = "make a pair with `skillstack keys new FOLDER`"


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def make_key_pair(folder: Path) -> tuple[Path, Path]:
    """Write a new private and public key as PEM files. Raises ConfigError if a file exists."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private, public = folder / PRIVATE_NAME, folder / PUBLIC_NAME
    key = ec.generate_private_key(ec.SECP256R1())
    secret = os.environ.get(PASSWORD_VARIABLE)
    locked = serialization.BestAvailableEncryption(secret.encode()) if secret else serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    for path, content, mode in ((private, pem, 0o600), (public, public_pem(key.public_key()).encode(), 0o644)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
                stream.write(content)
        except OSError as error:
            raise ConfigError(str(path), f"cannot be written: {error.strerror}", "give a new folder") from error
    return private, public


def public_pem(key: EllipticCurvePublicKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def fingerprint(key: EllipticCurvePublicKey) -> str:
    """The first 16 hex digits of the sha256 of the key in DER, as from `openssl pkey -pubin -outform DER | sha256sum`."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()[:16]


def sign_entry(keys: Keys, entry: LedgerEntry) -> LedgerEntry:
    """The entry with its signature; unchanged if there is no private key and none is required."""
    if keys.private is None:
        if keys.required:
            way_out = f"name the private key in {KEY_VARIABLE} or signing.private_key"
            raise LineageError("ledger", "must be signed (signing.public_keys is set), but this machine has no private key", way_out)
        return entry
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    marked = entry.model_copy(update={"key": fingerprint(keys.private.public_key()), "signature": None})
    signature = keys.private.sign(marked.unsigned_text.encode(), ec.ECDSA(hashes.SHA256()))
    return marked.model_copy(update={"signature": base64.b64encode(signature).decode()})


def is_signed_by(entry: LedgerEntry, key: EllipticCurvePublicKey) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key.verify(base64.b64decode(entry.signature or "", validate=True), entry.unsigned_text.encode(), ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def signed_from(entries: Sequence[LedgerEntry]) -> int | None:
    """The number of the first signed entry; None if there is none."""
    return next((entry.sequence for entry in entries if entry.signature is not None), None)


def bad_signatures(entries: Sequence[LedgerEntry], keys: Iterable[EllipticCurvePublicKey]) -> Iterator[tuple[int, str]]:
    """(number, problem) of each entry without a valid signature of a trusted key.

    Entries before the first signed one are older than the key: the first signature covers them through the hash chain. A key that an
    entry introduces is trusted from the next entry on, and only if that entry itself has a valid signature.
    """
    for number, problem, _ in _walk(entries, keys):
        if problem:
            yield number, problem


def trusted_keys(entries: Sequence[LedgerEntry], keys: Iterable[EllipticCurvePublicKey]) -> tuple[EllipticCurvePublicKey, ...]:
    """The given keys and those that signed entries of the ledger introduce."""
    return (*keys, *(new for _, _, new in _walk(entries, keys) if new is not None))


def _walk(
    entries: Sequence[LedgerEntry], keys: Iterable[EllipticCurvePublicKey]
) -> Iterator[tuple[int, str, EllipticCurvePublicKey | None]]:
    """(number, problem or "", introduced key) of each entry that has one of these."""
    trusted = {fingerprint(key): key for key in keys}
    first = signed_from(entries)
    if entries and first is None:
        yield len(entries) - 1, "no entry of the ledger is signed, but a public key is configured", None
    for entry in entries[first:] if first is not None else ():
        if entry.signature is None:
            yield entry.sequence, "is not signed, but entries before it are", None
        elif entry.key not in trusted:
            yield entry.sequence, f"is signed by a key that is not trusted here ({entry.key})", None
        elif not is_signed_by(entry, trusted[entry.key]):
            yield entry.sequence, "its signature does not match its text: it was changed, or written without the key", None
        elif entry.introduces is not None:
            new = parse_public(entry.introduces.encode())
            trusted[fingerprint(new)] = new
            yield entry.sequence, "", new


def require_signed(keys: Keys, entries: Sequence[LedgerEntry], versions: Iterable[int] = ()) -> None:
    """Raise LineageError unless the ledger has valid signatures up to its end, also of entries on the given versions."""
    if not keys.required:
        return
    for number, problem in bad_signatures(entries, keys.public):
        raise LineageError(f"ledger entry {number}", problem, _UNSIGNED)
    first = signed_from(entries) or 0
    vouched = {entry.version for entry in entries[first:] if entry.action != "key" and entry.facts_sha256 is not None}
    sealed = max((entry.version for entry in entries[first:] if entry.action == "key"), default=0)
    for version in versions:
        if version not in vouched and version > sealed:
            raise LineageError(f"version {version}", "is not covered by a signed entry of the ledger", _UNSIGNED)


_UNSIGNED = "see `skillstack verify`; sign a lineage that is older than its key with `skillstack keys introduce`"
