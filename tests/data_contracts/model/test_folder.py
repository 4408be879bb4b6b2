"""A model folder that is not one whole model is refused in one line that names the file or the tensor, by every loader alike.

The folders are made by transformers and then damaged in the ways that real ones are: half a download, a Git LFS clone, a wrapped or
quantised model, another config. Without the check transformers 5 loads most of them and draws what is missing at random.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
)

from data_contracts.errors import CheckpointError
from data_contracts.model.folder import load_strictly, passed_over, require_model_folder

Tensors = dict[str, torch.Tensor]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
Q = "model.layers.0.self_attn.q_proj.weight"


def _save(folder: Path, *, tied: bool, family: str = "llama", shards: str = "1GB", **more: Any) -> Path:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, vocab_size=40, max_position_embeddings=64, tie_word_embeddings=tied, **SIZES, **more)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder, max_shard_size=shards)
    _tokenizer().save_pretrained(folder)
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models

    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a")))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("whole")
    experts = {"num_local_experts": 2, "num_experts_per_tok": 1}
    return {
        "tied": _save(root / "tied", tied=True),
        "untied": _save(root / "untied", tied=False),
        "sharded": _save(root / "sharded", tied=False, shards="4KB"),
        "experts": _save(root / "experts", tied=False, family="mixtral", **experts),
    }


def _tensors(change: Callable[[Tensors], Tensors | None]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        changed = change(tensors)
        save_file(tensors if changed is None else changed, folder / "model.safetensors", metadata={"format": "pt"})

    return damage


def _config(**values: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | values))

    return damage


def _prefixed(prefix: str) -> Callable[[Path], None]:
    return _tensors(lambda tensors: {prefix + name: value for name, value in tensors.items()})


def _without(name: str) -> Callable[[Path], None]:
    return _tensors(lambda tensors: {key: value for key, value in tensors.items() if key != name})


def _replaced(name: str, make: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    return _tensors(lambda tensors: tensors | {name: make(tensors[name])})


def _write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def _cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def _last_shard(folder: Path) -> Path:
    return max(folder.glob("model-*.safetensors"))


def _pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _no_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def _other_shard(folder: Path) -> None:
    save_file({"x": torch.ones(1)}, _last_shard(folder))


def _renamed(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "m.safetensors")


def _two_sets(folder: Path) -> None:
    shutil.copyfile(_last_shard(folder), folder / "model.safetensors")


HEAD = {"lm_head.weight": torch.ones(40, 16)}
FAULTS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "no config": ("tied", lambda folder: (folder / "config.json").unlink(), "no config.json"),
    "config is nested too deep": (
        "tied",
        _write("config.json", b"[" * 100_000 + b"]" * 100_000),
        "is not JSON: .*recursion",
    ),
    "config is a pointer": ("tied", _write("config.json", POINTER), "config.json is a Git LFS pointer"),
    "weights are a pointer": ("tied", _write("model.safetensors", POINTER), "model.safetensors is a Git LFS pointer"),
    "tokenizer is a pointer": ("tied", _write("tokenizer.json", POINTER), "tokenizer.json is a Git LFS pointer"),
    "a shard is a pointer": ("sharded", lambda folder: _last_shard(folder).write_bytes(POINTER) and None, "is a Git LFS pointer"),
    "an absent shard": ("sharded", lambda folder: _last_shard(folder).unlink(), "names model-.*safetensors, which is not there"),
    "a shard of another download": (
        "sharded",
        _other_shard,
        "lacks .*the index says",
    ),
    "two sets of weights": ("sharded", _two_sets, "two sets of weights"),
    "a cut file": ("tied", _cut, "bytes of weights where its header says"),
    "no safetensors at all": ("tied", _write("model.safetensors", b"nothing of the kind"), "is not a complete safetensors file"),
    "pickled weights": ("tied", _pickled, "has no .*safetensors weights .*pickled weights are never loaded"),
    "other file names": (
        "tied",
        _renamed,
        "has m.safetensors",
    ),
    "no tokenizer": ("tied", _no_tokenizer, "has no tokenizer files"),
    "wrapped by DDP": ("untied", _prefixed("module."), "prefix 'module.'"),
    "wrapped by torch.compile": ("untied", _prefixed("_orig_mod."), "prefix '_orig_mod.'"),
    "wrapped twice": ("untied", _prefixed("model."), "prefix 'model.model.'"),
    "wrapped by something new": ("untied", _prefixed("engine."), "lacks the tensor .* and 20 more; it has engine.* and 20 more"),
    "a quantised config": ("tied", _config(quantization_config={"quant_method": "gptq", "bits": 4}), r"quantised \(gptq\)"),
    "quantised names": ("tied", _tensors(lambda t: {k.replace("weight", "qweight"): v for k, v in t.items()}), "qweight is quantised"),
    "eight-bit weights": ("tied", _replaced(Q, lambda value: value.to(torch.int8)), r"q_proj.weight is quantised \(I8\)"),
    "float8 weights": ("tied", _replaced(Q, lambda value: value.to(torch.float8_e4m3fn)), r"q_proj.weight is quantised \(F8_E4M3\)"),
    "a missing matrix": ("tied", _without(Q), f"lacks the tensor {Q}"),
    "a missing head": ("untied", _without("lm_head.weight"), "lacks the tensor lm_head.weight"),
    "a missing table": ("tied", _without("model.embed_tokens.weight"), "lacks the tensor lm_head.weight and 1 more"),
    "a missing expert": (
        "experts",
        _without("model.layers.1.block_sparse_moe.experts.1.w2.weight"),
        r"lacks the tensor model\.layers\.1\.block_sparse_moe\.experts\.1\.w2\.weight",
    ),
    "a head that the config ties": ("tied", _tensors(lambda t: t | HEAD), "ties the output head .*lm_head.weight is another matrix"),
    "more layers than the config": ("tied", _config(num_hidden_layers=1), r"has the tensor model\.layers\.1.* and 8 more"),
    "fewer layers than the config": ("tied", _config(num_hidden_layers=3), r"lacks the tensor model\.layers\.2.* and 8 more"),
    "another width": (
        "tied",
        _config(intermediate_size=32),
        r"has another shape than config.json says: \(16, 24\) in the file",
    ),
    "another vocabulary": ("tied", _config(vocab_size=50), "embed_tokens.weight has another shape"),
    "not a number": ("tied", _replaced(Q, lambda value: value * torch.nan), f"{Q} holds numbers that are not finite"),
    "infinite": ("tied", _replaced("model.norm.weight", lambda value: value / 0), "model.norm.weight holds numbers"),
    "another kind of model": ("tied", _config(model_type="t5", architectures=["T5Model"]), "cannot be loaded"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_folder_is_refused_by_name(whole: dict[str, Path], fault: str, tmp_path: Path) -> None:
    source, damage, message = FAULTS[fault]
    folder = tmp_path / "model"
    shutil.copytree(whole[source], folder)
    damage(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_strictly(AutoModelForCausalLM, folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("kind", ["tied", "untied", "sharded", "experts"])
def test_a_whole_folder_loads_with_every_tensor_of_its_files(whole: dict[str, Path], kind: str) -> None:
    stored = {name: value for file in whole[kind].glob("*.safetensors") for name, value in load_file(file).items()}
    assert {name: header.shape for name, header in require_model_folder(whole[kind]).items()} == {
        name: tuple(value.shape) for name, value in stored.items()
    }
    loaded = dict(load_strictly(AutoModelForCausalLM, whole[kind]).named_parameters())
    for name, value in stored.items():
        if "experts" not in name:  # transformers keeps those of a layer in one tensor
            torch.testing.assert_close(loaded[name.replace("block_sparse_moe", "mlp")], value, rtol=0, atol=0)


def test_what_transformers_calls_harmless_is_no_fault(whole: dict[str, Path], tmp_path: Path) -> None:
    """Buffers that older releases saved, a tied head that was written out, tensors without the prefix of the head's model."""
    folder = tmp_path / "old"
    shutil.copytree(whole["tied"], folder)
    tensors = load_file(folder / "model.safetensors")
    old = {name.removeprefix("model."): value for name, value in tensors.items()}
    old["layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(old, folder / "model.safetensors", metadata={"format": "pt"})
    assert torch.equal(load_strictly(AutoModelForCausalLM, folder).state_dict()[Q], tensors[Q])
    save_file(tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, folder / "model.safetensors")
    model = load_strictly(AutoModelForCausalLM, folder)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_a_buffer_that_is_saved_with_a_model_must_be_finite_and_one_that_is_made_anew_need_not_be(whole: dict[str, Path]) -> None:
    """Running means and scales belong to the weights; a mask of minus infinity does not."""

    class Loader:
        saved = torch.ones(2)

        @classmethod
        def from_pretrained(cls, folder: Path, **arguments: Any) -> Any:
            model, said = AutoModelForCausalLM.from_pretrained(folder, **arguments)
            model.model.norm.register_buffer("scale", cls.saved)
            model.model.norm.register_buffer("mask", torch.full((2,), -torch.inf), persistent=False)
            return model, said

    load_strictly(Loader, whole["tied"])
    Loader.saved = torch.tensor([1.0, torch.nan])
    with pytest.raises(CheckpointError, match=r"model\.norm\.scale holds numbers that are not finite"):
        load_strictly(Loader, whole["tied"])


def test_a_language_model_inside_a_folder_of_several_is_refused_until_it_is_saved_alone(tmp_path: Path) -> None:
    """The vision tower was left out without a word, and the candidate no longer loaded as what the base is."""
    text = SIZES | {
        "vocab_size": 40, "max_position_embeddings": 64, "head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 2,
        "linear_key_head_dim": 8, "linear_value_head_dim": 8, "layer_types": ["linear_attention", "full_attention"],
    }  # fmt: skip
    sight = {
        "depth": 1, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": 16, "patch_size": 4,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "num_position_embeddings": 16,
    }  # fmt: skip
    tokens = {"image_token_id": 36, "video_token_id": 37, "vision_start_token_id": 38, "vision_end_token_id": 39}
    both, alone = tmp_path / "both", tmp_path / "alone"
    config = Qwen3_5Config(text_config=text, vision_config=sight, tie_word_embeddings=False, **tokens)
    Qwen3_5ForConditionalGeneration(config).save_pretrained(both)
    _tokenizer().save_pretrained(both)
    with pytest.raises(CheckpointError, match=r"Qwen3_5ForCausalLM does not read model\.visual.*save the language model alone"):
        load_strictly(AutoModelForCausalLM, both)
    AutoModelForCausalLM.from_pretrained(both).save_pretrained(alone)
    AutoTokenizer.from_pretrained(both).save_pretrained(alone)
    assert not passed_over(load_strictly(AutoModelForCausalLM, alone), require_model_folder(alone))


def test_weights_that_transformers_passes_over_are_named(whole: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(whole["untied"], tmp_path / "mtp")
    _tensors(lambda tensors: tensors | {"mtp.fc.weight": torch.zeros(2, 2)})(folder)
    monkeypatch.setattr(LlamaForCausalLM, "_keys_to_ignore_on_load_unexpected", [r"^mtp\."], raising=False)
    model = load_strictly(AutoModelForCausalLM, folder)
    assert passed_over(model, require_model_folder(folder)) == ["mtp.fc.weight"]
