"""Products of many rows with many small matrices, each row with its own."""

from __future__ import annotations

import pytest
import torch

from osft_engine.subspace.grouped import gather_outer, grouped_product


@pytest.mark.parametrize(("n", "m"), [(16, 8), (6, 10)])  # for the grouped kernel, and not aligned enough for it
def test_a_grouped_product_is_that_of_each_row_with_its_own_matrix(n: int, m: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, stack, g = (torch.randn(*shape, generator=generator) for shape in ((9, n), (4, n, m), (9, m)))
    ends, owners = torch.tensor([3, 3, 7, 9], dtype=torch.int32), [0, 0, 0, 2, 2, 2, 2, 3, 3]
    mine = [value.clone().requires_grad_(True) for value in (x, stack)]
    grouped_product(*mine, ends).backward(g)
    plain = [value.clone().requires_grad_(True) for value in (x, stack)]
    wanted = torch.stack([plain[0][row] @ plain[1][owner] for row, owner in enumerate(owners)])
    wanted.backward(g)
    torch.testing.assert_close(grouped_product(x, stack, ends), wanted.detach(), rtol=1e-5, atol=1e-5)
    for found, right in zip(mine, plain, strict=True):
        torch.testing.assert_close(found.grad, right.grad, rtol=1e-5, atol=1e-5)
    assert float(gather_outer(x, g, ends)[1].abs().max()) == 0.0
