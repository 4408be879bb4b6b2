"""The engine on a GPU: correctness, decomposition time and the speed and memory table, in one command under eight minutes:

    python tests/gpu/engine_on_gpu.py --out docs/results/gpu

Needs torch, transformers, peft, safetensors and pydantic only. Uses Llama-3.1-8B shapes with random weights in bfloat16, 16,384 tokens per
step in passes of 4,096, with gradient checkpointing. Directions are random too, in the real ones' sizes: time and memory of a step depend
on nothing else. What decomposing costs is measured apart, on one matrix of each shape. A method that no longer fits into --minutes, or into
the memory, is left out and named. Without a GPU it says so and ends with exit code 1.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
# A machine with the five packages and this folder is enough: the project need not be installed.
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "benchmarks")]

from osft_engine.subspace.algebra import sketch_moment, weakest_directions  # noqa: E402
from osft_engine.subspace.linear import UpdatedLinear  # noqa: E402
from osft_engine.subspace.protection import protect_weights  # noqa: E402

BEGIN, END = "<!-- numbers: begin -->", "<!-- numbers: end -->"
# Ours first: they are what the page is for. The baselines follow as far as time allows.
PROTECTIONS = ["compact", "compact beside", "activations", "activations beside", "weights"]
METHODS = [*(f"skillstack {name}" for name in PROTECTIONS), "lora r=64", "lora r=16", "full", "peft osf", "skillstack weights_block"]


def check_correctness(device: torch.device) -> dict[str, float]:
    """Dense against side execution, and the bfloat16 leak against what rounding the weights explains. Raises AssertionError."""
    torch.manual_seed(0)
    W = (torch.randn(512, 384, device=device) / 20).bfloat16()
    allowed = protect_weights(W.float(), 0.25)
    layers = [UpdatedLinear(W, None, allowed.to(device), way) for way in ("dense", "side")]
    core = 0.05 * torch.randn(allowed.core_shape, device=device)
    for layer in layers:
        with torch.no_grad():
            layer.core.copy_(core)
        layer.rebuild()
    x = torch.randn(256, 384, device=device, dtype=torch.bfloat16)
    outputs = [layer(x).detach().float() for layer in layers]
    apart = float((outputs[0] - outputs[1]).norm() / outputs[0].norm())
    dW = layers[0].dense().double() - W.double()
    leak = layers[0].allowed.leak(dW)
    exact = W.double() + layers[0].allowed.expand(core.double())
    rounding = float((layers[0].dense().double() - exact).norm() / dW.norm())
    assert apart < 0.02, f"dense and side outputs differ by {apart:.3g}"
    assert leak <= 1.01 * rounding, f"leak {leak:.3g} is more than rounding explains ({rounding:.3g})"
    return {"dense_side_difference": apart, "bf16_leak": leak, "bf16_rounding": rounding}


def time_decomposition(device: torch.device, smaller: int = 1) -> float:
    """Seconds for the 224 matrices of an 8B model, from one of each shape (seven a layer, 32 layers), each side `smaller` times smaller."""
    shapes = {(4096, 4096): 2, (1024, 4096): 2, (14336, 4096): 2, (4096, 14336): 1}
    total = 0.0
    for (m, n), count in shapes.items():
        W = torch.randn(m // smaller, n // smaller, device=device, dtype=torch.bfloat16)
        wait_for(device)
        began = time.perf_counter()
        protect_weights(W, 0.25, compact=True)
        wait_for(device)
        total += 32 * count * (time.perf_counter() - began)
    return total


def time_of(device: torch.device, work: Callable[[], object]) -> float:
    wait_for(device)
    began = time.perf_counter()
    work()
    wait_for(device)
    return time.perf_counter() - began


def time_moments(device: torch.device, width: int, *, sketch: bool) -> dict[str, float]:
    """Seconds to decompose one layer's input moment: its quiet directions for a round, and its sketch for the memory (rank 2048)."""
    x = torch.randn(2 * width, width, device=device) * torch.logspace(0, -3, width, device=device)
    M = x.T @ x / len(x)
    found = {f"directions_{width}": time_of(device, lambda: weakest_directions(M, width // 4))}
    if sketch:
        found[f"sketch_{width}"] = time_of(device, lambda: sketch_moment(M, min(2048, width)))
    return {name: round(seconds, 2) for name, seconds in found.items()}


def wait_for(device: torch.device) -> None:
    """Until everything given to the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def run_table(arguments: argparse.Namespace, deadline: float, save: Callable[[list[dict[str, Any]], list[str]], None]) -> None:
    """The benchmark's rows, method by method while time is left, saved after each. On a GPU one process will do: memory is the device's."""
    import engine  # tests/benchmarks/engine.py

    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    longest = 0.0
    for method in METHODS:
        began = time.monotonic()
        if began + longest > deadline:
            left_out.append(f"{method} (out of time)")
            continue
        try:
            rows.append(engine.measure(method, arguments.model, arguments.tokens, 2, arguments.cache))
        except torch.OutOfMemoryError as error:
            left_out.append(f"{method} (out of memory: {str(error).split('. ')[0]})")
        except Exception as error:  # one method's failure must not take the others' numbers along
            left_out.append(f"{method} ({type(error).__name__}: {str(error)[:200]})")
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        longest = max(longest, time.monotonic() - began)
        print(f"{method}: {time.monotonic() - began:.0f} s; {rows[-1] if rows else ''} {left_out[-1:]}", file=sys.stderr, flush=True)
        save(rows, left_out)
    save(rows, left_out)


def write_page(out: Path, facts: dict[str, Any], rows: list[dict[str, Any]], left_out: list[str]) -> None:
    """Put the numbers between the page's markers; what people wrote around them stays."""
    lines = [f"`python tests/gpu/engine_on_gpu.py --out {out}`\n", f"{json.dumps(facts)}\n"]
    lines.append("| method | s/step | peak GB | GB over bare | attach s |\n|---|---|---|---|---|")
    for row in rows:
        memory = f"{row['peak_bytes'] / 1e9:.1f} | {row['memory_over_bare_bytes'] / 1e9:.1f}"
        lines.append(f"| {row['method']} | {row['wall_seconds']:.2f} | {memory} | {row['attach_seconds']:.1f} |")
    if left_out:
        lines.append(f"\nLeft out: {', '.join(left_out)}.")
    page = out.with_suffix(".md")
    text = page.read_text(encoding="utf-8") if page.exists() else f"# The engine on a GPU\n\n{BEGIN}\n{END}\n"
    head, _, rest = text.partition(BEGIN)
    page.write_text(f"{head}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    out.with_suffix(".json").write_text(json.dumps({"facts": facts, "results": rows, "left_out": left_out}, indent=2) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llama-3.1-8b", help="shapes with random weights, or a model folder")
    parser.add_argument("--tokens", type=int, default=16384, help="tokens in one optimiser step")
    parser.add_argument("--minutes", type=float, default=7.5, help="time for everything")
    parser.add_argument("--cache", type=Path, default=Path(".skillstack/gpu-cache"), help="decompositions")
    parser.add_argument("--out", type=Path, default=Path("docs/results/gpu"), help="path of the results without its ending")
    parser.add_argument(
        "--rehearse", action="store_true", help="go through all of it on a CPU, with matrices 32 times smaller (--model llama-small)"
    )
    arguments = parser.parse_args()
    if not torch.cuda.is_available() and not arguments.rehearse:
        print("no CUDA device here: nothing was measured", file=sys.stderr)
        return 1
    deadline = time.monotonic() + 60.0 * arguments.minutes
    device = torch.device("cpu" if arguments.rehearse else "cuda")
    smaller = 32 if arguments.rehearse else 1
    name = "CPU, a rehearsal" if arguments.rehearse else torch.cuda.get_device_name()
    facts: dict[str, Any] = {"device": name, "date": f"{datetime.now(UTC):%Y-%m-%d}", "torch": torch.__version__, "model": arguments.model}
    facts |= {package: version(package) for package in ("transformers", "peft")}
    facts |= {"tokens": arguments.tokens} | check_correctness(device)
    torch.linalg.eigh(torch.eye(64, device=device))  # loads the solver
    facts["decomposition_seconds_224_matrices"] = round(time_decomposition(device, smaller), 1)
    facts["one_moment_seconds"] = time_moments(device, 4096 // smaller, sketch=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    found: list[Any] = [[], []]

    def save(rows: list[dict[str, Any]], left_out: list[str]) -> None:
        found[:] = rows, left_out
        write_page(arguments.out, facts, rows, left_out)

    run_table(arguments, deadline - (0 if arguments.rehearse else 40), save)
    if time.monotonic() < deadline - 35:  # what the widest layer costs a round; last, because it cannot be cut short
        facts["one_moment_seconds"] |= time_moments(device, 14336 // smaller, sketch=False)
        save(*found)
    print(arguments.out.with_suffix(".md").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
