"""A stored verdict is recomputed from the reports that it names, and only from them."""

from __future__ import annotations

import shutil

import pytest

from data_contracts.errors import EvaluationError, LineageError, ManifestError
from data_contracts.manifests import Decision, Verdict, manifest_digest, read_manifest, write_manifest
from flows.lineage import Lineage, find_version
from flows.lineage.registry.replaying import confirm_verdict, recompute, stored_reports


def test_the_reports_of_a_verdict_give_it_again_byte_for_byte(grown: Lineage) -> None:
    version = find_version(grown, 3)
    assert version.verdict is not None
    again = recompute(grown.state_dir, version.verdict)
    stored = (version.verdict / "manifest.json").read_bytes()
    write_manifest(version.verdict, again)
    assert (version.verdict / "manifest.json").read_bytes() == stored


def test_a_report_that_is_gone_is_named_with_its_role(grown: Lineage) -> None:
    version = find_version(grown, 3)
    assert version.evaluation is not None
    assert version.verdict is not None
    assert version.evaluation in stored_reports(grown.state_dir).values()
    shutil.rmtree(version.evaluation)
    with pytest.raises(ManifestError, match=r"\(candidate\).*restore the state directory from backup"):
        recompute(grown.state_dir, version.verdict)


def test_a_verdict_without_a_champions_report_is_no_verdict(grown: Lineage) -> None:
    version = find_version(grown, 3)
    assert version.verdict is not None
    stored = read_manifest(version.verdict, Verdict)
    inputs = {role: digest for role, digest in stored.inputs.items() if role != "champion"}
    write_manifest(version.verdict, stored.model_copy(update={"inputs": inputs}))
    with pytest.raises(EvaluationError, match="names no champion report"):
        recompute(grown.state_dir, version.verdict)


def test_only_the_registered_verdict_is_confirmed(grown: Lineage) -> None:
    version = find_version(grown, 3)
    assert version.verdict is not None
    stored = read_manifest(version.verdict, Verdict)
    assert manifest_digest(stored) == version.verdict_sha256
    confirm_verdict(grown, version, stored)
    with pytest.raises(LineageError, match="not the verdict that it was registered with"):
        confirm_verdict(grown, version, stored.model_copy(update={"decision": Decision.BLOCK}))
    write_manifest(version.verdict, stored.model_copy(update={"reasons": ("Nothing was lost.",)}))
    with pytest.raises(LineageError, match="is not the verdict that was registered"):
        confirm_verdict(grown, version, stored)
