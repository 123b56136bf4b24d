"""What a forward calls, by function: names, whose they are, the user's line, what is made and written."""

import pytest
import torch
from torch import nn

from modelspace.trace import recorded


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        x = self.drop(self.fc(x))
        x.mul_(2)
        with torch.no_grad():
            self.seen = x.sum() if x.shape[0] else None
        return x.view(-1, 3)


def run(module, *inputs, **how):
    with recorded(module, **how) as operations:
        module(*inputs)
    return operations


def test_operations_come_in_order_with_their_module_and_line():
    operations = run(Net().eval(), torch.randn(2, 4))
    assert [(o.name, o.call.name) for o in operations] == [
        ("linear", "fc"),
        ("dropout", "drop"),
        ("mul_", ""),
        ("sum", ""),
        ("view", ""),
    ]
    first = Net.forward.__code__.co_firstlineno
    assert operations[2].line == f"line {first + 2} of tests/trace/test_calls.py: x.mul_(2)"
    assert operations[0].line.startswith(f"line {first + 1} of")


def test_what_is_made_is_told_from_what_is_handed_on():
    linear, dropout, multiply, *_ = run(Net().eval(), torch.randn(2, 4))
    assert dropout.returned[0] is linear.outputs[0]
    assert dropout.outputs == []
    assert multiply.written[0] is multiply.outputs[0] is linear.outputs[0]
    assert linear.written == []


def test_copies_stay_what_they_were():
    module, x = Net().eval(), torch.randn(2, 4)
    linear = run(module, x, copies=True)[0]
    assert torch.equal(linear.returned[0], module.fc(x))  # before it was doubled in place


def test_the_innermost_sees_what_the_user_wrote_under_vmap_too():
    module, x = Net(), torch.randn(5, 2, 4)

    def one(sample):
        with recorded(module, copies=True) as operations:
            module(sample)
        return [o.returned for o in operations if o.returned]

    returned = torch.vmap(one, randomness="different")(x)
    assert torch.equal(returned[0][0], module.fc(x))


def test_the_operation_that_fails_is_the_last():
    module = Net()
    with recorded(module) as operations, pytest.raises(RuntimeError):
        module(torch.randn(2, 5))
    assert [o.name for o in operations] == ["linear"]
    assert operations[0].returned == []


def test_the_module_is_what_it_was():
    module = Net()
    module.forward = own = lambda x: x + 1
    with recorded(module) as operations:
        module(torch.zeros(2))
    assert module.forward is own
    assert [o.name for o in operations] == ["add"]
    del module.forward
    run(module, torch.randn(2, 4))
    assert "forward" not in vars(module)
