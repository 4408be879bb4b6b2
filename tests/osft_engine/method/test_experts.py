"""The experts of a mixture, opened to matrices: they compute what the model computes, and their updates are those of any other matrix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from data_contracts.errors import ConfigError
from osft_engine.compute.distributed import World
from osft_engine.loop.prepare import Scene, attach_method
from osft_engine.loop.resume import ResumeFolder
from osft_engine.method.attach import OsftAttachment, allowed_updates, choose_executions, find_targets
from osft_engine.method.experts import ExpertLinear, OpenExperts, close_experts, open_experts
from osft_engine.run import TrainRun
from osft_engine.subspace.linear import Execution, UpdatedLinear, choose_execution
from osft_engine.subspace.protection import AllowedUpdate, protect_activations, protect_weights, protect_weights_block

MakeModel = Callable[[str], Any]

EXPERTS, CHOSEN = 4, 2  # of each layer, of each token


@torch.no_grad()
def _logits(model: Any) -> torch.Tensor:
    logits: torch.Tensor = model(torch.arange(20).unsqueeze(0), use_cache=False).logits[0]
    return logits


def _fused(model: Any) -> dict[str, Any]:
    """The modules that hold a layer's experts, by name, as transformers makes them."""
    return {name: module for name, module in model.named_modules() if isinstance(getattr(module, "down_proj", None), nn.Parameter)}


def _allowed(kind: str, W: torch.Tensor, number: int) -> AllowedUpdate:
    """Another number of directions in every expert, and in the last one all of them."""
    ratio = (0.25, 0.5, 0.4, 1.0)[number]
    if kind == "activations":
        X = torch.randn(300, W.shape[1], generator=torch.Generator().manual_seed(number)) * torch.logspace(0, -3, W.shape[1])
        return protect_activations((W.shape[0], W.shape[1]), X.T @ X, ratio)
    return protect_weights_block(W, ratio) if kind == "weights_block" else protect_weights(W, ratio, compact=kind == "compact")


CASES = [(kind, way) for kind in ("weights", "compact", "activations") for way in ("dense", "side")]


@pytest.mark.parametrize(("kind", "execution"), [*CASES, ("weights_block", "dense")])
def test_forward_and_gradients_are_those_of_the_written_out_update(
    make_mixture: MakeModel, mixture: str, kind: str, execution: Execution
) -> None:
    """Against transformers' own loop over the experts, with W + dW in the fused parameters. The third expert is chosen by no token, the
    second one's down_proj is not trained."""
    fused = next(iter(_fused(make_mixture(mixture)).values()))
    fused.config._experts_implementation = "eager"
    opened = OpenExperts(fused, CHOSEN)
    holder = nn.Module()
    holder.add_module("experts", opened)
    targets = {name: each for name, each in holder.named_modules() if isinstance(each, ExpertLinear) and name != "experts.1.down_proj"}
    allowed = {name: _allowed(kind, each.weight, int(name.split(".")[1])) for name, each in targets.items()}
    attachment = OsftAttachment(holder, targets, allowed, execution=execution)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for layer in attachment.layers.values():
            layer.core.copy_(0.1 * torch.randn(layer.core.shape, generator=generator))
    attachment.after_step()
    chosen = torch.tensor([[0, 1], [3, 0], [1, 3], [0, 3], [3, 1], [1, 0], [0, 1]])
    x, g = (torch.randn(7, 32, generator=generator) for _ in range(2))
    shares = torch.rand(7, CHOSEN, generator=generator)
    mine = x.clone().requires_grad_(True)
    y = opened(mine, chosen, shares)
    y.backward(g)
    attachment.before_step()

    plain, cores = x.clone().requires_grad_(True), {}
    for matrix in opened.matrices:
        stack = getattr(fused, matrix).detach()
        updates = []
        for number in range(EXPERTS):
            name = f"experts.{number}.{matrix}"
            if name in targets:
                cores[name] = attachment.layers[name].core.detach().clone().requires_grad_(True)
                dW = allowed[name].expand(cores[name])
                updates.append(dW.T if fused.is_transposed else dW)
            else:
                updates.append(torch.zeros_like(stack[number]))
        del fused._parameters[matrix]
        setattr(fused, matrix, stack + torch.stack(updates))
    wanted = fused(plain, chosen, shares)
    wanted.backward(g)
    torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mine.grad, plain.grad, rtol=1e-4, atol=1e-5)
    for name, core in cores.items():
        found = attachment.layers[name].core.grad
        assert found is not None
        assert core.grad is not None
        torch.testing.assert_close(found, core.grad, rtol=1e-4, atol=1e-5)
        assert (float(found.abs().max()) == 0.0) == (name.split(".")[1] == "2")


def test_opened_experts_compute_what_the_model_computes_and_close_to_the_same_module(make_mixture: MakeModel, mixture: str) -> None:
    model = make_mixture(mixture).eval()
    before, names = _fused(model), list(model.state_dict())
    wanted = _logits(model)
    targets = find_targets(model)
    assert sum(isinstance(each, ExpertLinear) for each in targets.values()) == 2 * 2 * EXPERTS
    assert not any("router" in name or name.endswith(".gate") for name in targets)
    assert list(model.state_dict()) == names
    torch.testing.assert_close(_logits(model), wanted, rtol=1e-5, atol=1e-5)
    seen: list[str] = []
    for name, module in targets.items():
        module.register_forward_pre_hook(lambda *_, name=name: seen.append(name))
    torch.testing.assert_close(_logits(model), wanted, rtol=1e-5, atol=1e-5)
    assert set(seen) == set(targets)  # each is called, also where no token reached it
    close_experts(model)
    assert _fused(model) == before


def test_equal_router_scores_are_broken_as_the_model_breaks_them(make_mixture: MakeModel) -> None:
    model = make_mixture("mixtral").eval()
    for module in model.modules():
        if type(module).__name__.endswith("TopKRouter"):
            nn.init.zeros_(module.weight)
    wanted = _logits(model)
    open_experts(model)
    torch.testing.assert_close(_logits(model), wanted, rtol=1e-5, atol=1e-5)


def test_what_cannot_train_experts_says_so(make_run: Callable[..., TrainRun], make_mixture: MakeModel, tmp_path: Path) -> None:
    run, model = make_run(), make_mixture("mixtral")
    scene: Any = Scene(run, model, None, "", None, (), 100.0, World(0, 2))  # type: ignore[arg-type]
    with pytest.raises(
        ConfigError, match=r"target_patterns: include experts such as model\.layers\.0\.mlp\.experts\.0\.gate_up_proj, .* not in 2"
    ):
        attach_method(scene, ResumeFolder(tmp_path / "a", "", {}))
    quantized = run.model_copy(update={"config": run.config.model_copy(update={"quantize": "nf4"})})
    scene = Scene(quantized, model, None, "", None, (), 100.0)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"train\.quantize: holds linear layers in 4 bits and leaves experts"):
        attach_method(scene, ResumeFolder(tmp_path / "b", "", {}))


SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.mark.parametrize("family", ["llama4_text", "jetmoe"])
def test_experts_of_another_form_are_refused_by_name(family: str) -> None:
    settings = AutoConfig.for_model(family, **SMALL | {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2})
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(settings)
    with pytest.raises(
        ConfigError, match=r"keeps its experts in fused 3-D parameters such as model\.layers\.0.* naming them in target_patterns"
    ):
        find_targets(model)
    assert len(find_targets(model, ["k_?v?_proj"])) > 0


def test_only_the_experts_that_a_pattern_names_are_trained(make_mixture: MakeModel) -> None:
    model = make_mixture("qwen3_moe")
    targets = find_targets(model, [r"layers\.1\..*experts\.2\.down_proj"])
    assert list(targets) == ["model.layers.1.mlp.experts.2.down_proj"]
    attachment = OsftAttachment(model, targets, allowed_updates(targets, lambda _, W: protect_weights(W, 0.5)))
    assert [type(each) for each in attachment.layers.values()] == [UpdatedLinear]
    torch.testing.assert_close(_logits(model), _logits(make_mixture("qwen3_moe")), rtol=1e-5, atol=1e-5)


def test_experts_that_read_their_weights_otherwise_are_not_opened(make_mixture: MakeModel) -> None:
    model = make_mixture("mixtral")
    kind = type(model.model.layers[0].mlp.experts)

    class Doubled(kind):  # type: ignore[misc, valid-type]
        def forward(self, *inputs: Any) -> Any:
            return 2 * super().forward(*inputs)

    for layer in model.model.layers:
        layer.mlp.experts.__class__ = Doubled
    with pytest.raises(ConfigError, match="of a form that cannot be taken apart"):
        find_targets(model)


def test_the_cheaper_way_counts_the_tokens_that_reach_an_expert(make_mixture: MakeModel) -> None:
    """At a number of tokens between those at which a whole matrix and an expert's become cheaper with a second weight."""
    targets = find_targets(make_mixture("mixtral"))
    allowed = allowed_updates(targets, lambda _, W: protect_weights(W, 0.25, compact=True))
    name = "model.layers.0.mlp.experts.0.down_proj"
    turn = next(tokens for tokens in range(1, 10_000) if choose_execution(allowed[name], tokens) == "dense")
    for tokens, wanted in ((turn, "side"), (turn * EXPERTS / CHOSEN, "dense")):
        found = choose_executions({name: targets[name]}, allowed, "auto", float(tokens))
        assert found == {name: wanted}


def test_fused_parameters_are_trained_without_restriction_where_no_expert_is_a_target(make_mixture: MakeModel) -> None:
    model = make_mixture("gpt_oss")
    experts = find_targets(model)
    with pytest.raises(ConfigError, match="'down_proj' matches no parameter outside the targets"):
        OsftAttachment(model, experts, allowed_updates(experts, lambda _, W: protect_weights(W, 0.5)), ["down_proj"])

    plain = make_mixture("gpt_oss")
    parameter = plain.get_parameter("model.layers.1.mlp.experts.down_proj")
    (wanted,) = torch.autograd.grad(_loss(plain), parameter)
    model = make_mixture("gpt_oss")
    targets = find_targets(model, ["self_attn"])
    attachment = OsftAttachment(model, targets, allowed_updates(targets, lambda _, W: protect_weights(W, 0.5)), [r"1.*experts\.down_proj$"])
    _loss(model).backward()
    [(name, trained)] = attachment.others.items()
    assert name == "model.layers.1.mlp.experts.down_proj"
    torch.testing.assert_close(trained.grad, wanted, rtol=1e-4, atol=1e-5)


def _loss(model: Any) -> torch.Tensor:
    logits: torch.Tensor = model(torch.arange(20).unsqueeze(0), use_cache=False).logits
    return logits.square().mean()
