"""The subspace memory over rounds of different kinds: other protections, fewer targets, none before. Nothing learned drops out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from osft_engine.files import save_tensors
from osft_engine.memory.moments import LayerMoments
from osft_engine.memory.subspace_memory import SubspaceMemory, load_memory, save_memory
from osft_engine.run import TrainRun
from osft_engine.subspace.algebra import EigenSketch, written_directions
from osft_engine.train import train_candidate

MakeRun = Callable[..., TrainRun]
MakeDrop = Callable[..., Path]

A, B = torch.diag(torch.tensor([3.0, 2.0, 1.0])), torch.diag(torch.tensor([1.0, 4.0, 2.0]))
WIDTH = 32.0  # of the tiny model. What its norms give has mean square 1, so that each round adds WIDTH to the trace of such a moment
LAYERS = ("self_attn.q_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj")


def _measured(**moments: Tensor) -> LayerMoments:
    return LayerMoments(moments, {name: name for name in moments}, 10)


def test_a_layer_that_was_not_measured_keeps_its_sum_and_catches_up_once() -> None:
    memory = SubspaceMemory().add("base", _measured(a=A, b=B), 8).add("sums", _measured(a=A), 8)
    assert memory.rounds == ("base", "sums")
    assert torch.equal(memory.moment("b"), B)
    assert (memory.lacking(["a"]), memory.lacking(["b"]), memory.lacking(["new"])) == ((), (1,), (0, 1))
    caught_up = memory.measured_in(1, _measured(a=A, b=A), 8)
    assert caught_up.lacking(["a", "b"]) == ()
    assert torch.equal(caught_up.moment("a"), 2 * A)  # it had been measured in the round already
    assert torch.equal(caught_up.moment("b"), A + B)


def test_a_new_layer_beside_a_known_one_has_read_what_that_one_read() -> None:
    memory = SubspaceMemory().add("base", _measured(k=A), 8)
    grown = memory.add("sums", LayerMoments({"q": B}, {"q": "q", "k": "q", "v": "q"}, 10), 8)
    assert set(grown.sketches) == {"k"}
    assert grown.lacking(["q", "k", "v"]) == ()
    assert torch.equal(grown.moment("v"), A + B)


@pytest.mark.parametrize("rank", [8, 2], ids=["whole", "sketched"])
def test_the_energies_are_the_eigenvalues_of_the_moment(rank: int) -> None:
    memory = SubspaceMemory().add("base", _measured(a=A), rank).add("one", _measured(a=B), rank)
    expected = np.linalg.eigvalsh(memory.moment("a").numpy())[::-1].copy()
    torch.testing.assert_close(memory.energies("a"), torch.from_numpy(expected).double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rank", [8, 2], ids=["whole", "sketched"])
def test_equal_memories_are_equal_bytes_and_come_back_as_they_were(tmp_path: Path, rank: int) -> None:
    written = {"b": (torch.eye(3)[:, :1], torch.eye(3)[:, 1:2]), "a": (torch.eye(3)[:, 2:], torch.eye(3)[:, :2])}
    found: set[bytes] = set()
    for turn in range(6):  # several entries of metadata would come out in another order now and then
        names = ["a", "b"] if turn % 2 else ["b", "a"]
        moments = {name: {"a": A, "b": B}[name] for name in names}
        memory = (
            SubspaceMemory(written={name: written[name] for name in names})
            .add("base", _measured(**moments), rank)
            .add("one", _measured(a=A), rank)
        )
        path = tmp_path / f"{turn}.safetensors"
        save_memory(memory, path)
        found.add(path.read_bytes())
    assert len(found) == 1
    loaded = load_memory(path)
    assert (loaded.rounds, loaded.leaders, loaded.missing) == (("base", "one"), {"a": "a", "b": "b"}, {"b": (1,)})
    assert isinstance(loaded.sketches["a"], EigenSketch) == (rank == 2)
    torch.testing.assert_close(loaded.moment("a"), memory.moment("a"))
    save_memory(loaded, path)
    assert path.read_bytes() in found


@pytest.mark.parametrize(
    "facts",
    [
        {"ledger_version": "1", "rounds": '["base", "sums"]', "leaders": '{"q": "q", "k": "q"}'},
        {"ledger": '{"leaders":{"k":"q","q":"q"},"missing":{},"rounds":["base","sums"],"version":"2"}'},
    ],
    ids=["three-keys", "one-key"],
)
def test_files_of_earlier_releases_are_read(tmp_path: Path, facts: dict[str, str]) -> None:
    save_tensors({"q.moment": A}, tmp_path / "old.safetensors", facts)
    memory = load_memory(tmp_path / "old.safetensors")
    assert memory.rounds == ("base", "sums")
    assert torch.equal(memory.moment("k"), A)
    assert memory.lacking(["q", "k"]) == ()


def test_an_update_without_thin_factors_is_remembered_as_one_with_them() -> None:
    generator = torch.Generator().manual_seed(1)
    left, right = torch.randn(6, 3, generator=generator), torch.randn(9, 3, generator=generator)
    thin = SubspaceMemory().add_written({"a": (left, right)}, 0.9, 64).written["a"]
    dense = SubspaceMemory().add_written({"a": (left @ right.T, None)}, 0.9, 64).written["a"]
    assert [side.shape for side in dense] == [side.shape for side in thin] == [side.shape for side in written_directions(left, right, 0.9)]
    for one, other in zip(thin, dense, strict=True):
        torch.testing.assert_close(one @ one.T, other @ other.T, rtol=1e-4, atol=1e-5)


def _rounds_measured(run: TrainRun) -> tuple[SubspaceMemory, set[float]]:
    """A candidate's memory, and how many rounds the layers behind a norm were measured in, in equal weight."""
    memory = load_memory(run.out_dir / "ledger.safetensors")
    names = [f"model.layers.{block}.{layer}" for block in range(2) for layer in LAYERS]
    return memory, {round(float(memory.moment(name).trace()) / WIDTH, 3) for name in names}


def _lineage(make_run: MakeRun, make_drop: MakeDrop, *rounds: dict[str, object]) -> list[TrainRun]:
    """Train skills named one, two, ... one after the other, each on its own rows with its own config."""
    runs: list[TrainRun] = []
    for skill, config in zip(("one", "two", "three"), rounds, strict=False):
        before = runs[-1].out_dir if runs else None
        drop = make_drop([{"text": f"{skill} is {n}"} for n in range(8)], f"drop of {skill}")
        run = make_run(skill, drop, before and before / "model", before, **config).model_copy(update={"skill": skill})
        train_candidate(run)
        runs.append(run)
    return runs


@pytest.mark.parametrize(
    "first",
    [{"protect": "weights", "protect_written": True}, {"method": "full"}, {"protect": "weights_block"}],
    ids=["written", "full", "block"],
)
def test_a_round_by_inputs_measures_the_rounds_before_it_on_the_buffer(
    make_run: MakeRun, make_drop: MakeDrop, first: dict[str, object]
) -> None:
    runs = _lineage(make_run, make_drop, first, {"protect": "activations"})
    memory, measured_in = _rounds_measured(runs[1])
    assert memory.rounds == ("base", "one", "two")
    assert measured_in == {3.0}
    assert len(memory.written) == (14 if "protect_written" in first else 0)


def test_a_round_without_a_buffer_says_what_the_memory_lacks(
    make_run: MakeRun, make_drop: MakeDrop, capfd: pytest.CaptureFixture[str]
) -> None:
    runs = _lineage(make_run, make_drop, {"method": "full", "buffer_size": 0}, {"protect": "activations", "buffer_size": 0})
    memory, measured_in = _rounds_measured(runs[1])
    assert memory.rounds == ("base", "one", "two")
    assert measured_in == {2.0}
    assert memory.lacking(memory.leaders) == (1,)
    assert "warning: the subspace memory lacks round 1 (one)" in capfd.readouterr().err


@pytest.mark.parametrize("first", [{"protect": "weights"}, {"protect": "weights", "protect_written": True}, {"method": "full"}], ids=str)
def test_protecting_what_was_written_says_where_nothing_was_recorded(
    make_run: MakeRun, make_drop: MakeDrop, capfd: pytest.CaptureFixture[str], first: dict[str, object]
) -> None:
    _lineage(make_run, make_drop, first, {"protect": "weights", "protect_written": True})
    assert ("no earlier round recorded what it wrote" in capfd.readouterr().err) == ("protect_written" not in first)


@pytest.mark.parametrize("narrow", [0, 1], ids=["narrow first", "narrow between"])
def test_a_round_on_fewer_layers_takes_nothing_from_the_others(make_run: MakeRun, make_drop: MakeDrop, narrow: int) -> None:
    configs: list[dict[str, object]] = [{}, {}, {}]
    configs[narrow] = {"target_patterns": ("self_attn",)}
    runs = _lineage(make_run, make_drop, *configs)
    memory, measured_in = _rounds_measured(runs[2])
    assert memory.rounds == ("base", "one", "two", "three")
    assert measured_in == {4.0}
    assert memory.lacking(memory.leaders) == ()
    if narrow:
        between, _ = _rounds_measured(runs[1])
        assert len(between.leaders) == 14


def test_a_run_that_was_cut_off_leaves_the_same_memory_to_the_byte(make_run: MakeRun) -> None:
    settings = {"learning_rate": 1e-2, "warmup_steps": 0, "save_every_steps": 1}
    whole, cut = make_run(out="whole", **settings), make_run(out="cut", **settings)

    def stop(event: dict[str, object]) -> None:
        if event.get("step") == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_candidate(cut, on_event=stop)
    digests = [train_candidate(run).files["ledger"].sha256 for run in (whole, cut)]
    assert digests[0] == digests[1]
