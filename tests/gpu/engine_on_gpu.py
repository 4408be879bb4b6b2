"""The engine on a GPU: correctness, decomposition time and the speed and memory table, in one command under eight minutes:

    python tests/gpu/engine_on_gpu.py --out docs/results/gpu

Needs torch, transformers, peft, safetensors and pydantic only. Uses Llama-3.1-8B shapes with random weights in bfloat16, 16,384 tokens a
step. A method that no longer fits into --minutes is left out and named. Without a GPU it says so and ends with exit code 1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # a machine with the five packages and this folder is enough: the project need not be installed

from osft_engine.subspace.linear import UpdatedLinear  # noqa: E402
from osft_engine.subspace.protection import protect_weights  # noqa: E402

BEGIN, END = "<!-- numbers: begin -->", "<!-- numbers: end -->"
# Ours first: they are what the page is for. The baselines follow as far as time allows.
METHODS = ["ours compact", "ours compact beside", "ours activations", "ours activations beside", "ours weights"]
METHODS += ["lora r=64", "lora r=16", "full", "peft osf", "ours weights_block"]


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


def wait_for(device: torch.device) -> None:
    """Until everything given to the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def run_table(arguments: argparse.Namespace, deadline: float) -> tuple[list[dict[str, Any]], list[str]]:
    """The benchmark's rows, method by method while time is left, and the methods that were left out."""
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for method in METHODS:
        remaining = deadline - time.monotonic()
        part = arguments.out.with_name(f"{arguments.out.name}-part")
        command = [sys.executable, str(ROOT / "tests/benchmarks/engine.py"), "--model", arguments.model, "--tokens", str(arguments.tokens)]
        command += ["--methods", method, "--steps", "3", "--out", str(part), "--cache", str(arguments.cache)]
        try:
            done = subprocess.run(command, check=False, timeout=max(remaining, 1.0), stdout=subprocess.DEVNULL, cwd=ROOT, env=environment)
        except subprocess.TimeoutExpired:
            left_out.append(f"{method} (out of time)")
            continue
        if done.returncode != 0:
            left_out.append(f"{method} (exit code {done.returncode})")
            continue
        rows += json.loads(part.with_suffix(".json").read_text())["results"]
    for ending in (".json", ".md"):
        arguments.out.with_name(f"{arguments.out.name}-part").with_suffix(ending).unlink(missing_ok=True)
    return rows, left_out


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
    parser.add_argument("--rehearse", action="store_true", help="go through all of it on a CPU, with matrices 32 times smaller")
    arguments = parser.parse_args()
    if not torch.cuda.is_available() and not arguments.rehearse:
        print("no CUDA device here: nothing was measured", file=sys.stderr)
        return 1
    deadline = time.monotonic() + 60.0 * arguments.minutes
    device = torch.device("cpu" if arguments.rehearse else "cuda")
    name = "CPU, a rehearsal" if arguments.rehearse else torch.cuda.get_device_name()
    facts: dict[str, Any] = {"device": name, "torch": torch.__version__, "model": arguments.model}
    facts |= {"tokens": arguments.tokens} | check_correctness(device)
    facts["decomposition_seconds_224_matrices"] = round(time_decomposition(device, 32 if arguments.rehearse else 1), 1)
    rows, left_out = run_table(arguments, deadline)
    write_page(arguments.out, facts, rows, left_out)
    print(arguments.out.with_suffix(".md").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
