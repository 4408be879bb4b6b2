"""History with a key: who has only the public one verifies it; a chain rebuilt or cut short, and an entry without the key, are found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import LineageError, SkillstackError
from data_contracts.manifests import Decision
from flows.lineage import (
    Lineage,
    approve_version,
    current_champion,
    introduce_key,
    promote_on_approval,
    pull_version,
    read_ledger,
    reject_version,
    verify_lineage,
)
from flows.lineage.registry.heads import head_of
from flows.lineage.storage.signing import SigningConfig, make_key_pair

from .forgeries import cut_chain, rebuild_chain, sql


@pytest.fixture
def signed(tmp_path: Path, copy_of: Any, grown_state: Path, open_store_at: Any, register: Any) -> tuple[Lineage, SigningConfig]:
    """A lineage that is older than its key; the key was introduced and a blocked round registered since."""
    private, public = make_key_pair(tmp_path / "keys")
    config = SigningConfig(private_key=private, public_keys=(public,), head_file=tmp_path / "elsewhere" / "heads")
    lineage = open_store_at(copy_of(grown_state, tmp_path / "signed" / "state"), config)
    introduce_key(lineage, public, reason="signed from now on", actor="ann")
    register(lineage, "third", 3, parent=current_champion(lineage).model_sha256, decision=Decision.BLOCK)
    return lineage, config


def only_public(config: SigningConfig) -> SigningConfig:
    return SigningConfig(public_keys=config.public_keys)


def test_a_signed_lineage_verifies_with_the_public_key_alone(signed, open_store_at, tmp_path):
    lineage, config = signed
    result = verify_lineage(open_store_at(lineage.state_dir), config.public_keys)
    assert (result.findings, result.signed_from) == ((), 6)
    reader = open_store_at(lineage.state_dir, only_public(config))
    assert pull_version(reader, tmp_path / "served").version == 3
    with pytest.raises(LineageError, match="this machine has no private key"):
        reject_version(reader, 4, reviewer="bob", reason="no")


@pytest.mark.parametrize(("forge", "wanted"), [(rebuild_chain, "no entry of the ledger is signed"), (cut_chain, "entries were removed")])
def test_a_chain_that_was_rebuilt_whole_or_cut_short_is_found(signed, open_store_at, tmp_path, forge, wanted):
    lineage, config = signed
    unsigned = open_store_at(lineage.state_dir)
    entries = read_ledger(unsigned)
    forge(unsigned)
    if forge is rebuild_chain:
        assert verify_lineage(unsigned).findings == ()  # without a key, or a head that was kept elsewhere, nothing shows
    problems = [finding.problem for finding in verify_lineage(open_store_at(lineage.state_dir, config)).findings]
    assert any(wanted in problem for problem in problems), problems
    assert verify_lineage(unsigned, head=head_of(entries[-1])).findings != ()
    with pytest.raises(SkillstackError):
        pull_version(open_store_at(lineage.state_dir, config), tmp_path / "served")


def test_an_entry_written_without_the_key_is_found_and_not_served(signed, open_store_at, tmp_path):
    lineage, config = signed
    plain = open_store_at(lineage.state_dir)
    approve_version(plain, 4, reviewer="eve", reason="let it in", override=True)
    promote_on_approval(plain, 4)
    assert current_champion(plain).version == 4
    reader = open_store_at(lineage.state_dir, only_public(config))
    assert any("is not signed, but entries" in finding.problem for finding in verify_lineage(reader).findings)
    with pytest.raises(LineageError, match="is not signed"):
        pull_version(reader, tmp_path / "served")


def test_a_tag_of_a_version_older_than_the_key_is_covered(signed, open_store_at):
    lineage, config = signed
    sql(lineage, "UPDATE model_version_tags SET value = '7' WHERE version = 2 AND key = 'skillstack.attempt'")
    problems = [finding.problem for finding in verify_lineage(open_store_at(lineage.state_dir, config)).findings]
    assert any("covers the tags of all versions" in problem for problem in problems)


def test_keys_are_rotated_by_an_entry_of_the_old_one(signed, open_store_at, tmp_path):
    lineage, config = signed
    private, public = make_key_pair(tmp_path / "next")
    stranger = SigningConfig(private_key=private, public_keys=config.public_keys)
    introduce_key(lineage, public, reason="the year's new key", actor="ann")
    reject_version(open_store_at(lineage.state_dir, stranger), 4, reviewer="ann", reason="lost too much")
    result = verify_lineage(open_store_at(lineage.state_dir), config.public_keys)  # the first public key is enough
    assert result.findings == ()
    _, other = make_key_pair(tmp_path / "other")
    assert any("not trusted" in finding.problem for finding in verify_lineage(open_store_at(lineage.state_dir), (other,)).findings)
