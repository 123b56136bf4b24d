import copy
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cases import DummyNet
from torch import nn

from modelspace.cost import anatomy
from modelspace.errors import ModelspaceError


class Block(nn.Module):
    """Pre-norm attention without a module of its own, so that its products belong to this block."""

    def __init__(self, width: int):
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        return x + self.out((q @ k.transpose(-1, -2)).softmax(-1) @ v)


class LanguageModel(nn.Module):
    """A token and a position table, one block, and a head tied to the token table, as GPT-2's is."""

    def __init__(self, vocabulary: int = 50, width: int = 8, length: int = 6):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.zeros(length, width))
        self.block = Block(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, x):
        return self.head(self.block(self.tokens(x) + self.positions))


class ReadsValues(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.fc(x)) if x.sum().item() != 0 else x


@pytest.mark.parametrize("batch", [1, 32])
def test_dummynet(batch):
    record = anatomy(DummyNet(), (3, 7, 7), batch_size=batch)
    conv, fc = batch * 2 * 9 * 27 * 25, batch * 2 * 225 * 10
    rows = [(r.name, r.type, r.parameters, r.output_shape, r.flops, r.backward_flops) for r in record.layers]
    assert rows == [
        ("conv1", "Conv2d", 252, (batch, 9, 5, 5), conv, conv),
        ("relu", "ReLU", 0, (batch, 9, 5, 5), 0, 0),
        ("fc", "Linear", 2260, (batch, 10), fc, 2 * fc),
    ]
    assert sum(layer.parameters for layer in record.layers) == 2512
    assert record.forward_flops == conv + fc
    assert record.backward_flops == conv + 2 * fc  # no gradient into the images
    assert record.uncounted == {"aten.relu_": 1, "aten.sum": 1, "aten.threshold_backward": 1}
    assert (record.batch_size, record.input_shape, record.device) == (batch, (3, 7, 7), "fake")


@given(st.lists(st.integers(1, 40), min_size=2, max_size=5), st.integers(2, 9))
@settings(max_examples=25, deadline=None)
def test_mlp_by_closed_form(widths, batch):
    pairs = list(pairwise(widths))
    record = anatomy(nn.Sequential(*(nn.Linear(a, b) for a, b in pairs)), (widths[0],), batch_size=batch)
    products = [2 * batch * a * b for a, b in pairs]
    assert [layer.flops for layer in record.layers] == products
    assert [layer.parameters for layer in record.layers] == [a * b + b for a, b in pairs]
    assert record.forward_flops == sum(products)
    assert record.backward_flops == 2 * sum(products) - products[0]


def test_transformer_with_a_tied_table():
    v, d, t, b = 50, 8, 6, 3
    record = anatomy(LanguageModel(v, d, t), (t,), batch_size=b, input_dtype=torch.int64)
    rows = {layer.name: layer for layer in record.layers}
    assert list(rows) == ["", "tokens", "block", "block.norm", "block.qkv", "block.out", "head"]
    attention = 2 * (2 * b * t * t * d)
    assert rows[""].parameters == t * d
    assert (rows["tokens"].parameters, rows["head"].parameters) == (v * d, 0)
    assert (rows["block"].parameters, rows["block"].flops) == (0, attention)
    assert sum(layer.parameters for layer in record.layers) == v * d + t * d + 2 * d + 4 * d * d + 4 * d
    products = 2 * b * t * (3 * d * d + d * d + v * d)
    assert record.forward_flops == attention + products
    assert record.backward_flops == 2 * record.forward_flops
    assert {"aten.embedding", "aten.native_layer_norm", "aten._softmax", "aten.add"} <= set(record.uncounted)


def test_torch_s_own_encoder_layer_adds_up():
    d, h, t = 16, 32, 5
    layer = nn.TransformerEncoderLayer(d, 2, h, batch_first=True)
    record = anatomy(layer, (t, d))
    assert sum(row.parameters for row in record.layers) == sum(p.numel() for p in layer.parameters())
    assert record.forward_flops == 2 * t * (4 * d * d + 2 * d * h) + 4 * t * t * d
    assert sum(row.flops for row in record.layers) == record.forward_flops


def test_frozen_parameters_get_no_gradient():
    net = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 4))
    net[0].requires_grad_(False)
    record = anatomy(net, (8,))
    assert [layer.parameters for layer in record.layers] == [144, 68]
    assert record.backward_flops == 2 * 16 * 4
    assert anatomy(net.requires_grad_(False), (8,)).backward_flops == 0


def test_a_layer_called_twice_has_two_rows_and_its_parameters_once():
    shared = nn.Linear(4, 4)
    record = anatomy(nn.Sequential(shared, nn.ReLU(), shared), (4,))
    assert [(layer.type, layer.parameters, layer.flops) for layer in record.layers] == [
        ("Linear", 20, 32),
        ("ReLU", 0, 0),
        ("Linear", 0, 32),
    ]


def test_a_failure_that_the_forward_catches_leaves_the_rows_right():
    class Tries(nn.Module):
        def __init__(self):
            super().__init__()
            self.wrong, self.right = nn.Linear(3, 3), nn.Linear(4, 4)

        def forward(self, x):
            try:
                return self.wrong(x)
            except RuntimeError:
                return self.right(self.right(x)) @ self.right.weight

    rows = [(layer.name, layer.flops) for layer in anatomy(Tries(), (4,)).layers]
    assert rows == [("", 32), ("wrong", 0), ("right", 32), ("right", 32)]


def test_products_that_torch_s_counter_lacks_are_counted():
    class Vectors(nn.Module):
        def __init__(self):
            super().__init__()
            self.matrix = nn.Parameter(torch.zeros(3, 4))
            self.vector = nn.Parameter(torch.zeros(3))

        def forward(self, x):
            return torch.dot(torch.mv(self.matrix, x[0]), self.vector)

    record = anatomy(Vectors(), (4,))
    assert record.forward_flops == 2 * 3 * 4 + 2 * 3


def test_attention_costs_the_same_with_and_without_values():
    class Attends(nn.Module):
        def __init__(self, reads: bool):
            super().__init__()
            self.reads = reads
            self.qkv = nn.Linear(8, 24)

        def forward(self, x):
            if self.reads:
                x.sum().item()
            q, k, v = self.qkv(x).unsqueeze(1).chunk(3, -1)
            return F.scaled_dot_product_attention(q, k, v)

    real, fake = anatomy(Attends(True), (6, 8)), anatomy(Attends(False), (6, 8))
    assert (real.device, fake.device) == ("cpu", "fake")
    assert real.forward_flops == fake.forward_flops == 2 * 6 * 8 * 24 + 4 * 6 * 6 * 8


@pytest.mark.parametrize(("width", "batch"), [(64, 4), (32, 16)])
def test_peak_of_a_linear_chain_by_closed_form(width, batch):
    # When the first weight's gradient is born: two weights and their gradients, the input, the output, the
    # gradient of the hidden layer; the hidden layer itself is gone. One scalar: the gradient of the sum.
    net = nn.Sequential(nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False))
    elements = 4 * width * width + 3 * batch * width + 1
    assert anatomy(net, (width,), batch_size=batch).peak_bytes == 4 * elements
    assert (
        anatomy(net.double(), (width,), batch_size=batch, input_dtype=torch.float64).peak_bytes
        == 8 * elements
    )


def test_peak_without_gradients_is_the_forward_s():
    net = nn.Linear(64, 64, bias=False).requires_grad_(False)
    assert anatomy(net, (64,), batch_size=4).peak_bytes == 4 * (64 * 64 + 2 * 4 * 64)


@pytest.mark.parametrize("module", [ReadsValues(), ReadsValues().to("meta")])
def test_a_forward_that_reads_values_runs_on_the_cpu(module):
    state = torch.get_rng_state()
    record = anatomy(module, (4,), batch_size=2)
    assert (record.device, record.forward_flops) == ("cpu", 2 * 2 * 4 * 4)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_module_stays_as_it_was():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    before = copy.deepcopy(module.state_dict())
    anatomy(module, (3, 8, 8), batch_size=2)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert all(p.grad is None and not p.is_meta for p in module.parameters())
    assert not any(layer._forward_hooks for layer in module.modules())


def test_a_meta_module_of_any_size_costs_nothing():
    with torch.device("meta"):
        net = nn.Sequential(nn.Linear(10**6, 10**6, bias=False))
    assert anatomy(net, (10**6,)).forward_flops == 2 * 10**12


def test_a_tensor_that_is_no_buffer_comes_along():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.ones(4)
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(x) * self.scale

    assert anatomy(Scaled(), (4,)).device == "fake"


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (
            DummyNet(),
            (1, 7, 7),
            r"layer conv1 \(Conv2d\) received \[1, 1, 7, 7\]: it expects \[batch, 3 channels",
        ),
        (DummyNet(), (3, 8, 8), r"in DummyNet\.forward, after relu: shape '\[-1, 225\]'"),
        (nn.BatchNorm1d(4), (4,), "a batch of two or more"),
        (nn.Embedding(9, 4), (3,), "integer indices below 9"),
    ],
)
def test_a_failing_forward_names_the_layer(module, shape, message):
    with pytest.raises(ModelspaceError, match=message):
        anatomy(module, shape)


def test_what_can_t_be_measured_is_refused():
    with pytest.raises(ModelspaceError, match=r"lazy parameters without a shape \(weight, bias\)"):
        anatomy(nn.LazyLinear(3), (4,))
    with pytest.raises(ModelspaceError, match="batch_size is 0"):
        anatomy(nn.Linear(4, 4), (4,), batch_size=0)

    class Overwrites(nn.Linear):
        def forward(self, x):
            return super().forward(x).exp().add_(1)

    with pytest.raises(ModelspaceError, match=r"the backward of Overwrites failed: .*inplace operation"):
        anatomy(Overwrites(4, 4), (4,))
