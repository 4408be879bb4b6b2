"""The tree of versions and its drawing."""

from __future__ import annotations

import json

from data_contracts.manifests import Decision
from flows.lineage import current_champion, find_version, read_tree, roll_back


def test_the_tree_follows_what_was_built_on_what(grown, register):
    first = find_version(grown, 2)
    register(grown, "bad", 3, parent=current_champion(grown).model_sha256, decision=Decision.BLOCK)
    roll_back(grown, 2, reason="complaints", actor="ann")
    register(grown, "other", 2, parent=first.model_sha256)
    tree = read_tree(grown)
    assert [record.version for record in tree.children(None)] == [1]
    assert [record.skill for record in tree.children(2)] == ["second", "other"]
    text = "\n".join(tree.lines())
    assert text.count("CHAMPION") == 1
    assert "rollback from version 3 by ann: complaints" in text
    assert [line.lstrip(" │├└─").split(" · ")[0] for line in tree.lines() if " · round " in line] == [
        f"version {n}" for n in (1, 2, 3, 4, 5)
    ]
    actions = [entry["action"] for entry in json.loads(tree.model_dump_json())["ledger"]]
    assert actions[-2:] == ["rollback", "register"]  # `other` was registered after it


def test_dot_names_every_version_and_edge_and_escapes(grown, register):
    register(grown, 'quo"te', 3, parent=current_champion(grown).model_sha256)
    dot = read_tree(grown).dot()
    assert [line.strip() for line in dot.splitlines() if "->" in line] == ["v1 -> v2;", "v2 -> v3;", "v3 -> v4;"]
    assert 'quo\\"te' in dot
    assert dot.count("{") == dot.count("}") == 1
