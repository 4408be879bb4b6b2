"""Two designs that the gate does not have, at equal cost: a covariate with an estimated mean, and several readings of an item.

    python tests/benchmarks/gate/gate_other_designs.py [--simulations 4000] [--seed 0] [--nano]

Cost is counted in items read once. **Covariate** (PPI++, Angelopoulos, Duchi and Zrnic 2023): the change of the gold's probability x is
known of N items at a cost of c each (c = 1 for choices: the score is made of x), the score's change d of n of them, n + c N = 400; the mean
is mean_n(d) - w (mean_n(x) - mean_N(x)), w for the smallest variance. N is chosen best, with the correlation known. **Readings**:
n = 400 / K items are read in K ways and averaged; of the variance of a flip a share lies within the item. `--nano` measures what the first
needs, on nano against itself with noise in every matrix: the share of the variance that x explains, and c. Prints Markdown.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtri

BUDGET, MARGIN, ALPHA, CHURN, SUITES = 400, 0.02, 0.05, 0.10, 3
Floats = NDArray[np.float64]


def best_pool(explained: float, cost: float) -> tuple[int, int]:
    """(n, N) of the smallest variance (1 - explained) / n + explained / N at the budget; N = 0: no pool pays."""
    pools = np.arange(BUDGET, 40 * BUDGET)
    n = BUDGET - cost * pools
    usable = n >= 30
    if not usable.any():
        return BUDGET, 0
    variance = np.where(usable, (1 - explained) / np.where(usable, n, 1) + explained / pools, np.inf)
    place = int(variance.argmin())
    return (int(n[place]), int(pools[place])) if variance[place] < 1 / BUDGET else (BUDGET, 0)


def changes(loss: float, explained: float, shape: tuple[int, ...], generator: np.random.Generator) -> tuple[Floats, Floats]:
    """d, and x of variance 1 that explains so much of its variance."""
    u = generator.random(shape)
    d = np.where(u < CHURN / 2 + loss, -1.0, np.where(u < CHURN + loss, 1.0, 0.0))
    spread = np.sqrt(CHURN + loss - loss**2)
    x = np.sqrt(explained) * (d + loss) / spread + np.sqrt(1 - explained) * generator.standard_normal(shape)
    return d, x


def claims(mean: Floats, variance: Floats, degrees: int) -> float:
    """How often a loss of MARGIN is ruled out; arrays are simulations x suites."""
    z = (mean.mean(1) + MARGIN) / np.sqrt(variance.sum(1) / SUITES**2)
    return float((stats.t.sf(z, degrees) <= ALPHA).mean())


def with_covariate(loss: float, explained: float, n: int, pool: int, simulations: int, generator: np.random.Generator) -> float:
    """P(shown) with n scores and the covariate on `pool` items besides; pool 0: the plain mean of n."""
    mean, variance = np.empty((simulations, SUITES)), np.empty((simulations, SUITES))
    for at in range(simulations):
        d, x = changes(loss, explained, (SUITES, n), generator)
        weight = np.zeros(SUITES)
        far = np.zeros(SUITES)
        if pool:
            covariance = ((d - d.mean(1, keepdims=True)) * (x - x.mean(1, keepdims=True))).sum(1) / (n - 1)
            weight = covariance / x.var(1, ddof=1) / (1 + n / pool)
            far = generator.standard_normal(SUITES) / np.sqrt(pool)  # x of the pool, whose mean is 0 where d's is -loss
        mean[at] = d.mean(1) - weight * (x.mean(1) - far)
        rest = (d - weight[:, None] * x).var(1, ddof=1)
        variance[at] = (n * rest + 1) / (n + 2) / n + (weight**2 / pool if pool else 0.0)
    return claims(mean, variance, SUITES * (n - 1))


def with_readings(loss: float, within: float, k: int, simulations: int, generator: np.random.Generator) -> float:
    """P(shown) with 400 / k items read in k ways; a share `within` of the shift that flips an answer is new in each reading."""
    n = BUDGET // k
    bound = -ndtri(CHURN)
    mean, variance = np.empty((simulations, SUITES)), np.empty((simulations, SUITES))
    for at in range(simulations):
        shift = np.sqrt(1 - within) * generator.standard_normal((SUITES, n, 1)) + np.sqrt(within) * generator.standard_normal(
            (SUITES, n, k)
        )
        sign = np.where(generator.random((SUITES, n, 1)) < 0.5, -1.0, 1.0)
        lost = generator.random((SUITES, n, 1)) < loss
        d = np.where(lost, -1.0, np.where(shift > bound, sign, 0.0)).mean(2)
        mean[at], variance[at] = d.mean(1), (n * d.var(1, ddof=1) + 1) / (n + 2) / n
    return claims(mean, variance, SUITES * (n - 1))


def simulated(simulations: int, generator: np.random.Generator) -> list[str]:
    lines = ["| covariate explains | cost c | n | N | power | size |", "|---|---|---|---|---|---|"]
    for explained in (0.02, 0.33, 0.6):
        for cost in (1.0, 0.2, 0.05, 0.02):
            n, pool = best_pool(explained, cost)
            rates = [with_covariate(loss, explained, n, pool, simulations, generator) for loss in (0.0, MARGIN)]
            lines.append(f"| {explained:.0%} | {cost:g} | {n} | {pool or 'none pays'} | {rates[0]:.3f} | {rates[1]:.3f} |")
    lines += ["", "| within items | readings | items | power | size |", "|---|---|---|---|---|"]
    for within in (0.0, 0.3, 0.6, 1.0):
        for k in (1, 2, 4):
            rates = [with_readings(loss, within, k, simulations, generator) for loss in (0.0, MARGIN)]
            lines.append(f"| {within:.0%} | {k} | {BUDGET // k} | {rates[0]:.3f} | {rates[1]:.3f} |")
    return lines


# ------------------------------------------------------------------------------------------------ what a generation suite of nano has


def noisy(source: Path, folder: Path, share: float) -> Path:
    """The model with Gaussian noise on every matrix, `share` of the matrix's own spread."""
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, folder)
    generator = torch.Generator().manual_seed(0)
    for path in folder.glob("*.safetensors"):
        weights = load_file(path)
        save_file(
            {
                name: each + share * each.std() * torch.randn(each.shape, generator=generator) if each.ndim == 2 else each
                for name, each in weights.items()
            },
            path,
            metadata={"format": "pt"},
        )
    return folder


def on_nano(share: float) -> list[str]:
    """Per base skill: churn, the share of d's variance that the change of the gold answer's probability explains, and c."""
    from evals.config import EvaluationConfig, SuiteConfig
    from evals.gate.pairing import reference_order
    from evals.harness.run import evaluate_checkpoint
    from evals.items import load_evaluation
    from flows.base_models.resolve import NANO
    from flows.demo.materials import write_base_suites

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        suites = [
            SuiteConfig(name=name, source=str(path), chat=True, max_new_tokens=16)
            for name, path in write_base_suites(folder / "suites").suites.items()
        ]
        read = []
        for name, model in (("base", NANO), ("noisy", noisy(NANO, folder / "noisy-model", share))):
            evaluate_checkpoint(model, suites, folder / name, config=EvaluationConfig(num_threads=1), cache_dir=folder / "cache")
            read.append(load_evaluation(folder / name))
        costs = cost_of_reading(NANO, [item for suite in suites for item in read[0].suites[suite.name].prompt[:40]])
    lines = [f"Noise {share:.0%}. Scoring an answer costs {costs:.2f} of generating it.", "", "| suite | items | churn | x explains |"]
    lines.append("|---|---|---|---|")
    for suite in suites:
        before, after = (each.suites[suite.name] for each in read)
        order = reference_order(after, before)
        d = after.score - before.score[order]
        x = np.exp(after.gold_logprob) - np.exp(before.gold_logprob[order])
        explained = f"{np.corrcoef(d, x)[0, 1] ** 2:.0%}" if d.any() else "–"
        lines.append(f"| {suite.name} | {len(d)} | {np.mean(d != 0):.1%} | {explained} |")
    return lines


def cost_of_reading(model_folder: Path, prompts: list[str]) -> float:
    """CPU time of scoring given answers over that of generating them, the same prompts and batches."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from evals.scoring.generation import GreedyGenerator
    from evals.scoring.scorer import ContinuationScorer

    torch.set_num_threads(1)
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder).eval()
    contexts = [tuple(tokenizer(prompt, add_special_tokens=False)["input_ids"]) for prompt in prompts]
    generator, scorer = (
        GreedyGenerator(model, tokenizer, max_rows=64),
        ContinuationScorer(model, max_length=512, max_tokens=2048, max_rows=64),
    )
    ends = {tokenizer.eos_token_id}
    answers = generator.answers(contexts, ends=ends, stops=(), limit=16)
    given = [tuple(tokenizer(answer or " ", add_special_tokens=False)["input_ids"]) or (0,) for answer in answers]
    scorer.score([(list(context), list(answer)) for context, answer in zip(contexts, given, strict=True)])
    started = time.process_time()
    generator.answers(contexts, ends=ends, stops=(), limit=16)
    middle = time.process_time()
    scorer.score([(list(context), list(answer)) for context, answer in zip(contexts, given, strict=True)])
    return (time.process_time() - middle) / (middle - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--simulations", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--nano", action="store_true")
    options = parser.parse_args()
    print("\n".join(simulated(options.simulations, np.random.default_rng([17, options.seed]))))
    if options.nano:
        for share in (0.1, 0.2):
            print("\n" + "\n".join(on_nano(share)))


if __name__ == "__main__":
    main()
