"""Step time, memory and attach time of every method, in one run on the same batches:

    python tests/benchmarks/engine.py --model .skillstack/models/smollm2 --tokens 256 4096 --out docs/results/engine

Writes engine.json and engine.md. Every method runs in a process of its own, so that peak memory is its own. Two times are taken: the
best wall-clock step, and CPU seconds a step, which barely move when other work shares the machine; ratios are taken on CPU seconds with
one thread, on wall-clock otherwise. On a GPU both are the synchronised wall-clock time.

With random weights (a known shape in place of a model folder) the directions are random too: of the sizes that the real ones have, which is
all that time and memory of a step depend on. What decomposing costs is then measured apart (tests/gpu/engine_on_gpu.py).
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import platform
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from stand_ins import StandIns
from torch import nn

from osft_engine.checkpoint.read import load_model
from osft_engine.compute.forward import summed_loss
from osft_engine.config import TrainConfig
from osft_engine.data.batches import MicroBatch, micro_batches
from osft_engine.data.examples import Example
from osft_engine.loop.optim import NamedOptimizer
from osft_engine.loop.prepare import Scene, directions
from osft_engine.memory.moments import measure_moments
from osft_engine.memory.subspace_memory import SubspaceMemory
from osft_engine.method.attach import OsftAttachment, find_targets
from osft_engine.method.bases import cached_bases
from osft_engine.run import TrainRun

RATIO = 0.25
LENGTH, ANSWER = 128, 16  # tokens of an example, and of its answer: what chat data looks like
OURS: dict[str, dict[str, Any]] = {
    "skillstack compact": {"protect": "weights", "compact": True},
    "skillstack compact beside": {"protect": "weights", "compact": True, "execution": "side"},
    "skillstack activations beside": {"protect": "activations", "execution": "side"},
    "skillstack weights": {"protect": "weights"},
    "skillstack activations": {"protect": "activations"},
    "skillstack weights_block": {"protect": "weights_block"},
}
# vocabulary, hidden and inner size, layers; the small one is for rehearsals
SHAPES = {"llama-3.1-8b": (128256, 4096, 14336, 32), "llama-small": (1024, 128, 448, 2)}
BEGIN, END = "<!-- numbers: begin -->", "<!-- numbers: end -->"
# Beside the frozen weights is what saves memory on a GPU; at these sizes on a CPU it is what `auto` may choose by itself.
METHODS = ["full", "lora r=16", "lora r=64", "peft osf", *(name for name in OURS if not name.endswith("beside"))]


def make_batches(tokens: int, vocabulary: int, *, packed: bool) -> list[MicroBatch]:
    """One step of `tokens` tokens in examples of LENGTH, at most 1024 tokens a pass (4096 on a GPU). The same for every method."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(5, vocabulary, (max(1, tokens // LENGTH), min(LENGTH, tokens)), generator=generator).tolist()
    learn = tuple(index >= len(rows[0]) - ANSWER for index in range(len(rows[0])))
    return micro_batches(
        [Example(tuple(row), learn, "row") for row in rows], max_tokens=4096 if packed else 1024, layout="packed" if packed else "padded"
    )


def random_model(shape: str, device: torch.device) -> Any:
    """A model of known shapes with random weights, for machines without its files."""
    from transformers import LlamaConfig, LlamaForCausalLM

    if shape not in SHAPES:
        raise SystemExit(f"unknown shape {shape}: expected one of {', '.join(SHAPES)} or a model folder")
    vocabulary, hidden, inner, layers = SHAPES[shape]
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=32,
        num_key_value_heads=8,
    )
    with device:
        torch.set_default_dtype(torch.bfloat16)
        model = LlamaForCausalLM(config)
        torch.set_default_dtype(torch.float32)
    return model


def attach(
    method: str, model: Any, batches: list[MicroBatch], cache: Path, stand_ins: StandIns | None = None
) -> tuple[Any, dict[str, nn.Parameter], OsftAttachment | None, float]:
    """(model, trainable, what to call around a step, seconds of attaching). `stand_ins`: in place of decomposing."""
    from peft import LoraConfig, OSFConfig, get_peft_model
    from peft.tuners.osf import layer as osf_layer

    targets = find_targets(model)
    started = time.perf_counter()
    if method == "full":
        model.requires_grad_(True)
        return model, dict(model.named_parameters()), None, time.perf_counter() - started
    if method.startswith("lora"):
        rank = int(method.partition("=")[2])
        adapted: Any = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(targets), task_type="CAUSAL_LM"))
    elif method == "peft osf":
        if stand_ins is not None:
            osf_layer.decompose_weight_matrix = stand_ins.split
        adapted = get_peft_model(model, OSFConfig(effective_rank=1.0 - RATIO, target_modules=list(targets)))
    else:
        return _attach_skillstack(method, model, targets, batches, cache, stand_ins)
    trainable = {name: value for name, value in adapted.named_parameters() if value.requires_grad}
    return adapted, trainable, None, time.perf_counter() - started


def _attach_skillstack(
    method: str, model: Any, targets: dict[str, nn.Module], batches: list[MicroBatch], cache: Path, stand_ins: StandIns | None
) -> tuple[Any, dict[str, nn.Parameter], OsftAttachment | None, float]:
    config = TrainConfig(unfreeze_rank_ratio=RATIO, **OURS[method])
    run = TrainRun(base=cache, drop=cache, skill="benchmark", out_dir=cache, config=config)
    memory = None
    if config.protect == "activations" and stand_ins is None:  # measured before the clock starts: a round has its memory already
        memory = SubspaceMemory().add("base", measure_moments(model, targets, batches), config.memory_rank)
    tokens = float(sum(batch.tokens for batch in batches))
    scene = Scene(run, model, None, "", None, (), tokens)  # type: ignore[arg-type]  # no text is rendered: the memory was measured above
    started = time.perf_counter()
    if stand_ins is not None:
        allowed = stand_ins.allowed(targets, config)
    else:
        allowed = cached_bases(cache, {"method": method.removesuffix(" beside")}, lambda: directions(scene, targets, memory))
    attachment = OsftAttachment(model, targets, allowed, execution=config.execution, tokens_per_step=tokens)
    return model, attachment.trainable(), attachment, time.perf_counter() - started


def _resident() -> int:
    """Bytes this process holds now: device memory on a GPU, resident memory on a CPU."""
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _reset_peak() -> None:
    """From here on `_peak` counts: what loading and decomposing took is not a step's memory."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return
    ctypes.CDLL(None).malloc_trim(0)  # give freed pages back, or they count as held
    Path("/proc/self/clear_refs").write_text("5")  # Linux: sets VmHWM to what is resident now


def _peak() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024


def _now() -> tuple[float, float]:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return (time.perf_counter(),) * 2
    return time.perf_counter(), time.process_time()


def measure(method: str, model_path: str, tokens: int, steps: int, cache: Path) -> dict[str, Any]:
    """One method in this process: attach, one step to warm up, then `steps` timed ones."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folder = Path(model_path)
    model = load_model(folder, TrainConfig()) if folder.is_dir() else random_model(model_path, device)
    stand_ins = None if folder.is_dir() else StandIns(device, RATIO)
    model.train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False}) if device.type == "cuda" else None
    batches = [batch.to(device) for batch in make_batches(tokens, model.config.vocab_size, packed=device.type == "cuda")]
    bare = _resident()
    model, trainable, attachment, attach_seconds = attach(method, model, batches, cache, stand_ins)
    if stand_ins is not None:
        stand_ins.made.clear()  # no method holds a second copy
    optimizer = NamedOptimizer(trainable, TrainConfig())
    count = sum(len(batch.targets) for batch in batches)
    _reset_peak()
    wall: list[float] = []
    cpu: list[float] = []
    for _ in range(steps + 1):
        began = _now()
        for batch in batches:
            (summed_loss(model, batch) / count).backward()  # type: ignore[no-untyped-call]
        if attachment is not None:
            attachment.before_step()
        optimizer.step(1e-4)
        if attachment is not None:
            attachment.after_step()
        ended = _now()
        wall.append(ended[0] - began[0])
        cpu.append(ended[1] - began[1])
    return {
        "method": method,
        "tokens": tokens,
        "wall_seconds": min(wall[1:]),
        "cpu_seconds": min(cpu[1:]),
        "attach_seconds": attach_seconds,
        "memory_over_bare_bytes": _peak() - bare,
        "peak_bytes": _peak(),
        "trainable": sum(value.numel() for value in trainable.values()),
        "threads": torch.get_num_threads(),
    }


def measure_apart(method: str, arguments: argparse.Namespace, tokens: int) -> dict[str, Any] | None:
    """`measure` in a process of its own; None where it fails, for instance out of memory (said on stderr)."""
    command = [
        sys.executable,
        __file__,
        "--model",
        arguments.model,
        "--tokens",
        str(tokens),
        "--steps",
        str(arguments.steps),
        "--one",
        method,
    ]
    done = subprocess.run([*command, "--cache", str(arguments.cache)], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        print(f"{method} at {tokens} tokens ended with exit code {done.returncode}", file=sys.stderr)
        return None
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{method:20s} {tokens:6d} tokens  {result['wall_seconds']:8.2f} s wall  {result['cpu_seconds']:8.2f} s cpu", file=sys.stderr)
    return result


def table(results: list[dict[str, Any]]) -> str:
    """Markdown; ratios against the baselines at the same number of tokens."""
    head = "| tokens | method | wall s/step | CPU s/step | x lora r=64 | x full | x peft osf | GB over bare | x full's | attach s |\n"
    lines = [head, "|---|---|---|---|---|---|---|---|---|---|\n"]
    for row in results:
        same = {other["method"]: other for other in results if other["tokens"] == row["tokens"]}
        clock = "cpu_seconds" if row["threads"] == 1 else "wall_seconds"

        def against(name: str, key: str, row: dict[str, Any] = row, same: dict[str, dict[str, Any]] = same) -> str:
            return f"{row[key] / same[name][key]:.2f}" if name in same and same[name][key] > 0 else ""

        ratios = " | ".join(against(name, clock) for name in ("lora r=64", "full", "peft osf"))
        memory = f"{row['memory_over_bare_bytes'] / 1e9:.2f} | {against('full', 'memory_over_bare_bytes')}"
        times = f"{row['wall_seconds']:.2f} | {row['cpu_seconds']:.2f}"
        lines.append(f"| {row['tokens']} | {row['method']} | {times} | {ratios} | {memory} | {row['attach_seconds']:.1f} |\n")
    return "".join(lines)


def write_numbers(page: Path, title: str, numbers: str) -> None:
    """Put the numbers between the page's markers; what people wrote around them stays."""
    text = page.read_text(encoding="utf-8") if page.exists() else f"{title}\n\n{BEGIN}\n{END}\n"
    head, _, rest = text.partition(BEGIN)
    page.write_text(f"{head}{BEGIN}\n\n{numbers.strip()}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model folder, or llama-3.1-8b for its shapes with random weights")
    parser.add_argument("--tokens", type=int, nargs="+", default=[256, 4096], help="tokens in one optimiser step")
    parser.add_argument("--steps", type=int, default=3, help="timed steps; the best counts")
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=sorted({*METHODS, *OURS}))
    parser.add_argument(
        "--cache", type=Path, default=Path(".skillstack/benchmark-cache"), help="decompositions; remove it to time them cold"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/results/engine"), help="path of the results without its ending")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.model, arguments.tokens[0], arguments.steps, arguments.cache)))
        return 0
    found = [measure_apart(method, arguments, tokens) for tokens in arguments.tokens for method in arguments.methods]
    results = [each for each in found if each is not None]
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.processor() or platform.machine()}, CPU"
    facts = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine,
        "model": arguments.model,
        "ratio": RATIO,
        "steps": arguments.steps,
    }
    facts |= {"threads": torch.get_num_threads(), "seed": 0} | {name: version(name) for name in ("torch", "transformers", "peft")}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".json").write_text(json.dumps({"facts": facts, "results": results}, indent=2) + "\n")
    command = f"python tests/benchmarks/engine.py --model {arguments.model} --tokens {' '.join(map(str, arguments.tokens))}"
    numbers = f"`{command}`; {json.dumps(facts)}\n\n{table(results)}"
    write_numbers(arguments.out.with_suffix(".md"), "# The engine: step time and memory", numbers)
    print(numbers)
    return 0 if len(results) == len(found) else 1


if __name__ == "__main__":
    sys.exit(main())
