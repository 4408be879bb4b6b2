"""Facts about a model that are found by loading it: whether all tensors are in its files, size, parts, and the layout of batches.

The model is loaded strictly, on the CPU (a GPU may be busy with another round), in the dtype of training. A process of its own
(`python -m flows.text.model_facts FOLDER`, settings on stdin) can be stopped after a time limit, which also frees its memory.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from data_contracts.errors import CheckpointError, SkillstackError
from data_contracts.logs.lines import reason_of
from data_contracts.model.folder import require_model_folder
from flows.text.facts import Fact
from osft_engine.config import TrainConfig

_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
_ROUTED = ("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_k", "moe_top_k")
_REFUSED = 3  # exit status of the process: its stdout says where, what and the way out


def model_facts(folder: Path, train: TrainConfig) -> tuple[Fact, ...]:
    """Raises CheckpointError if the folder is not one complete model, ConfigError if `train` cannot be used with it."""
    from osft_engine.checkpoint.read import load_model, pick_device, pick_dtype
    from osft_engine.compute.peak_memory import memory_explained
    from osft_engine.loop.probe import choose_layout

    device = pick_device(train)
    dtype = "float32" if str(pick_dtype(train, device)) == "torch.float32" else "bfloat16"
    stored = Counter(tensor.dtype for tensor in require_model_folder(folder).values())
    here = train.model_copy(update={"device": "cpu", "dtype": dtype, "quantize": "none"})
    with memory_explained(str(folder), "does not fit into this machine's memory"):
        model = load_model(folder, here)
        layout = choose_layout(model, here, device)
        layers = _trained_layers(model, train)
    return (
        Fact(name="weights", value=f"{_names(stored)}; every tensor is used, none is missing, all are finite"),
        Fact(name="parameters", value=f"{sum(each.numel() for each in model.parameters()):,}, trained in {dtype}"),
        Fact(name="output head", value=_head(model)),
        Fact(name="experts", value=_experts(model)),
        Fact(name="trained layers", value=layers),
        Fact(name="examples in a batch", value=f"{layout.kind}: {layout.why}"),
    )


def model_facts_within(folder: Path, train: TrainConfig, seconds: float) -> tuple[Fact, ...] | None:
    """The same from a process of its own, which downloads nothing and leaves no files; None if it did not end in time."""
    line = [sys.executable, "-m", "flows.text.model_facts", str(folder.absolute())]
    with tempfile.TemporaryDirectory() as scratch:  # the code of a model that brings its own is copied before it is run
        offline = {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": scratch, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                line, input=train.model_dump_json(), env=os.environ | offline, capture_output=True, text=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired:
            return None
    if done.returncode == 0:
        return tuple(Fact(name=name, value=value) for name, value in json.loads(done.stdout).items())
    if done.returncode == _REFUSED:
        raise CheckpointError(*json.loads(done.stdout))
    last = reason_of(done.stderr) or f"the process ended with status {done.returncode}"
    what = f"could not be loaded: {'out of memory' if done.returncode == -9 else last[:200]}"
    raise CheckpointError(str(folder), what, "free some memory, or look at the folder")


def _names(found: Iterable[str]) -> str:
    return " and ".join(sorted(found)) if found else "no tensors"


def _head(model: Any) -> str:
    head, table = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None:
        return "none"
    return "tied to the embedding" if head.weight is table.weight else "a matrix of its own"


def _experts(model: Any) -> str:
    config = model.config.get_text_config()
    number = _setting(config, _EXPERTS)
    if number is None or number < 2:
        return "none"
    layers = sum(name.endswith("experts") for name, _ in model.named_modules())
    routed = _setting(config, _ROUTED)
    return f"{number} in each of {layers} layers" + (f", {routed} routed per token" if routed is not None else "")


def _setting(config: Any, names: Iterable[str]) -> int | None:
    return next((value for name in names if isinstance(value := getattr(config, name, None), int)), None)


def _trained_layers(model: Any, train: TrainConfig) -> str:
    from osft_engine.loop.probe import reachable_targets

    if train.method == "full":
        return "every parameter (train.method is full)"
    with redirect_stderr(io.StringIO()) as said:  # layers that are passed over are a fact here, not a warning
        targets = reachable_targets(model, train.target_patterns)
    weights: list[Any] = [module.weight for module in targets.values()]
    trained = sum(weight.numel() for weight in weights)
    share = trained / sum(each.numel() for each in model.parameters())
    passed_over = said.getvalue().strip().removeprefix("warning: ").replace("\nwarning: ", "; ")
    return f"{len(targets)} linear layers, {share:.0%} of the parameters" + (f"; {passed_over}" if passed_over else "")


def _main() -> int:
    folder, train = Path(sys.argv[1]), TrainConfig.model_validate_json(sys.stdin.read())
    try:
        found = model_facts(folder, train)
    except SkillstackError as error:
        print(json.dumps([error.where, error.what, error.way_out]))
        return _REFUSED
    print(json.dumps({fact.name: fact.value for fact in found}))
    return 0


if __name__ == "__main__":
    sys.exit(_main())
