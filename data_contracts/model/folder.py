"""Is this folder one complete causal language model? Read from names, sizes and safetensors headers, without torch and without the weights.

transformers loads more than it should: a missing weight is drawn at random with a line in the log, 8-bit codes are read as numbers, a
foreign prefix is guessed away. Here each of these is one CheckpointError that names the file or the tensor.
"""

from __future__ import annotations

import json
import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_contracts.digests import MODEL_FILE_PATTERNS
from data_contracts.errors import CheckpointError
from data_contracts.model.header import TensorHeader, read_header

SINGLE_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
_LFS = b"version https://git-lfs"
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "*.model", "*.tiktoken", "tokenization_*.py")
_FOREIGN = ("module.", "_orig_mod.", "model.model.", "base_model.model.", "_fsdp_wrapped_module.", "_forward_module.")
_QUANTISED = re.compile(
    r"\.(qweight|qzeros|g_idx|SCB|absmax|quant_map|quant_state\..+|weight_scale(_inv)?|weight_packed|weight_blocks|weight_scales|input_scale)$"
)
_CODES = {"I8", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4"}  # types that hold codes of weights; masks and positions have others
_ALONE = (
    "save the language model alone and give that folder: AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW), and the same "
    "with AutoTokenizer"
)
_EXPERT = re.compile(r"^(.*\.experts)\.(\d+)\.(.+)$")


def require_model_folder(folder: Path) -> Mapping[str, TensorHeader]:
    """The tensors of a model folder by name, once everything that can be seen without loading them is in order.

    Raises CheckpointError for the first that is not: no or quantised config, Git LFS pointers, weights that are missing, cut off, pickled,
    quantised, named by another program or indexed wrongly, no tokenizer.
    """
    config = _read_json(folder, "config.json", "is not a model folder: no config.json", "give a folder that from_pretrained can load")
    _refuse_pointers(folder)
    method = config.get("quantization_config") or {}
    if method:
        name = method.get("quant_method", "an unnamed method") if isinstance(method, dict) else method
        raise _error(folder, f"config.json says that the weights are quantised ({name})", "give the unquantised model")
    tensors = _indexed(folder) if (folder / INDEX_FILE).is_file() else _single(folder)
    _refuse_foreign_names(folder, tensors)
    _refuse_quantised(folder, tensors)
    _refuse_lacking_experts(folder, tensors)
    if not any(True for pattern in _VOCABULARIES for _ in folder.glob(pattern)):
        raise _error(folder, "has no tokenizer files (tokenizer.json, tokenizer.model or vocab.json)", "copy them from the model's source")
    return tensors


def read_model_config(folder: Path) -> dict[str, Any]:
    """config.json of a model folder. Raises CheckpointError where it is missing or no JSON object."""
    return _read_json(folder, "config.json", "is not a model folder: no config.json", "give a folder that from_pretrained can load")


def _error(folder: Path, what: str, way_out: str) -> CheckpointError:
    return CheckpointError(str(folder), what, way_out)


def _read_json(folder: Path, name: str, missing: str, way_out: str) -> dict[str, Any]:
    try:
        content = (folder / name).read_bytes()
        if content.startswith(_LFS):
            raise _error(folder, f"{name} is a Git LFS pointer, not the file itself", "run `git lfs pull` there, or download it again")
        found = json.loads(content)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _error(folder, missing, way_out) from error
    except OSError as error:
        raise _error(folder, f"{name} cannot be read: {error.strerror}", "check its permissions") from error
    except (ValueError, RecursionError) as error:
        raise _error(folder, f"{name} is not JSON: {error}", "download it again") from error
    if not isinstance(found, dict):
        raise _error(folder, f"{name} is not a JSON object", "download it again")
    return found


def _refuse_pointers(folder: Path) -> None:
    for path in sorted({path for pattern in MODEL_FILE_PATTERNS for path in folder.glob(pattern) if path.is_file()}):
        with path.open("rb") as stream:
            if stream.read(len(_LFS)) == _LFS:
                what = f"{path.name} is a Git LFS pointer, not the file itself"
                raise _error(folder, what, "run `git lfs pull` there, or download it again")


def _single(folder: Path) -> Mapping[str, TensorHeader]:
    if (folder / SINGLE_FILE).is_file():
        return read_header(folder / SINGLE_FILE).tensors
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    if others:
        what = f"has {others[0]} but neither {SINGLE_FILE} nor {INDEX_FILE}"
        raise _error(folder, what, "download the missing file, or save the model again with save_pretrained")
    raise _error(folder, "has no *.safetensors weights", "convert the model to safetensors; pickled weights are never loaded")


def _indexed(folder: Path) -> dict[str, TensorHeader]:
    if (folder / SINGLE_FILE).is_file():
        raise _error(folder, f"has both {SINGLE_FILE} and {INDEX_FILE}: two sets of weights", "remove the one that is not meant")
    index = _read_json(folder, INDEX_FILE, "has no index", "download it again").get("weight_map")
    if not isinstance(index, dict) or not index or not all(isinstance(name, str) for name in index.values()):
        raise _error(folder, f"{INDEX_FILE} has no weight_map", "download it again")
    found: dict[str, TensorHeader] = {}
    for shard in sorted(set(index.values())):
        if Path(shard).name != shard or not (folder / shard).is_file():
            raise _error(folder, f"{INDEX_FILE} names {shard}, which is not there", "download the missing shard")
        held = read_header(folder / shard).tensors
        wanted = {name for name, file in index.items() if file == shard}
        for name in sorted(wanted ^ held.keys()):
            what = (
                f"{shard} lacks {name}, which the index says it holds" if name in wanted else f"{shard} holds {name}, unknown to its index"
            )
            raise _error(folder, what, "download shards and index again, of one version")
        found |= held
    return found


def _refuse_foreign_names(folder: Path, tensors: Mapping[str, TensorHeader]) -> None:
    for prefix in _FOREIGN:
        named = [name for name in tensors if name.startswith(prefix)]
        if named:
            what = f"its tensors carry the prefix {prefix!r} of the program that saved them, such as {named[0]}"
            raise _error(folder, what, "save the unwrapped model with save_pretrained")


def _refuse_quantised(folder: Path, tensors: Mapping[str, TensorHeader]) -> None:
    for name, tensor in tensors.items():
        coded = tensor.dtype in _CODES and len(tensor.shape) >= 2 and name.endswith("weight")
        if coded or _QUANTISED.search(name):
            raise _error(folder, f"{name} is quantised ({tensor.dtype})", "give the unquantised model")


def _refuse_lacking_experts(folder: Path, tensors: Mapping[str, TensorHeader]) -> None:
    """Experts of one layer that are stored one by one must all have the same parts; transformers says only that merging them failed."""
    parts: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for match in filter(None, map(_EXPERT.match, tensors)):
        parts[match[1]][match[2]].add(match[3])
    for layer, experts in parts.items():
        every = set().union(*experts.values())
        for number in map(str, range(max(map(int, experts)) + 1)):
            lacking = sorted(every - experts.get(number, set()))
            if lacking:
                raise _error(folder, f"lacks the tensor {layer}.{number}.{lacking[0]}", "download the model again")


# ------------------------------------------------------------------------------------------------ loading


def load_strictly(loader: Any, folder: Path, *, trust_remote_code: bool = False, **arguments: Any) -> Any:
    """`loader.from_pretrained` of a local folder, where every tensor of the model comes from the folder and every tensor there is used.

    `loader` is transformers' AutoModelForCausalLM; nothing is downloaded, unpickled or asked on the terminal. What transformers itself
    declares to be harmless (tied heads, buffers of older releases) may differ. Raises CheckpointError.
    """
    tensors = require_model_folder(folder)
    try:
        with _report_silenced():
            model, said = loader.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # so that the tensors are named, below
                **arguments,
            )
    except MemoryError:
        raise
    except Exception as error:  # transformers, safetensors and a model's own code raise many types
        if "out of memory" in str(error).lower():
            raise
        raise not_loaded(folder, error, "cannot be loaded", "give a causal language model folder", trusted=trust_remote_code) from error
    _refuse_differences(folder, said)
    _refuse_part_of_a_model(folder, model, tensors)
    _refuse_untied(folder, model, tensors)
    _refuse_not_finite(folder, model)
    return model


@contextmanager
def _report_silenced() -> Iterator[None]:
    """transformers prints a table of the differences, which are refused in one line here."""
    logger = logging.getLogger("transformers.modeling_utils")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def not_loaded(folder: Path, error: Exception, what: str, way_out: str, *, trusted: bool) -> CheckpointError:
    """The one line for what transformers could not load; a model's own code that is not trusted is the likeliest cause."""
    if not trusted and _brings_code(folder):
        reason = "brings its own Python code (auto_map in its config), which is only run where it is trusted"
        return _error(folder, reason, "read that code, then set trust_remote_code: true (section train)")
    line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return _error(folder, f"{what}: {line}", way_out)


def _brings_code(folder: Path) -> bool:
    for name in ("config.json", "tokenizer_config.json"):
        if (folder / name).is_file() and "auto_map" in _read_json(folder, name, "", ""):
            return True
    return False


def _refuse_differences(folder: Path, said: Mapping[str, Any]) -> None:
    mismatched = sorted(said.get("mismatched_keys") or (), key=str)
    if mismatched:
        name, *shapes = mismatched[0] if isinstance(mismatched[0], tuple) else (mismatched[0],)
        sizes = f": {' in the file, '.join(str(tuple(each)) for each in shapes)} by config.json" if len(shapes) == 2 else ""
        raise _error(
            folder, f"{name} has another shape than config.json says{sizes}{_more(mismatched)}", "give the config of these weights"
        )
    missing, unexpected = (sorted(said.get(key) or ()) for key in ("missing_keys", "unexpected_keys"))
    if missing:
        beside = f"; it has {unexpected[0]}{_more(unexpected)}, which the model does not have" if unexpected else ""
        raise _error(folder, f"lacks the tensor {missing[0]}{_more(missing)}{beside}", "give all weights of the model, by its own names")
    if unexpected:
        what = f"has the tensor {unexpected[0]}{_more(unexpected)}, which the model of its config.json does not have"
        raise _error(folder, what, "give the config of these weights")
    if said.get("error_msgs"):
        raise _error(folder, f"cannot be loaded: {str(said['error_msgs'][0]).splitlines()[0]}", "download the model again")


def _more(names: Sequence[object]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def passed_over(model: Any, tensors: Iterable[str]) -> list[str]:
    """Weights in a folder that transformers leaves out on purpose when it makes this model of it: a vision tower, heads that predict
    several tokens ahead."""
    patterns, held = getattr(model, "_keys_to_ignore_on_load_unexpected", None) or (), model.state_dict().keys()
    return [name for name in tensors if name.endswith("weight") and name not in held and any(re.search(each, name) for each in patterns)]


def _refuse_part_of_a_model(folder: Path, model: Any, tensors: Iterable[str]) -> None:
    """A folder of several models of which only the language model is read: what is saved of it would be another, smaller model."""
    whole = read_model_config(folder).get("architectures") or [type(model).__name__]
    left = passed_over(model, tensors)
    if left and type(model).__name__ not in whole:
        what = f"is a {whole[0]}, of which {type(model).__name__} does not read {left[0]}{_more(left)}: a checkpoint of it would lack them"
        raise _error(folder, what, _ALONE)


def _refuse_untied(folder: Path, model: Any, tensors: Mapping[str, TensorHeader]) -> None:
    """A config that ties the output head to the embedding beside a file with a separate head: which one is meant is not clear."""
    head, table = model.get_output_embeddings(), model.get_input_embeddings()
    tied = getattr(model.config.get_text_config(), "tie_word_embeddings", False)
    ties = bool(getattr(model, "_tied_weights_keys", None))
    if tied and ties and head is not None and getattr(head, "weight", None) is not getattr(table, "weight", None):
        stored = next(
            (name for name in tensors if name.endswith(("lm_head.weight", "embed_out.weight", "output.weight"))), "an output head"
        )
        what = f"config.json ties the output head to the embedding, and {stored} is another matrix"
        raise _error(folder, what, "set tie_word_embeddings to false in config.json, or save the model again")


def _refuse_not_finite(folder: Path, model: Any) -> None:
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if getattr(value, "is_meta", False):
            raise _error(folder, f"left {name} without a value", "give all weights of the model")
        persistent = name.rpartition(".")[2] not in _not_saved(model, name)
        if persistent and value.is_floating_point() and not bool(value.isfinite().all()):
            raise _error(folder, f"{name} holds numbers that are not finite", "give the weights before they were damaged")


def _not_saved(model: Any, name: str) -> set[str]:
    owner = model.get_submodule(name.rpartition(".")[0])
    return set(getattr(owner, "_non_persistent_buffers_set", ()))
