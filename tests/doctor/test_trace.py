"""The recording of a forward: operations, lines, writes, cuts; and the graph behind outputs."""

import ast

import torch
from torch import nn

from modelspace.doctor.trace import record, source_of
from modelspace.losses import leaves


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        x = self.drop(self.fc(x))
        x.mul_(2)
        with torch.no_grad():
            self.seen = x.sum()
        return x.view(-1, 3)


def test_operations_in_order_with_module_and_line():
    trace = record(Net().eval(), torch.randn(2, 4))
    assert [o.name for o in trace.operations] == ["linear", "dropout", "mul_", "sum", "view"]
    linear, dropout, multiply, summed, view = trace.operations
    assert (linear.path, dropout.path, multiply.path) == ("fc", "drop", "")
    first = Net.forward.__code__.co_firstlineno
    assert multiply.line.endswith(f"test_trace.py:{first + 2}")
    assert dropout.passes
    assert not dropout.cuts
    assert multiply.written[0] is linear.outputs[0]
    assert summed.cuts
    assert not view.cuts
    assert trace.source_of(trace.outputs) is multiply
    assert trace.producer(linear.outputs[0], multiply) is linear


def test_calls_know_when_their_output_was_overwritten():
    trace = record(Net().eval(), torch.randn(2, 4))
    fc = next(call for call in trace.calls if call.path == "fc")
    assert fc.outputs[0]._version == fc.versions[0] + 1


def test_no_line_of_the_caller_is_taken_for_the_model_s():
    trace = record(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), torch.randn(2, 4))
    assert [o.line for o in trace.operations] == ["", ""]


def test_a_failure_is_kept_with_the_line():
    class Broken(Net):
        def forward(self, x):
            return self.fc(x[:, 1:])

    trace = record(Broken(), torch.randn(2, 4))
    assert "layer fc (Linear)" in str(trace.failure)
    assert "test_trace.py" in str(trace.failure)
    assert [o.name for o in trace.operations] == ["__getitem__", "linear"]


def test_no_hook_is_left_behind():
    net = Net()
    record(net, torch.randn(2, 4))
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in net.modules())


def test_the_source_s_nodes_have_their_lines_in_the_file():
    first = Net.forward.__code__.co_firstlineno
    calls = {ast.unparse(node): line for node, line in source_of(Net.forward) if isinstance(node, ast.Call)}
    assert calls["x.mul_(2)"] == first + 2
    assert calls["x.view(-1, 3)"] == first + 5
    assert list(source_of("no function")) == []


def test_leaves_of_the_graph():
    a, b, c = (torch.ones(2, requires_grad=True) for _ in range(3))
    reached = leaves((a * b).sum() + c.detach().sum())
    assert {id(x) for x in reached} == {id(a), id(b)}
