"""The training loop: steps of a fixed number of examples, a loss that is the mean over all their tokens, a state that survives SIGKILL."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

from data_contracts.errors import TrainingError
from osft_engine.compute.distributed import World, own_part, set_whole, whole
from osft_engine.compute.forward import summed_loss
from osft_engine.compute.peak_memory import memory_explained
from osft_engine.config import TrainConfig
from osft_engine.data.batches import MicroBatch
from osft_engine.data.examples import Example
from osft_engine.data.mixture import Mixture
from osft_engine.loop.keeping import Keeper
from osft_engine.loop.optim import NamedOptimizer, step_sizes
from osft_engine.loop.probe import wanted_layout
from osft_engine.loop.resume import Progress, ResumeFolder
from osft_engine.loop.stopping import StopSignal, TrainingStoppedError
from osft_engine.method.attach import Attachment

Emit = Callable[[dict[str, Any]], None]
OnEpoch = Callable[[int], None]

LEARNED = 1e-5
"""Loss of a step (nats per token) below which its rows teach nothing more. SmolLM2 gets there in some 250 steps of a drop of short rows;
nano, whose answers improve until step 500, never does (docs/results/schedules.md)."""


SAVING, LONGEST_WAIT = 0.05, 1800.0
"""Largest share of the time that saving the state by time may take, and the most seconds between two saves for its sake. Where a state is
large (8B: 21 GB) and its disk slow, one save a minute would take all of the time."""


class Trainer:
    """Trains an attachment on examples. `resume` keeps its state; `emit` gets one event per logged step; `on_epoch` each epoch's number.

    `held_out` examples are never trained on: their loss is taken every `validate_every_steps` steps (or every epoch). `keeper` adds to the
    gradients of each step what the update changes on general text.
    """

    def __init__(
        self,
        attachment: Attachment,
        examples: Sequence[Example] | Mixture,
        config: TrainConfig,
        *,
        resume: ResumeFolder,
        emit: Emit,
        held_out: Sequence[Example] = (),
        on_epoch: OnEpoch | None = None,
        world: World | None = None,
        stop: StopSignal | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        mixed = examples if isinstance(examples, Mixture) else Mixture(tuple(examples))
        self.attachment, self.examples, self.config, self.resume, self.emit = attachment, mixed.examples, config, resume, emit
        self.held_out, self.on_epoch, self.world, self.stop = held_out, on_epoch, world or World(), stop or StopSignal()
        self.keeper = keeper
        self.parameters = attachment.trainable()
        self.device = next(iter(self.parameters.values())).device
        self.optimizer = NamedOptimizer(self.parameters, config)
        passes = config.passes(mixed.per_pass)
        epochs = [mixed.steps(config.effective_batch_size, config.seed, epoch) for epoch in range(passes)]
        self.steps_per_epoch = len(epochs[0])
        self.plan = [step for epoch in epochs for step in epoch]
        self.step_size = step_sizes(config, len(self.plan))
        self.layout = wanted_layout(config, self.device)
        self.progress = Progress()
        self.moved: float | None = None
        """Of the last step: the estimate of what the update changed on general text, where that is counted."""
        self._saved_at, self._save_took = time.monotonic(), 0.0
        self._watched: list[tuple[MicroBatch, float]] = []

    def run(self) -> Progress:
        """Train to the end, from the last saved state if there is one. Raises TrainingError on a loss or gradient that is not finite.

        After a signal to stop it finishes its step, saves its state and raises TrainingStoppedError.
        """
        self._restore()
        self.attachment.model.train()
        started = time.monotonic() - self.progress.seconds
        tokens_before, started_here = self.progress.tokens, time.monotonic()
        settings = {"unit": "step", "desc": "train", "dynamic_ncols": True, "mininterval": 0.5, "disable": not self.world.leads}
        with self.stop.at_a_step(), tqdm(total=len(self.plan), initial=self.progress.step, **settings) as bar:
            while self.progress.step < len(self.plan) and not self.progress.stopped:
                try:
                    loss, norm = self._one_step(self.plan[self.progress.step])
                except TrainingError:
                    self._keep_good_state()
                    raise
                self.progress.seconds = time.monotonic() - started
                speed = (self.progress.tokens - tokens_before) / max(time.monotonic() - started_here, 1e-9)
                bar.set_postfix_str(f"loss {loss:.3f}, {speed:.0f} tokens/s", refresh=False)
                bar.update()
                self._log(loss, norm, speed)
                self._validate_if_due()
                self._end_epoch()  # before the state is saved: a run that is killed between the two does this again when it resumes
                self._save_if_due()
                self._stop_if_signalled()
        self._take_best()
        return self.progress

    def _one_step(self, indices: Sequence[int]) -> tuple[float, float]:
        examples = [self.examples[index] for index in indices]
        count = sum(example.loss_tokens for example in examples)
        total = 0.0
        for batch, weight in self.world.share(examples, max_tokens=self.config.max_tokens_per_batch, layout=self.layout):
            with memory_explained(f"step {self.progress.step + 1}", f"out of memory in a batch of {batch.tokens} tokens"):
                loss = summed_loss(self.attachment.model, batch.to(self.device)) * (weight / count)
                # Sharded gradients are averaged over the processes; the loss is a mean over the tokens of all of them.
                (loss * self.world.size).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
            if self.world.size == 1:
                self._require_finite(total, "loss", batch.origins)
        total = self.world.sum(total)
        self._require_finite(total, "loss", tuple(example.origin for example in examples))
        self.moved = self.keeper.add_gradients() if self.keeper is not None else None
        self.attachment.before_step()
        limit = self.config.max_grad_norm or math.inf
        norm = self.optimizer.clip(limit, self.world)
        self._require_finite(norm, "gradient norm", tuple(example.origin for example in examples))
        self.optimizer.step(self.step_size(self.progress.step))
        self.attachment.after_step()
        self.progress.step += 1
        self.progress.losses.append(total)
        self.progress.loss_tokens += count
        self.progress.tokens += sum(len(example.ids) for example in examples)
        return total, norm

    def _require_finite(self, value: float, what: str, origins: Sequence[str]) -> None:
        if math.isfinite(value):
            return
        shown = ", ".join(origins[:8]) + (f" and {len(origins) - 8} more" if len(origins) > 8 else "")
        raise TrainingError(
            f"step {self.progress.step + 1} of {len(self.plan)}",
            f"the {what} is {value} on {shown}",
            f"lower learning_rate (it is {self.config.peak_learning_rate:g}) or look at these rows; the champion is unchanged",
        )

    def _keep_good_state(self) -> None:
        """Save what the steps before a failed one reached. With several processes one may fail alone: then the last saved state is kept."""
        if self.world.size == 1 and self._broken_parameter() is None:
            self._save()

    def _broken_parameter(self) -> str | None:
        """A trained parameter that is not finite, on any process; None where all are finite."""
        broken = [name for name, value in self.parameters.items() if not bool(torch.isfinite(own_part(value)).all())]
        elsewhere = self.world.sum(float(len(broken))) > 0
        return broken[0] if broken else "another process's part" if elsewhere else None

    def _require_good_parameters(self) -> None:
        """Raise TrainingError where the last step left a number that is not finite: it must not replace the last good state."""
        broken = self._broken_parameter()
        if broken is not None:
            raise TrainingError(
                f"step {self.progress.step} of {len(self.plan)}",
                f"left {broken} not finite",
                f"lower learning_rate (it is {self.config.peak_learning_rate:g}); the last good state and the champion are unchanged",
            )

    def _log(self, loss: float, norm: float, speed: float) -> None:
        step = self.progress.step
        if step % self.config.log_every_steps and step != len(self.plan):
            return
        event = {"event": "step", "step": step, "steps": len(self.plan), "loss": loss, "grad_norm": norm, "lr": self.step_size(step - 1)}
        if self.moved is not None:
            event["general"] = self.moved
        self.emit(
            event | {"tokens": self.progress.tokens, "tokens_per_second": round(speed, 1), "seconds": round(self.progress.seconds, 3)}
        )

    def _validate_if_due(self) -> None:
        every = self.config.validate_every_steps or self.steps_per_epoch
        if not self.held_out or (self.progress.step % every and self.progress.step != len(self.plan)):
            return
        loss = self._held_out_loss()
        self._require_finite(loss, "validation loss", tuple(example.origin for example in self.held_out))
        counts = self.progress.step >= self.config.early_stop_after or self._nothing_is_left()
        best = counts and (self.progress.best_loss is None or loss < self.progress.best_loss)
        self.emit({"event": "validation", "step": self.progress.step, "loss": loss, "best": best})
        if not counts:
            return
        if best:
            self.progress.best_loss, self.progress.best_step = loss, self.progress.step
            if self.config.keep_best:
                self.resume.save_best({name: whole(value) for name, value in self.parameters.items()}, leads=self.world.leads)
        if self.progress.counted_loss is None or loss < self.progress.counted_loss - self.config.early_stop_gain:
            self.progress.counted_loss, self.progress.validations_without_gain = loss, 0
        else:
            self.progress.validations_without_gain += 1
        patience, within = self.config.early_stop_patience, self.progress.counted_loss <= self.config.early_stop_gain
        # A loss within the least gain of zero has nothing to gain.
        self.progress.stopped = patience > 0 and (within or self.progress.validations_without_gain >= patience)

    def _nothing_is_left(self) -> bool:
        """Whether every step of the last pass had a loss below LEARNED: what AdamW still does moves the model without teaching it."""
        last = self.progress.losses[-self.steps_per_epoch :]
        return len(last) == self.steps_per_epoch and max(last) < LEARNED

    @torch.no_grad()
    def _held_out_loss(self) -> float:
        self.attachment.model.eval()
        total = 0.0
        if not self._watched:
            self._watched = list(self.world.share(self.held_out, max_tokens=self.config.max_tokens_per_batch, layout=self.layout))
        for batch, weight in self._watched:
            total += weight * float(summed_loss(self.attachment.model, batch.to(self.device)))
        self.attachment.model.train()
        return self.world.sum(total) / sum(example.loss_tokens for example in self.held_out)

    def _save_if_due(self) -> None:
        step, every = self.progress.step, self.config.save_every_steps
        last = step == len(self.plan) or self.progress.stopped
        elapsed = self.world.sum(time.monotonic() - self._saved_at) / self.world.size  # the processes must decide alike
        asked = self.config.save_every_seconds
        wait = max(asked, min(self._save_took / SAVING, LONGEST_WAIT)) if asked else 0.0
        if elapsed >= wait or (every > 0 and step % every == 0) or last:
            self._require_good_parameters()
            self._save()

    def _stop_if_signalled(self) -> None:
        """Any of the processes may have received the signal; all of them stop after the same step."""
        if self.world.sum(float(self.stop.received)) == 0:
            return
        self._require_good_parameters()
        self._save()
        where = f"step {self.progress.step} of {len(self.plan)}"
        raise TrainingStoppedError(
            where, "was stopped by a signal and has saved its state", "run the same round again, it continues from here"
        )

    def _save(self) -> None:
        began = time.monotonic()
        parameters = {name: whole(value) for name, value in self.parameters.items()}
        self.resume.save_state(parameters, self.optimizer.state(), self.progress, leads=self.world.leads)
        self.world.barrier()  # one process writes; the others have waited as long
        self._saved_at = time.monotonic()
        self._save_took = self.world.sum(self._saved_at - began) / self.world.size

    def _end_epoch(self) -> None:
        if self.on_epoch is not None and self.progress.step % self.steps_per_epoch == 0:
            self._require_good_parameters()
            self.on_epoch(self.progress.step // self.steps_per_epoch)

    def _restore(self) -> None:
        saved = self.resume.load_state()
        if saved is None:
            return
        parameters, optimizer, self.progress = saved
        self._set_parameters(parameters)
        self.optimizer.restore(optimizer)
        self.emit({"event": "resumed", "step": self.progress.step} | ({"changed": self.resume.changed} if self.resume.changed else {}))

    def _take_best(self) -> None:
        """Return to the parameters of the best validation where keep_best is set."""
        best = self.resume.load_best() if self.config.keep_best and self.held_out else None
        if best is not None:
            self._set_parameters(best)
            self.emit({"event": "best", "step": self.progress.best_step, "loss": self.progress.best_loss})

    def _set_parameters(self, values: dict[str, torch.Tensor]) -> None:
        for name, value in values.items():
            set_whole(self.parameters[name], value)
        self.attachment.after_step()
