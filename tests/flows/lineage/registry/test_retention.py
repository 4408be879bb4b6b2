"""Old weights go and come back: byte for byte on checkpoints that the engine itself trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_contracts.digests import model_digest, model_files
from data_contracts.errors import CheckpointError, LineageError, ManifestError
from data_contracts.manifests import (
    CheckpointManifest,
    Decision,
    DropManifest,
    EvalReport,
    file_ref,
    manifest_digest,
    read_manifest,
    write_manifest,
)
from flows.lineage import (
    Lineage,
    RetentionPolicy,
    RoundRecord,
    collect_garbage,
    connect,
    current_champion,
    find_version,
    finish_round,
    log_stage,
    open_round,
    promote_version,
    read_ancestry,
    read_ledger,
    rebuild_version,
    register_candidate,
    roll_back,
    verify_lineage,
)
from flows.lineage.registry.retention import plan_collection

SHORT = RetentionPolicy(keep_last=1, keep_anchors=False)


def _tiny_base(folder: Path) -> None:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = {symbol: index for index, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.add_special_tokens(["<s>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="<s>", pad_token="<s>")
    torch.manual_seed(7)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    LlamaForCausalLM(
        LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=128, tie_word_embeddings=True, **sizes)
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _drop(folder: Path, word: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "clean.jsonl").write_text("".join(json.dumps({"text": f"{word} {n} times"}) + "\n" for n in range(16)))
    counts = {"rows_read": 16, "rows_clean": 16, "rows_heldout": 0, "rows_sealed": 0, "rows_quarantined": 0}
    named = {"skill": word, "source": f"{word}.jsonl", "source_sha256": "0" * 64, "contract": "text", "contract_version": "1"}
    write_manifest(folder, DropManifest(files={"clean": file_ref(folder, folder / "clean.jsonl")}, **named, **counts))
    return folder


@pytest.fixture(scope="module")
def trained_state(tmp_path_factory, empty_state, copy_of, judge) -> Path:
    """Base, three promoted rounds of OSFT (thin updates, then a dense one) and one blocked round of full fine-tuning."""
    from osft_engine.checkpoint.read import describe_base
    from osft_engine.config import TrainConfig
    from osft_engine.run import TrainRun
    from osft_engine.train import train_candidate

    state = copy_of(empty_state, tmp_path_factory.mktemp("trained") / "state")
    lineage = connect(f"sqlite:///{state}/mlflow.db", model_name="tiny", experiment="rounds", state_dir=state)
    _tiny_base(state / "base-model")
    base = describe_base(state / "base-model", state / "rounds" / "0" / "checkpoint")
    run = open_round(lineage, 0, None)
    champion = register_candidate(lineage, run, state / "rounds" / "0" / "checkpoint", base)
    promote_version(lineage, champion.version, expected_champion=None, reason="start", actor="test", verdict=None)
    methods = [{"protect": "activations"}, {"protect": "activations"}, {"protect": "weights_block"}, {"method": "full"}]
    for number, method in enumerate(methods, start=1):
        folder = state / "rounds" / str(number)
        word = ("one", "two", "three", "four")[number - 1]
        config = TrainConfig(
            num_epochs=2, learning_rate=1e-2, max_seq_len=64, max_tokens_per_batch=256, device="cpu", num_threads=1, **method
        )
        manifest = train_candidate(
            TrainRun(
                base=champion.checkpoint / "model",
                parent=champion.checkpoint,
                drop=_drop(folder / "drop", word),
                skill=word,
                out_dir=folder / "checkpoint",
                config=config,
            )
        )
        decision = Decision.PASS if number < 4 else Decision.BLOCK
        before = champion.model_sha256
        evaluation, verdict = judge(state, str(number), manifest.model_sha256, before, skill=word, decision=decision)
        run = open_round(lineage, number, word, chain=read_ancestry(lineage, champion.version))
        log_stage(lineage, run, "decide", verdict, folder / "verdict")
        version = register_candidate(
            lineage,
            run,
            folder / "checkpoint",
            manifest,
            evaluation=evaluation,
            report=read_manifest(evaluation, EvalReport),
            verdict_folder=folder / "verdict",
            verdict=verdict,
            drop=folder / "drop",
        )
        finish_round(lineage, run)
        if decision is Decision.PASS:
            promote_version(lineage, version.version, expected_champion=champion.version, reason="gate", actor="flow", verdict=verdict)
            champion = version
    return state


@pytest.fixture
def trained(trained_state, tmp_path, copy_of) -> Lineage:
    state = copy_of(trained_state, tmp_path / "state")
    return connect(f"sqlite:///{state}/mlflow.db", model_name="tiny", experiment="rounds", state_dir=state)


def _weights(lineage: Lineage, version: int) -> Path:
    return find_version(lineage, version).checkpoint / "model" / "model.safetensors"


def _kept(items) -> dict[int, str]:
    return {version: item.reason for item in items for version in item.versions if item.action == "keep"}


def test_a_dry_run_says_what_would_go_and_touches_nothing(trained):
    before = verify_lineage(trained)
    items = collect_garbage(trained, SHORT, actor="ann", dry_run=True)
    assert [item.versions for item in items if item.action == "collect"] == [(2,)]
    assert set(_kept(items)) == {1, 3, 4, 5}
    assert _kept(items)[4] == "champion"
    assert verify_lineage(trained) == before


def test_what_the_champion_was_built_on_stays_by_default(trained):
    items = collect_garbage(trained, RetentionPolicy(keep_last=1), actor="ann", dry_run=True)
    assert [item.action for item in items] == ["keep"] * 5


def test_collected_weights_come_back_byte_for_byte(trained):
    bytes_before = _weights(trained, 2).read_bytes()
    collect_garbage(trained, SHORT, actor="ann")
    assert not _weights(trained, 2).exists()
    assert verify_lineage(trained).ok  # what is expected of a collected version is there
    with pytest.raises(LineageError, match=r"deleted by gc on .* skillstack rebuild 2"):
        find_version(trained, 2, verify=True)
    with pytest.raises(LineageError, match="deleted by gc on"):
        roll_back(trained, 2, reason="complaints", actor="ann")

    manifest = rebuild_version(trained, 2, actor="ann")
    assert _weights(trained, 2).read_bytes() == bytes_before
    assert manifest_digest(manifest) == find_version(trained, 2, verify=True).manifest_sha256
    assert [entry.action for entry in read_ledger(trained)][-2:] == ["collect", "rebuild"]
    assert roll_back(trained, 2, reason="complaints", actor="ann").champion == 2


def test_a_version_comes_back_although_its_parents_were_collected_too(trained, register):
    kept = {version: _weights(trained, version).read_bytes() for version in (2, 3)}
    roll_back(trained, 1, reason="start over", actor="ann")
    items = collect_garbage(trained, SHORT, actor="ann")
    # Rolled back to the base: rounds 1 and 2 are neither champion nor previous, and round 2 was built on round 1.
    assert [item.versions for item in items if item.action == "collected"] == [(2,), (3,)]
    rebuild_version(trained, 3, actor="ann")
    assert _weights(trained, 3).read_bytes() == kept[3]
    assert not _weights(trained, 2).exists()


def test_without_a_stored_update_nothing_is_deleted(trained, register):
    _, newest, _ = register(trained, "newest", 5, parent=current_champion(trained).model_sha256)
    items = collect_garbage(trained, SHORT, actor="ann")
    assert newest.version == 6  # so that version 5, the full fine-tuning, is not among the last
    [item] = [item for item in items if item.versions == (5,)]
    assert item.action == "keep"
    assert "no stored update (method full)" in item.reason
    assert _weights(trained, 5).is_file()


def test_a_rebuild_elsewhere_is_a_whole_checkpoint(trained, tmp_path):
    from transformers import AutoModelForCausalLM

    rebuilt = rebuild_version(trained, 4, out=tmp_path / "again", actor="ann")
    assert read_manifest(tmp_path / "again", CheckpointManifest) == rebuilt
    assert rebuilt.model_sha256 == find_version(trained, 4).model_sha256
    AutoModelForCausalLM.from_pretrained(tmp_path / "again" / "model")
    with pytest.raises(CheckpointError, match="no stored update"):
        rebuild_version(trained, 1, out=tmp_path / "base", actor="ann")


def test_a_changed_update_is_noticed_before_anything_is_rebuilt(trained):
    collect_garbage(trained, SHORT, actor="ann")
    update = find_version(trained, 2).checkpoint / "update.safetensors"
    update.write_bytes(update.read_bytes()[:-1] + b"?")
    with pytest.raises(ManifestError, match=r"update\.safetensors: has changed"):
        rebuild_version(trained, 2, actor="ann")
    assert [finding.version for finding in verify_lineage(trained).findings] == [2]


def test_weights_that_come_back_equal_to_rounding_are_kept_unless_that_was_allowed(trained, tmp_path):
    """As after training on a GPU: one element of the stored weights is one rounding step away from what a CPU computes."""
    from safetensors.torch import load_file, save_file

    checkpoint = find_version(trained, 2).checkpoint
    tensors = load_file(_weights(trained, 2))
    name = next(name for name in tensors if name.endswith("q_proj.weight"))
    tensors[name][0, 0] *= 1 + torch_eps()
    save_file(tensors, _weights(trained, 2), metadata={"format": "pt"})
    before = read_manifest(checkpoint, CheckpointManifest, verify=False)
    files = {role: file_ref(checkpoint, checkpoint / ref.path) for role, ref in before.files.items()}
    manifest = before.model_copy(update={"files": files, "model_sha256": model_digest(model_files(checkpoint / "model"))})
    write_manifest(checkpoint, manifest)
    for tag, value in (("manifest_sha256", manifest_digest(manifest)), ("model_sha256", manifest.model_sha256)):
        trained.client.set_model_version_tag("tiny", "2", f"skillstack.{tag}", value)

    [item] = [item for item in collect_garbage(trained, SHORT, actor="ann") if item.versions == (2,)]
    assert item.action == "keep"
    assert "rounding steps, not byte for byte" in item.reason
    [item] = [
        item for item in collect_garbage(trained, SHORT.model_copy(update={"allow_rounding": True}), actor="ann") if item.versions == (2,)
    ]
    assert item.action == "collected"
    with pytest.raises(LineageError, match="up to rounding only"):
        rebuild_version(trained, 2, actor="ann")
    rebuilt = rebuild_version(trained, 2, out=tmp_path / "again", actor="ann")
    assert rebuilt.model_sha256 == before.model_sha256  # what the CPU computed in the first place
    again = load_file(tmp_path / "again" / "model" / "model.safetensors")
    assert all((again[key] - value).abs().max() <= 1e-6 for key, value in tensors.items())


def torch_eps() -> float:
    import torch

    return torch.finfo(torch.float32).eps


def test_versions_that_share_a_folder_are_judged_together(tmp_path):
    folder = tmp_path / "checkpoint"
    (folder / "model").mkdir(parents=True)
    records = [
        RoundRecord(
            round=1, skill="a", method="osft", attempt=attempt, version=version, status="finished", checkpoint=folder, run_id=str(version)
        )
        for attempt, version in ((1, 2), (2, 3))
    ]
    for champion, action in ((3, "keep"), (9, "collect")):
        plan = plan_collection([*records, _newer()], {}, champion, frozenset(), SHORT)
        assert [item.action for item in plan if 2 in item.versions] == [action]
    assert plan[0].versions == (2, 3)


def _newer() -> RoundRecord:
    return RoundRecord(
        round=2, skill="b", method="osft", attempt=1, version=9, status="finished", checkpoint=Path("/elsewhere"), run_id="9"
    )


def test_a_candidate_that_waits_for_a_person_stays(tmp_path):
    held = RoundRecord(
        round=2,
        skill="a",
        method="osft",
        attempt=1,
        version=2,
        parent_version=1,
        status="finished",
        decision="INCONCLUSIVE",
        checkpoint=tmp_path,
        run_id="2",
    )
    for record, champion, action in ((held, 1, "keep"), (held, 8, "collect"), (held.model_copy(update={"rejected": True}), 1, "collect")):
        [item, _] = plan_collection([record, _newer()], {}, champion, frozenset(), SHORT)
        assert item.action == action


def test_gc_killed_after_any_write_and_run_again_collects_once(trained, kill_everywhere):
    begun: set[int] = set()

    def collect(lineage: Lineage, after: int):
        if after not in begun:
            begun.add(after)
            rebuild_version(trained, 2, actor="ann")
        return collect_garbage(lineage, SHORT, actor="ann")

    def check(after: int, items) -> None:
        assert ("collected", (2,)) in {(item.action, item.versions) for item in items}
        assert find_version(trained, 2).collected is not None
        assert not _weights(trained, 2).exists()
        assert [entry.action for entry in read_ledger(trained) if entry.version == 2].count("collect") == after

    kill_everywhere(trained, collect, check, least=5)
    assert verify_lineage(trained).findings == ()
