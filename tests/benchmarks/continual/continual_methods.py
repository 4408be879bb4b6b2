"""The continual benchmark's methods: one round after another in memory, with the engine's own parts.

A round is what `train_candidate` does (directions, attachment, trainer, ledger, merge) without its files. PEFT's methods run in the same
trainer, on the same examples, steps and schedule.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from data_contracts.errors import TrainingError
from osft_engine.checkpoint.update import update_factors
from osft_engine.config import TrainConfig
from osft_engine.data.examples import Example, ExampleSet
from osft_engine.loop.finish import extend_memory
from osft_engine.loop.prepare import Scene, directions, measured_on
from osft_engine.loop.trainer import Trainer
from osft_engine.memory.subspace_memory import SubspaceMemory
from osft_engine.method.attach import Attachment, OsftAttachment, find_targets
from osft_engine.method.baselines import FullAttachment, LoraAttachment
from osft_engine.run import TrainRun
from osft_engine.subspace.protection import AllowedUpdate

EPOCHS, BATCH, WARMUP, RATIO, RANK = 3, 8, 10, 0.25, 16
REPLAY_SHARE, BUFFER = 0.25, 512
OLORA_PENALTY = 0.5  # lambda_1 of the O-LoRA repository's scripts


@dataclass(frozen=True)
class Method:
    """rates: what the sweep tries. config: the engine's. peft: PEFT's method in the engine's place. ledger: of inputs, handed on.

    calibration: which text stands for round 0 in the ledger. rate_of: the method whose sweep chooses the rate, where it is not its own.
    """

    rates: tuple[float, ...]
    config: dict[str, Any] = field(default_factory=dict)
    peft: str = ""
    ledger: bool = False
    replay: bool = False
    calibration: str = "calibration"
    rate_of: str = ""


METHODS = {
    "full": Method((2e-5, 5e-5, 1.25e-4), {"method": "full"}),
    "activations": Method((5e-4, 1e-3, 2e-3), {"protect": "activations"}, ledger=True),
    "activations + text": Method((), {"protect": "activations"}, ledger=True, calibration="wide calibration", rate_of="activations"),
    "lora": Method((2e-4, 5e-4, 1.25e-3), {"method": "lora", "lora_rank": RANK}),
    "weights + written": Method((1e-4, 3e-4, 1e-3), {"protect": "weights", "protect_written": True}, ledger=True),
    "full + replay": Method((2e-5, 5e-5, 1.25e-4), {"method": "full"}, replay=True),
    "weights": Method((1e-4, 3e-4, 1e-3), {"protect": "weights"}),
    "peft osf": Method((1e-4, 3e-4, 1e-3), peft="osf"),
    "o-lora": Method((2e-4, 5e-4, 1.25e-3), peft="olora"),
    "oft": Method((2e-4, 5e-4, 1.25e-3), peft="oft"),
    "full, six passes": Method((1e-5, 2e-5, 5e-5), {"method": "full", "num_epochs": 2 * EPOCHS}),
    "activations, six passes": Method((2.5e-4, 5e-4, 1e-3), {"protect": "activations", "num_epochs": 2 * EPOCHS}, ledger=True),
    "full, weight decay 0.1": Method((2e-5, 5e-5, 1.25e-4), {"method": "full", "weight_decay": 0.1}),
    "lora on the MLP": Method((2e-4, 5e-4, 1.25e-3), {"method": "lora", "lora_rank": RANK, "target_patterns": [r"\.mlp\."]}),
}


class NoState:
    """In place of the trainer's resume folder: a round that is cut off is run again."""

    changed: dict[str, Any] = {}  # noqa: RUF012

    def load_state(self) -> None:
        return None

    def save_state(self, *_: Any, **__: Any) -> None:
        """Nothing is kept."""


class PeftAttachment:
    """PEFT's OSF or OFT, or O-LoRA on PEFT's LoRA, as the engine's trainer wants it. `before`: O-LoRA's earlier A factors by layer."""

    def __init__(self, model: Any, kind: str, before: dict[str, torch.Tensor]) -> None:
        from peft import LoraConfig, OFTConfig, OSFConfig, get_peft_model

        targets = list(find_targets(model))
        settings: dict[str, Callable[[], Any]] = {
            "osf": lambda: OSFConfig(effective_rank=1.0 - RATIO, target_modules=targets),
            "oft": lambda: OFTConfig(oft_block_size=32, target_modules=targets, task_type="CAUSAL_LM"),
            "olora": lambda: LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=targets, task_type="CAUSAL_LM"),
        }
        self.model: Any = get_peft_model(model, settings[kind]())
        self.before = before
        self.inputs = {name: value for name, value in self.trainable().items() if "lora_A" in name} if kind == "olora" else {}

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    @torch.no_grad()
    def before_step(self) -> None:
        """O-LoRA: the gradient of lambda * sum |A_new A_old^T|. OSF's own hooks have projected its gradients."""
        for name, A in self.inputs.items():
            if name in self.before and A.grad is not None:
                old = self.before[name]
                A.grad.add_(torch.sign(A @ old.T) @ old, alpha=OLORA_PENALTY)

    def after_step(self) -> None:
        """PEFT multiplies its factors in every forward pass."""

    def dense_state(self) -> dict[str, torch.Tensor]:
        raise NotImplementedError("not asked for without checkpoint_at_epoch")

    def merge(self) -> Any:
        for name, A in self.inputs.items():
            old = self.before.get(name)
            self.before[name] = A.detach().clone() if old is None else torch.cat([old, A.detach()])
        return self.model.merge_and_unload()


class Lineage:
    """A model that learns one task after another by one method. `calibration` stands for round 0 in the ledger."""

    def __init__(self, model: Any, method: Method, rate: float, seed: int, calibration: Sequence[Example]) -> None:
        self.model, self.method, self.calibration = model, method, calibration
        device = str(next(model.parameters()).device)
        settings = {"num_epochs": EPOCHS, "effective_batch_size": BATCH, "warmup_steps": WARMUP, "lr_scheduler": "linear"}
        settings |= {"unfreeze_rank_ratio": RATIO, "max_tokens_per_batch": 1280, "dtype": "float32", "device": device}
        settings["batch_layout"] = "padded" if device == "cpu" else "packed"
        self.config = TrainConfig(**(settings | method.config), learning_rate=rate, seed=seed)
        self.ledger: SubspaceMemory | None = None
        self.factors: dict[str, torch.Tensor] = {}
        self.buffer: list[tuple[str, Example]] = []
        self.full: list[str] = []  # layers without a free direction

    def learn(self, task: str, rows: Sequence[Example]) -> dict[str, Any]:
        """One round. Returns what it cost and how its loss went."""
        torch.manual_seed(self.config.seed)
        examples, config = self._mixed(rows)
        started = time.perf_counter()
        attachment, run = self._attach(examples, config)
        attached = time.perf_counter()
        if not attachment.trainable():  # every layer is full: the task cannot be learned any more
            self.model = attachment.merge()
            return {"steps": 0, "tokens": 0, "full_layers": len(self.full), "seconds": {"attach": round(attached - started, 1)}}
        with fast_passes():
            trainer = Trainer(attachment, examples, config, resume=NoState(), emit=lambda event: None)  # type: ignore[arg-type]
            progress = trainer.run()
        trained = time.perf_counter()
        self._remember(task, run, attachment, examples, config)
        self.model = attachment.merge()
        self.model.requires_grad_(True)
        self.model.eval()
        last = progress.losses[-max(1, len(progress.losses) // 10) :]
        seconds = {"attach": attached - started, "train": trained - attached, "finish": time.perf_counter() - trained}
        facts = {"steps": progress.step, "tokens": progress.tokens, "first_loss": progress.losses[0], "final_loss": sum(last) / len(last)}
        facts |= {"full_layers": len(self.full)} if self.full else {}
        return facts | {"seconds": {name: round(value, 1) for name, value in seconds.items()}}

    def _attach(self, examples: Sequence[Example], config: TrainConfig) -> tuple[Attachment, TrainRun]:
        run = TrainRun(base=Path("-"), drop=Path("-"), skill="benchmark", out_dir=Path("-"), config=config)
        if self.method.peft:
            return PeftAttachment(self.model, self.method.peft, self.factors), run
        if config.method == "full":
            return FullAttachment(self.model), run
        targets = find_targets(self.model, config.target_patterns)
        if config.method == "lora":
            return LoraAttachment(self.model, list(targets), config), run
        per_step = sum(len(each.ids) for each in examples) / len(examples) * config.effective_batch_size
        if config.protect == "activations" and self.ledger is None:
            self.ledger = measured_on(self.calibration, SubspaceMemory().opened(["base"]), 0, self.model, targets, config)
        scene = Scene(run, self.model, None, "", None, (), per_step)  # type: ignore[arg-type]
        allowed = self._directions(scene, targets)
        targets = {name: module for name, module in targets.items() if name in allowed}
        attachment = OsftAttachment(self.model, targets, allowed, execution=config.execution, tokens_per_step=per_step)
        attachment.before_step, attachment.after_step = exactly(attachment.before_step), exactly(attachment.after_step)  # type: ignore[method-assign]
        return attachment, run

    def _directions(self, scene: Scene, targets: Mapping[str, Any]) -> dict[str, AllowedUpdate]:
        """The allowed update of every layer that has one. The engine refuses a round in which a layer has none; here it stays as it is."""
        if not scene.config.protect_written:
            return directions(scene, targets, self.ledger)
        found: dict[str, AllowedUpdate] = {}
        self.full = []
        for name, module in targets.items():
            try:
                found |= directions(scene, {name: module}, self.ledger)
            except TrainingError:
                self.full.append(name)
        return found

    def _remember(self, task: str, run: TrainRun, attachment: Attachment, examples: Sequence[Example], config: TrainConfig) -> None:
        """What the next round is handed: the ledger as `write_outcome` extends it, and the rows offered to the buffer."""
        if self.method.ledger:
            run = run.model_copy(update={"skill": task})
            self.ledger = extend_memory(run, attachment, self.ledger, ExampleSet(tuple(examples), 0, 0))
        if config.protect_written and isinstance(attachment, OsftAttachment):
            changes = {name: (update.left, update.right) for name, update in update_factors(attachment.layers).items()}
            self.ledger = (self.ledger or SubspaceMemory()).add_written(changes, config.written_share, config.memory_rank)

    def _mixed(self, rows: Sequence[Example]) -> tuple[list[Example], TrainConfig]:
        """The rows, or with replay as many passes of which a share goes to the buffer's rows: the same steps, nearly the same tokens."""
        if not self.method.replay:
            return list(rows), self.config
        passes = EPOCHS * len(rows)
        old = round(REPLAY_SHARE * passes) if self.buffer else 0
        generator = torch.Generator().manual_seed(self.config.seed * 101 + len(self.buffer))
        new = [index for _ in range(EPOCHS) for index in torch.randperm(len(rows), generator=generator).tolist()][: passes - old]
        drawn = torch.randint(max(1, len(self.buffer)), (old,), generator=generator).tolist()
        mixed = [rows[index] for index in new] + [self.buffer[index][1] for index in drawn]
        offered = self.buffer + [(hashlib.sha256(str(each.ids).encode()).hexdigest(), each) for each in rows]
        self.buffer = sorted(offered, key=lambda pair: pair[0])[:BUFFER]  # the smallest keys: a fair sample of all that was ever offered
        return mixed, self.config.model_copy(update={"num_epochs": 1})


@contextmanager
def fast_passes() -> Iterator[None]:
    """TF32 for the model's passes on a GPU; what is decomposed, projected and added to weights stays in float32 or better."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def exactly(step: Callable[[], None]) -> Callable[[], None]:
    """The same step in full float32."""

    def run() -> None:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            step()
        finally:
            torch.set_float32_matmul_precision(before)

    return run


def gram_svd(A: torch.Tensor, full_matrices: bool = True) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """torch.linalg.svd by eigenvectors of the smaller Gram matrix in float64: on a GPU some fifty times faster at these sizes.

    With `full_matrices` only U is whole (nobody here reads V then). Singular values below 1e-8 of the largest come out as noise.
    """
    dtype, A = A.dtype, A.to(torch.float64)
    m, n = A.shape
    if full_matrices or m <= n:
        energy, U = (part.flip(-1) for part in torch.linalg.eigh(A @ A.T))
        values = energy.clamp_min(0).sqrt()[: min(m, n)]
        Vh = (U[:, : min(m, n)].T @ A) / values.clamp_min(1e-300)[:, None]
    else:
        energy, V = (part.flip(-1) for part in torch.linalg.eigh(A.T @ A))
        values = energy.clamp_min(0).sqrt()
        U, Vh = (A @ V) / values.clamp_min(1e-300), V.T
    return U.to(dtype), values.to(dtype), Vh.to(dtype)
