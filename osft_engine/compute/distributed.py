"""Several processes under torchrun: who does what, and the model sharded with FSDP2.

Frozen weights and cores are sharded parameters; cores get their gradients by FSDP's reduce-scatter. The update is a product of factors, so
a step needs no projection and no further collective. One process runs the same code.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from osft_engine.data.batches import Layout, MicroBatch, micro_batches
from osft_engine.data.examples import Example


@dataclass(frozen=True)
class World:
    """The processes of this run."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and draws the bar."""
        return self.rank == 0

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier()

    def sum(self, value: float) -> float:
        """Sum of a number over the processes, the same on each."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device="cuda" if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(total)
        return float(total)

    def share(self, examples: Sequence[Example], *, max_tokens: int, layout: Layout) -> list[tuple[MicroBatch, float]]:
        """This process's forward passes of one step, each with its weight in the loss.

        Every process runs the same number of passes, because sharded layers are gathered by all of them at once; a process with fewer
        passes repeats one at weight 0.
        """
        ordered = sorted(examples, key=lambda each: -len(each.ids))
        shares = [micro_batches(ordered[rank :: self.size], max_tokens=max_tokens, layout=layout) for rank in range(self.size)]
        passes = max(len(share) for share in shares)
        mine = [(batch, 1.0) for batch in shares[self.rank]]
        spare = mine[0][0] if mine else shares[0][0]
        return mine + [(spare, 0.0)] * (passes - len(mine))


def current_world() -> World:
    """The process group that torchrun describes in the environment, joined once; a world of one without it."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    if not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return World(dist.get_rank(), dist.get_world_size())


def shard_model(model: Any, world: World) -> Any:
    """Shard every decoder block and then the rest over the processes. A world of one is left alone."""
    if world.size == 1:
        return model
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cuda" if torch.cuda.is_available() else "cpu", (world.size,))
    blocks = set(getattr(model, "_no_split_modules", None) or ())
    for module in list(model.modules()):
        if type(module).__name__ in blocks:
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def whole(tensor: Tensor) -> Tensor:
    """The full value of a tensor that may be sharded, on every process. A collective where it is."""
    full = getattr(tensor, "full_tensor", None)
    result: Tensor = full() if full is not None else tensor
    return result


def whole_state(model: nn.Module, *, without: Sequence[str] = ()) -> dict[str, Tensor]:
    """The full state of a model that may be sharded, without the keys that start with one of `without` (biases stay).

    Tied parameters are gathered once and stay one tensor, so that they are written once.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    gathered: dict[int, Tensor] = {}
    found: dict[str, Tensor] = {}
    for key, value in model.state_dict().items():
        if key.startswith(tuple(without)) and not key.endswith(".bias"):
            continue
        owner = id(parameters.get(key, value))
        found[key] = gathered[owner] = gathered[owner] if owner in gathered else whole(value)
    return found


@torch.no_grad()
def set_whole(target: Tensor, value: Tensor) -> None:
    """Write a full value into a tensor that may be sharded."""
    if hasattr(target, "full_tensor"):
        from torch.distributed.tensor import distribute_tensor

        value = distribute_tensor(value.to(target.device), target.device_mesh, target.placements)  # type: ignore[attr-defined]
    target.copy_(value)


Part = TypeVar("Part", bound=Tensor)


def own_part(tensor: Part) -> Part:
    """This process's part of a sharded tensor, in the same memory; any other tensor itself."""
    to_local = getattr(tensor, "to_local", None)
    if to_local is None:
        return tensor
    local = to_local()
    return nn.Parameter(local) if isinstance(tensor, nn.Parameter) else local  # type: ignore[return-value]


def gathered_like(part: Tensor, parameter: nn.Parameter) -> Tensor:
    """The full value of optimiser state kept per part of a sharded parameter; values of another shape, such as step counters, unchanged."""
    if not hasattr(parameter, "to_local") or part.shape != parameter.to_local().shape:
        return part
    from torch.distributed.tensor import DTensor

    mesh, placements = parameter.device_mesh, parameter.placements  # type: ignore[attr-defined]
    return DTensor.from_local(part, mesh, placements, shape=parameter.shape, stride=parameter.stride()).full_tensor()


def own_share_like(value: Tensor, parameter: nn.Parameter) -> Tensor:
    """The inverse of `gathered_like`, on the parameter's device."""
    value = value.to(parameter.device)
    if not hasattr(parameter, "to_local") or value.shape != parameter.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, parameter.device_mesh, parameter.placements).to_local()  # type: ignore[attr-defined]
