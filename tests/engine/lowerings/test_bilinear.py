import itertools

import pytest
import torch
import torch.nn.functional as F
from engine.members import MEMBERS, assert_lowered

OWN = [own for own in itertools.product([True, False], repeat=4) if any(own)]


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("lead", [(), (4,), (4, 2)], ids=str)
@pytest.mark.parametrize("own", OWN, ids=str)
def test_values_and_gradients_are_torch_s(own, lead, biased):
    shapes = [(*lead, 3), (*lead, 2), (5, 3, 2), (5,)]
    tensors = [
        torch.randn((MEMBERS, *shape) if mine else shape, dtype=torch.float64).requires_grad_()
        for mine, shape in zip(own, shapes, strict=True)
    ]
    count = 4 if biased else 3
    if any(own[:count]):
        assert_lowered(F.bilinear, tensors[:count], own[:count])
