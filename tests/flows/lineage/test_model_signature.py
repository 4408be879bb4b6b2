"""Model folders signed by OpenSSF's model_signing: its own command verifies them, and pull and verify refuse what is not signed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import ConfigError, LineageError
from data_contracts.manifests import Decision
from flows.lineage import Lineage, current_champion, find_version, introduce_key, pull_version, sign_version, verify_lineage
from flows.lineage.model_signature import SIGNATURE_NAME
from flows.lineage.storage import signing
from flows.lineage.storage.signing import PASSWORD_VARIABLE, SigningConfig, make_key_pair


@pytest.fixture
def signed(tmp_path: Path, copy_of: Any, grown_state: Path, open_store_at: Any, register: Any) -> tuple[Lineage, SigningConfig]:
    """Three versions older than the key, and version 4, which a round registered with the key and the setting."""
    private, public = make_key_pair(tmp_path / "keys")
    config = SigningConfig(private_key=private, public_keys=(public,), models=True)
    lineage = open_store_at(copy_of(grown_state, tmp_path / "signed" / "state"), config)
    introduce_key(lineage, public, reason="signed from now on", actor="ann")
    register(lineage, "third", 3, parent=current_champion(lineage).model_sha256, decision=Decision.INCONCLUSIVE)
    return lineage, config


def verified_elsewhere(model: Path, signature: Path, public: Path) -> bool:
    """What a person without skillstack runs."""
    command = [
        sys.executable,
        "-m",
        "model_signing",
        "verify",
        "key",
        str(model),
        "--signature",
        str(signature),
        "--public_key",
        str(public),
    ]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def problems(lineage: Lineage) -> list[str]:
    return [finding.problem for finding in verify_lineage(lineage).findings]


def test_a_rounds_version_is_signed_and_the_signature_travels_with_the_model(signed: Any, tmp_path: Path) -> None:
    lineage, config = signed
    pull_version(lineage, tmp_path / "served", version=4)
    served, public = tmp_path / "served", config.public_keys[0]
    assert (served / "model" / "README.md").is_file(), "the model card, which is written after the signature"
    assert verified_elsewhere(served / "model", served / SIGNATURE_NAME, public)
    (served / "model" / "model.safetensors").write_bytes(b"other weights")
    assert not verified_elsewhere(served / "model", served / SIGNATURE_NAME, public)


def test_a_version_without_a_signature_is_a_finding_and_is_not_served_until_it_is_signed(signed: Any, tmp_path: Path) -> None:
    lineage, _ = signed
    assert len([each for each in problems(lineage) if "has no OpenSSF signature" in each]) == 3
    with pytest.raises(LineageError, match="has no OpenSSF signature"):
        pull_version(lineage, tmp_path / "served")
    assert not (tmp_path / "served").exists()
    for version in (1, 2, 3):
        sign_version(lineage, version)
    result = verify_lineage(lineage)
    assert (result.findings, result.signed_models) == ((), 4)
    assert pull_version(lineage, tmp_path / "served").version == 3


@pytest.mark.parametrize("change", ["added", "changed", "unreadable"])
def test_what_is_not_what_was_signed_is_found_and_not_served(signed: Any, tmp_path: Path, change: str) -> None:
    lineage, _ = signed
    checkpoint = find_version(lineage, 4).checkpoint
    if change == "added":  # no manifest names it, and from_pretrained might read it
        (checkpoint / "model" / "adapter_config.json").write_text("{}")
    elif change == "changed":
        (checkpoint / "model" / "model.safetensors").write_bytes(b"other weights")
    else:
        (checkpoint / SIGNATURE_NAME).write_text("{}")
    wanted = f"its {SIGNATURE_NAME} " + ("cannot be read" if change == "unreadable" else "does not match its files")
    assert any(each.startswith(wanted) for each in problems(lineage)), problems(lineage)
    with pytest.raises(LineageError):
        pull_version(lineage, tmp_path / "served", version=4)


def test_the_next_key_is_trusted_through_the_ledger_and_a_strangers_is_not(signed: Any, tmp_path: Path, open_store_at: Any) -> None:
    lineage, config = signed
    private, public = make_key_pair(tmp_path / "next")
    introduce_key(lineage, public, reason="the year's new key", actor="ann")
    later = open_store_at(lineage.state_dir, config.model_copy(update={"private_key": private}))
    sign_version(later, 4)
    assert verify_lineage(open_store_at(lineage.state_dir), config.public_keys).signed_models == 1  # an auditor with the first key alone
    stranger, _ = make_key_pair(tmp_path / "stranger")
    sign_version(open_store_at(lineage.state_dir, config.model_copy(update={"private_key": stranger})), 4)
    reader = open_store_at(lineage.state_dir, SigningConfig(public_keys=config.public_keys, models=True))
    assert any("is of a key that is not trusted here" in each for each in problems(reader))
    with pytest.raises(LineageError, match="not trusted"):
        pull_version(reader, tmp_path / "served", version=4)
    with pytest.raises(LineageError, match="no private key"):
        sign_version(reader, 4)


def test_without_the_package_the_setting_is_refused_at_once_and_an_auditor_verifies_the_rest(
    signed: Any, open_store_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lineage, config = signed
    monkeypatch.setattr(signing, "find_spec", lambda name: None if name == "OpenSSL" else object())
    with pytest.raises(ConfigError, match=r"signing\.models: needs .*pip install 'skillstack\[signing\]'"):
        open_store_at(lineage.state_dir, config)
    result = verify_lineage(open_store_at(lineage.state_dir), config.public_keys)
    assert (result.findings, result.signed_models) == ((), 0)


def test_a_locked_private_key_signs(signed: Any, tmp_path: Path, open_store_at: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lineage, config = signed
    monkeypatch.setenv(PASSWORD_VARIABLE, "correct horse")
    private, public = make_key_pair(tmp_path / "locked")
    sign_version(open_store_at(lineage.state_dir, config.model_copy(update={"private_key": private})), 4)
    checkpoint = find_version(lineage, 4).checkpoint
    assert verified_elsewhere(checkpoint / "model", checkpoint / SIGNATURE_NAME, public)
