"""Give different embeddings to the words that do not occur in nano's training.

Softmax training moves all tokens that never occur in the same direction, until they are nearly parallel (mean cosine 0.98 in nano). A new
skill whose prompts contain such a word would take this one direction from all later skills. So these words are moved to random directions
that neither the model's inputs nor its outputs use much. Large models have many such directions, one of 160 dimensions does not.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

ROOM = 48  # number of directions for the spare words: those with the least energy


@torch.no_grad()
def spread_spare_words(model: LlamaForCausalLM, rows: Sequence[Sequence[int]], seed: int) -> list[int]:
    """Move the embeddings (n x d, tied to the output) of the tokens that occur in no row; returns these tokens.

    rows: token ids of a representative sample of the training text.
    """
    embeddings = model.get_input_embeddings().weight
    seen = sorted(set(itertools.chain.from_iterable(rows)))
    spare = sorted(set(range(len(embeddings))) - set(seen))
    if not spare:
        return []
    quiet = _quiet_directions(model, rows)
    generator = torch.Generator().manual_seed(seed)
    places = torch.nn.functional.normalize(torch.randn(len(spare), quiet.shape[1], generator=generator), dim=1)
    embeddings[spare] = places @ quiet.T * embeddings[seen].norm(dim=1).mean()
    return spare


def _quiet_directions(model: LlamaForCausalLM, rows: Iterable[Sequence[int]]) -> Tensor:
    """d x ROOM: the directions with the smallest sum of the second moments of normed embeddings and final hidden states."""
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    for row in rows:
        ids = torch.tensor([list(row)])
        entering = model.get_input_embeddings()(ids)[0]
        inputs.append(entering / entering.pow(2).mean(dim=1, keepdim=True).sqrt())
        outputs.append(model.model(input_ids=ids).last_hidden_state[0])
    vectors: Tensor = torch.linalg.eigh(_unit_moment(torch.cat(inputs)) + _unit_moment(torch.cat(outputs))).eigenvectors
    return vectors[:, :ROOM].float()


def _unit_moment(rows: Tensor) -> Tensor:
    """Second moment (d x d, float64, trace 1) of the rows (tokens x d)."""
    moment = rows.double().T @ rows.double()
    return moment / moment.trace()
