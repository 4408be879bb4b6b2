"""A lineage whose checkpoints the engine itself trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_contracts.manifests import (
    Decision,
    DropManifest,
    EvalReport,
    file_ref,
    read_manifest,
    write_manifest,
)
from flows.lineage import (
    Lineage,
    connect,
    finish_round,
    log_stage,
    open_round,
    promote_version,
    read_ancestry,
    register_candidate,
)


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


@pytest.fixture(scope="session")
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
