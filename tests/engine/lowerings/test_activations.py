import pytest
import torch
import torch.nn.functional as F
from engine.members import MEMBERS, assert_lowered


@pytest.mark.parametrize("own", [(True, True), (True, False), (False, True)], ids=str)
@pytest.mark.parametrize(
    ("shape", "slopes"), [((), 1), ((3,), 1), ((4, 3), 3), ((4, 3, 2, 5), 3), ((4, 3, 2), 1)]
)
def test_prelu(shape, slopes, own):
    x, w = (
        torch.randn(MEMBERS if mine else 1, *size, dtype=torch.float64)[slice(None) if mine else 0]
        for mine, size in zip(own, (shape, (slopes,)), strict=True)
    )
    with torch.no_grad():
        x.reshape(-1)[0] = 0.0
    assert_lowered(F.prelu, [x.requires_grad_(), w.requires_grad_()], own)
