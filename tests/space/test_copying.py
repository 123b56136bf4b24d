import pytest
import torch
from support.cases import Tied
from torch import nn

from modelspace.errors import ModelspaceError
from modelspace.space.copying import copied


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_ties_stay_ties_and_the_original_stays(device):
    module = Tied()
    before = module.embedding.weight.detach().clone()
    copy = copied(module, device)
    assert copy.output.weight is copy.embedding.weight
    assert copy.output.weight.device.type == device
    assert module.output.weight is module.embedding.weight
    assert torch.equal(module.embedding.weight, before)


def test_plain_tensor_attributes_move_too():
    module = nn.Linear(2, 2)
    module.mask = torch.ones(3)
    assert copied(module, "meta").mask.is_meta


def test_what_refuses_to_be_copied_is_named():
    class Stubborn(nn.Linear):
        def __deepcopy__(self, memo):
            raise RuntimeError("no copies")

    with pytest.raises(ModelspaceError, match="Stubborn can't be copied: no copies"):
        copied(Stubborn(2, 2), "meta")
