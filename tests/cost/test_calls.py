"""Whose an operation is: nested calls, repeated ones, functions, and the backward of each."""

import dataclasses
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from modelspace.cost import Spec, anatomy
from modelspace.errors import ModelspaceError
from modelspace.trace._tracer import bytes_moved


class Rows(nn.Module):
    """A product of its own, a child called twice, and a function between."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.inner = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
        self.table = nn.Parameter(torch.zeros(6, 3))

    def forward(self, x):
        y = self.inner(F.relu(self.first(x)))
        return self.inner(y) @ self.table


def test_calls_nest_and_repeat():
    calls = anatomy(Rows(), (4,), batch_size=2).calls
    assert [(c.name, c.parent, c.repeat, c.output_shape) for c in calls] == [
        ("", None, 0, (2, 3)),
        ("first", 0, 0, (2, 6)),
        ("inner", 0, 0, (2, 6)),
        ("inner.0", 2, 0, (2, 6)),
        ("inner.1", 2, 0, (2, 6)),
        ("inner", 0, 1, (2, 6)),
        ("inner.0", 5, 1, (2, 6)),
        ("inner.1", 5, 1, (2, 6)),
    ]


def test_functions_are_operations_of_the_module_that_calls_them():
    record = anatomy(Rows(), (4,), batch_size=2)
    own = [
        (o.name, o.flops, o.output_shape) for o in record.operations if (o.call, o.phase) == (0, "forward")
    ]
    assert own == [("aten.relu", 0, (2, 6)), ("aten.mm", 2 * 2 * 6 * 3, (2, 3))]


def test_the_backward_belongs_to_the_call_whose_forward_made_it():
    calls = anatomy(Rows(), (4,), batch_size=2).calls
    product = 2 * 2 * 6 * 6
    assert [(c.name, c.backward_flops) for c in calls if c.backward_flops] == [
        ("", 2 * 2 * 2 * 6 * 3),
        ("first", 2 * 2 * 4 * 6),  # not into the batch
        ("inner.0", 2 * product),
        ("inner.0", 2 * product),
    ]


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_are_computed_again_and_the_second_time_is_not_a_call(reentrant):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(8, 8)
            self.parts = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(3))

        def forward(self, x):
            y = self.first(x)
            for part in self.parts:
                y = checkpoint(part, y, use_reentrant=reentrant)
            return y

    net = Checkpointed()
    record, product = anatomy(net, (8,), batch_size=5), 2 * 5 * 8 * 8
    assert len(record.calls) == 1 + 1 + 3 * 3
    assert record.forward_flops == 4 * product
    assert record.recomputed_flops == 3 * product
    assert record.backward_flops == product + 3 * 3 * product
    assert [c.backward_flops for c in record.calls if c.type == "Linear"][1:] == [3 * product] * 3


def test_what_is_computed_again_belongs_to_the_call_that_it_repeats():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = nn.Sequential(nn.Linear(8, 8), nn.Tanh())

        def forward(self, x):
            y = checkpoint(self.part, x, use_reentrant=False)
            return checkpoint(self.part, torch.cat([y, y, y]), use_reentrant=False)

    record, product = anatomy(Shared(), (8,), batch_size=5), 2 * 5 * 8 * 8
    # Once more, and the weight's gradient; of the second also its input's, which is three times as many rows.
    assert [c.backward_flops for c in record.calls if c.name == "part.0"] == [2 * product, 3 * 3 * product]


class Pair(NamedTuple):
    left: torch.Tensor | Spec
    right: torch.Tensor | Spec


@dataclasses.dataclass
class Batch:
    tokens: torch.Tensor | Spec
    scale: float
    rest: dict


@dataclasses.dataclass
class Output:
    value: torch.Tensor
    more: list


class Takes(nn.Module):
    def __init__(self, pick):
        super().__init__()
        self.pick = pick
        self.table, self.fc = nn.Embedding(9, 4), nn.Linear(4, 2)

    def forward(self, *args, **kwargs):
        return Output(self.fc(self.table(self.pick(*args, **kwargs))), [])


TOKENS = Spec((3, 5), torch.long)
NESTS = {
    "tensor": (lambda x: x, torch.zeros(3, 5, dtype=torch.long), {}),
    "meta tensor": (lambda x: x, torch.zeros(3, 5, dtype=torch.long, device="meta"), {}),
    "several": (lambda x, y: x + y, (TOKENS, TOKENS), {}),
    "dictionary": (lambda x: x["tokens"], {"tokens": TOKENS, "n": 3}, {}),
    "list": (lambda x: x[1], [None, TOKENS], {}),
    "named tuple": (lambda x: x.left, Pair(TOKENS, TOKENS), {}),
    "dataclass": (lambda x: x.rest["a"][0], Batch(TOKENS, 2.0, {"a": (TOKENS,)}), {}),
    "keywords": (lambda x, mask=None: x * mask, TOKENS, {"mask": TOKENS}),
}


@pytest.mark.parametrize("nest", NESTS)
def test_inputs_and_outputs_of_any_nest(nest):
    pick, inputs, keywords = NESTS[nest]
    record = anatomy(Takes(pick), inputs=inputs, kwargs=keywords)
    assert record.forward_flops == 2 * 3 * 5 * 4 * 2
    assert record.backward_flops == 2 * record.forward_flops
    assert record.calls[0].output_shapes == ((3, 5, 2),)
    assert (record.batch_size, record.input_shape) == (3, (5,))


def test_inputs_are_given_once():
    with pytest.raises(ModelspaceError, match=r"either input_shape=.* received neither"):
        anatomy(nn.Linear(2, 2))
    with pytest.raises(ModelspaceError, match="received both"):
        anatomy(nn.Linear(2, 2), (2,), inputs=Spec((1, 2)))


def saved_by_hooks(module, x):
    """Bytes of the storages that autograd saves, apart from parameters, buffers and the batch."""
    seen = {}

    def pack(tensor):
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = module(x)
    for tensor in (*module.parameters(), *module.buffers(), x):
        seen.pop(tensor.untyped_storage().data_ptr(), None)
    seen[out.untyped_storage().data_ptr()] = out.untyped_storage().nbytes()
    return sum(seen.values())


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)), (3, 8)),
        (nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.LayerNorm(16), nn.Dropout(), nn.Linear(16, 4)), (3, 8)),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2)), (2, 3, 8, 8)),
        (nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), (2, 5, 16)),
    ],
    ids=["mlp", "norms", "conv", "encoder"],
)  # fmt: skip
def test_bytes_saved_are_those_that_autograd_s_hooks_see(module, shape):
    # The record counts the output too, which stays alive though no one may need it.
    record = anatomy(module, shape[1:], batch_size=shape[0])
    assert record.saved_bytes == saved_by_hooks(module, torch.randn(shape))
    assert sum(call.saved_bytes for call in record.calls) == record.saved_bytes


class Loops(nn.Module):
    """It goes on until a value says stop."""

    def __init__(self, width=4):
        super().__init__()
        self.fc = nn.Linear(width, width)

    def forward(self, x):
        while float(x.abs().sum()) > 1e9:
            x = x / 2
        return self.fc(x)[x[:, 0].nonzero().flatten().new_zeros(1)]


def test_values_are_computed_where_they_are_needed_and_the_module_is_small():
    record = anatomy(Loops(), (4,), batch_size=3)
    assert (record.device, record.forward_flops) == ("cpu", 2 * 3 * 16)


def test_values_of_a_large_module_are_refused():
    with torch.device("meta"):
        net = Loops(10**5)
    message = (
        r"Loops can't be measured by shapes alone \(its forward reads values\).* 40,000,400,000 bytes .*too large"
        r".*at line \d+ of .*while float"
    )
    with pytest.raises(ModelspaceError, match=message):
        anatomy(net, (10**5,))


def test_bytes_moved_of_a_product():
    record = anatomy(nn.Linear(8, 4, bias=False), (8,), batch_size=3)
    assert record.calls[0].bytes == record.forward_bytes == 4 * (3 * 8 + 8 * 4 + 3 * 4)
    assert record.calls[0].intensity == 2 * 3 * 8 * 4 / record.forward_bytes


def test_bytes_moved_count_an_expanded_tensor_once_and_a_table_by_its_rows():
    wide = torch.zeros(5, 1).expand(5, 100)
    made = torch.zeros(5, 100)
    assert bytes_moved(torch.ops.aten.mul.Tensor, [wide, made], [made]) == 4 * (5 + 500 + 500)
    assert bytes_moved(torch.ops.aten.t.default, [made], [made.t()]) == 0
    table, rows = torch.zeros(1000, 8), torch.zeros(3, dtype=torch.long)
    assert (
        bytes_moved(torch.ops.aten.embedding.default, [table, rows], [table[rows]]) == 2 * 4 * 3 * 8 + 8 * 3
    )
