"""Keys that sign the ledger."""

from __future__ import annotations

import shutil

import pytest

from data_contracts.errors import SkillstackError
from flows.lineage.storage.signing import SigningConfig


def test_a_key_that_cannot_be_read_stops_everything(tmp_path, empty_state, open_store_at):
    with pytest.raises(SkillstackError, match="private key"):
        open_store_at(empty_state, SigningConfig(private_key=tmp_path / "missing.key"))
    shutil.copyfile(__file__, tmp_path / "wrong.pub")
    with pytest.raises(SkillstackError, match="public key"):
        open_store_at(empty_state, SigningConfig(public_keys=(tmp_path / "wrong.pub",)))
