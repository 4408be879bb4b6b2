"""OpenSSF signatures of model folders (`signing.models`): `model.sig` beside `model/`, which needs no skillstack to be verified.

    model_signing verify key model --signature model.sig --public_key skillstack.pub

The key pair is that of the ledger. The signature covers every file of `model/`, whose digests the signed ledger covers too, except for the
model card, which is written after the decision and which no loader reads.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from data_contracts.errors import LineageError
from flows.lineage.storage.signing import KEY_VARIABLE, PASSWORD_VARIABLE, Keys, public_pem

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

SIGNATURE_NAME = "model.sig"
UNSIGNED = "README.md"
_HOW = "sign it with `skillstack keys sign VERSION`, where the private key is"


def sign_model(keys: Keys, checkpoint: Path) -> Path:
    """Write `checkpoint/model.sig`. Raises LineageError without a private key."""
    if keys.private_path is None:
        way_out = f"name the private key in {KEY_VARIABLE} or signing.private_key"
        raise LineageError(str(checkpoint), "must be signed (signing.models is set), but this machine has no private key", way_out)
    from model_signing import hashing
    from model_signing.signing import Config

    target = checkpoint / SIGNATURE_NAME
    partial = target.with_name(f".{SIGNATURE_NAME}.partial")
    password = os.environ.get(PASSWORD_VARIABLE)
    signer = Config().use_elliptic_key_signer(private_key=keys.private_path, password=password.encode() if password else None)
    model = checkpoint / "model"
    signer.set_hashing_config(hashing.Config().set_ignored_paths(paths=[UNSIGNED], ignore_git_paths=True))
    signer.sign(model, partial)
    os.replace(partial, target)
    return target


def signature_problem(checkpoint: Path, trusted: Iterable[EllipticCurvePublicKey]) -> str | None:
    """What is wrong with the signature of `checkpoint/model`; None if a trusted key signed exactly these files."""
    signature = checkpoint / SIGNATURE_NAME
    if not signature.is_file():
        return f"has no OpenSSF signature ({SIGNATURE_NAME}): {_HOW}"
    try:
        signed_by = json.loads(signature.read_text(encoding="utf-8"))["verificationMaterial"]["publicKey"]["hint"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"its {SIGNATURE_NAME} cannot be read: {_HOW}"
    pem = next((text for key in trusted if sha256((text := public_pem(key)).encode()).hexdigest() == signed_by), None)
    if pem is None:
        return f"its {SIGNATURE_NAME} is of a key that is not trusted here ({signed_by[:16]})"
    return None if _matches(checkpoint / "model", signature, pem) else f"its {SIGNATURE_NAME} does not match its files: one was changed"


def _matches(model: Path, signature: Path, pem: str) -> bool:
    from cryptography.exceptions import InvalidSignature
    from model_signing.verifying import Config

    with TemporaryDirectory() as folder:  # it takes keys from files only
        key = Path(folder) / "key.pub"
        key.write_text(pem)
        try:
            Config().use_elliptic_key_verifier(public_key=key).verify(model, signature)
        except (ValueError, InvalidSignature):  # another digest, another set of files, or a statement that the key did not sign
            return False
    return True
