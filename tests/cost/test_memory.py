"""The peak of a step against the allocator's own events, and in closed form."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from cost import published
from cost.allocator import measured_gpu_peak, measured_inference_peak, measured_peak
from torch import nn
from torch.utils.checkpoint import checkpoint

import modelspace as ms
from modelspace.cost import (
    Spec,
    inference_memory,
    largest_batch,
    largest_population,
    training_memory,
    update_memory,
)
from modelspace.errors import ModelspaceError

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "nadam": torch.optim.NAdam,
    "adagrad": torch.optim.Adagrad,
}


class Deep(nn.Module):
    def __init__(self, again):
        super().__init__()
        self.again = again
        self.parts = nn.ModuleList(
            nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64)) for _ in range(6)
        )

    def forward(self, x):
        for part in self.parts:
            x = checkpoint(part, x, use_reentrant=False) if self.again else part(x)
        return x


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(64, 64, 2)

    def forward(self, x):
        return self.rnn(x)[0]


class Pair(nn.Module):
    """Tokens and a context of numbers, which may come by keyword."""

    def __init__(self):
        super().__init__()
        self.tokens, self.mix, self.head = nn.Embedding(50, 32), nn.Linear(8, 32), nn.Linear(32, 50)

    def forward(self, tokens, context):
        return self.head(self.tokens(tokens) + self.mix(context)[:, None])


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.parts = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
        )

    def forward(self, x):
        return F.relu(x + self.parts(x))


def mlp(*widths, between=nn.ReLU):
    pairs = [(nn.Linear(a, b), between()) for a, b in pairwise(widths)]
    return nn.Sequential(*(layer for pair in pairs for layer in pair))


def small_gpt():
    return published.GPT(vocabulary=500, length=32, width=64, depth=2, heads=4)


def tokens():
    return torch.randint(500, (8, 32))


EXACT = {
    "mlp": (lambda: mlp(256, 512, 256, 10), lambda: torch.randn(64, 256)),
    "wide batch": (lambda: mlp(32, 64, 32), lambda: torch.randn(2000, 32)),
    "checkpointed": (lambda: Deep(True), lambda: torch.randn(512, 64)),
    "gpt": (small_gpt, tokens),
    "silu": (lambda: mlp(128, 256, 128, between=nn.SiLU), lambda: torch.randn(300, 128)),
}
MORE = {
    "not checkpointed": (lambda: Deep(False), lambda: torch.randn(512, 64)),
    "tanh": (lambda: mlp(128, 256, 128, between=nn.Tanh), lambda: torch.randn(300, 128)),
    "dropout": (lambda: nn.Sequential(mlp(128, 256), nn.Dropout(), mlp(256, 8)), lambda: torch.randn(300, 128)),
    "layer norm": (lambda: nn.Sequential(mlp(128, 256), nn.LayerNorm(256)), lambda: torch.randn(300, 128)),
    "batch norm": (lambda: nn.Sequential(mlp(128, 256), nn.BatchNorm1d(256)), lambda: torch.randn(300, 128)),
    "group norm": (lambda: nn.Sequential(mlp(128, 256), nn.GroupNorm(8, 256)), lambda: torch.randn(300, 128)),
    "rms norm": (lambda: nn.Sequential(mlp(128, 256), nn.RMSNorm(256)), lambda: torch.randn(300, 128)),
    "embedding": (lambda: nn.Sequential(nn.Embedding(500, 64), mlp(64, 64)), tokens),
    "encoder layer": (lambda: nn.TransformerEncoderLayer(64, 4, 256), lambda: torch.randn(32, 8, 64)),
    "decoder block": (lambda: published.GPTBlock(64, 4), lambda: torch.randn(8, 32, 64)),
    "llama block": (lambda: published.LlamaBlock(64, 172, 4, 2), lambda: torch.randn(8, 32, 64)),
    "gru cell": (lambda: nn.GRUCell(64, 64), lambda: torch.randn(500, 64)),
    "softmax": (lambda: nn.Sequential(mlp(64, 512), nn.Softmax(-1)), lambda: torch.randn(300, 64)),
    "frozen": (lambda: nn.Sequential(mlp(64, 512).requires_grad_(False), mlp(512, 8)), lambda: torch.randn(99, 64)),
    "pool": (lambda: nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), mlp(192, 64)), lambda: torch.randn(50, 3, 16, 16)),
}  # fmt: skip


def square(outputs):
    return outputs.float().pow(2).mean()


def agrees(make, sample, optimizer, precision="32", autocast=None):
    inputs, module = sample(), make()
    found = training_memory(module, inputs=inputs, optimizer=optimizer, precision=precision, loss=square)
    truth = measured_peak(module, inputs, OPTIMIZERS[optimizer], square, autocast)
    assert found.unknown == ()
    assert found.peak_bytes == pytest.approx(truth, rel=0.01)
    assert sum(found.by_kind.values()) == sum(found.by_module.values()) == found.peak_bytes


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "nadam", "adagrad"])
@pytest.mark.parametrize("name", EXACT)
def test_the_peak_is_the_allocator_s_within_a_hundredth(name, optimizer):
    agrees(*EXACT[name], optimizer)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop"])
@pytest.mark.parametrize("name", MORE)
def test_the_peak_of_more_architectures(name, optimizer):
    agrees(*MORE[name], optimizer)


# Where a GPU's kernels keep what a CPU's do. Of the others docs/anatomy.md says how they differ.
ON_A_GPU = {
    **{name: EXACT[name] for name in ("mlp", "wide batch", "gpt", "silu")},
    **{
        name: MORE[name]
        for name in ("layer norm", "batch norm", "group norm", "llama block", "softmax", "frozen")
    },
}


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("name", ON_A_GPU)
def test_the_peak_on_a_gpu(name, optimizer):
    make, sample = ON_A_GPU[name]
    module, inputs = make(), sample()
    kind, settings = {
        "sgd": (torch.optim.SGD, {"lr": 0.1}),
        "momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
        "adam": (torch.optim.Adam, {}),
    }[optimizer]

    def one_tensor_at_a_time(parameters):
        return kind(parameters, foreach=False, **settings)

    found = training_memory(module, inputs=inputs, optimizer=one_tensor_at_a_time, loss=square)
    truth = measured_gpu_peak(module.cuda(), inputs.cuda(), one_tensor_at_a_time, square)
    assert found.peak_bytes == pytest.approx(truth, rel=0.01)


def test_mixed_precision_is_the_allocator_s_within_a_hundredth():
    agrees(*EXACT["mlp"], "momentum", "bf16-mixed", torch.bfloat16)


@pytest.mark.parametrize(
    ("make", "shape", "operation"),
    [
        (lambda: nn.Sequential(Residual(16), Residual(16)), (8, 16, 16, 16), "aten.convolution_backward"),
        (Recurrent, (20, 16, 64), "aten.mkldnn_rnn_layer"),
    ],
    ids=["convolution", "recurrence"],
)
def test_kernels_with_memory_of_their_own_are_named_and_the_rest_is_a_lower_bound(make, shape, operation):
    module, inputs = make(), torch.randn(shape)
    found = training_memory(module, inputs=inputs, optimizer="sgd", loss=square)
    assert operation in found.unknown
    assert found.peak_bytes <= 1.001 * measured_peak(module, inputs, OPTIMIZERS["sgd"], square)


@pytest.mark.parametrize("name", ["mlp", "wide batch", "gpt"])
def test_the_peak_of_inference(name):
    make, sample = EXACT[name]
    module, inputs = make().eval(), sample()
    found = inference_memory(module, inputs=inputs)
    assert found.peak_bytes == pytest.approx(measured_inference_peak(module, inputs), rel=0.01)
    assert found.phase == "forward"


def test_kinds_in_closed_form():
    n, batch = 512 * 512, 4
    net = nn.Sequential(nn.Linear(512, 512, bias=False), nn.Linear(512, 512, bias=False))
    found = training_memory(net, (512,), batch_size=batch, optimizer="adam")
    # At the peak Adam takes one tensor's square root and its quotient, and still has the last one's. The steps'
    # numbers are two scalars.
    assert found.phase == "update"
    assert found.by_kind == {
        "parameters": 8 * n,
        "gradients": 8 * n,
        "optimizer state": 16 * n + 8,
        "inputs": 4 * 512 * batch,
        "activations": 4 * 512 * batch,
        "temporaries": 12 * n,
    }
    assert found.by_module["0"] == 8 * n
    assert found.by_module["1"] == 8 * n + 4 * 512 * batch


@pytest.mark.parametrize(
    ("precision", "size"), [(64, 8), ("32", 4), ("tf32", 4), ("bf16-true", 2), ("16-true", 2)]
)
def test_precision_scales_everything(precision, size):
    found = training_memory(nn.Linear(64, 64, bias=False), (64,), optimizer="sgd", precision=precision)
    assert found.by_kind["parameters"] == found.by_kind["gradients"] == size * 64 * 64


def test_checkpointing_saves_activations():
    plain, again = (
        training_memory(Deep(flag), (64,), batch_size=512, optimizer="sgd").peak_bytes
        for flag in (False, True)
    )
    assert again < 0.6 * plain


@pytest.mark.parametrize(
    "optimizer", [ms.SGD(), ms.Adam(), ms.AdamW(), ms.RMSprop()], ids=lambda o: type(o).__name__
)
def test_an_optimizer_of_this_library(optimizer):
    net, n = nn.Linear(512, 512, bias=False), 512 * 512
    found = training_memory(net, (512,), optimizer=optimizer)
    states = len(optimizer.init(torch.zeros(1, 1)))
    assert found.by_kind["optimizer state"] == 4 * n * states
    # New points and a new state are made beside the old ones.
    assert found.phase == "update"
    assert found.by_kind["temporaries"] >= 4 * n * (1 + states)


def test_the_matrices_of_an_update_by_hand():
    """SGD: the decayed gradient, the old buffer scaled, the new one; then gradient, buffer and new points."""
    coefficients = ("weight_decay", "momentum", "share", "lr")
    state, most = update_memory(ms.SGD(), torch.empty(3, 1000, device="meta"), coefficients)
    assert state == 3 * 4000
    assert most == pytest.approx(3 * 3 * 4000, rel=0.01)


def test_a_fused_update_takes_more():
    net = mlp(64, 64, 64, 64)
    one, all_at_once = (
        training_memory(net, (64,), optimizer=lambda p, f=flag: torch.optim.Adam(p, foreach=f)).peak_bytes
        for flag in (False, True)
    )
    assert all_at_once > one


@pytest.mark.parametrize("memory", [2 * 10**6, 10**7, 123_456_789])
def test_the_largest_batch_fits_and_one_more_does_not(memory):
    net = mlp(100, 200, 10)

    def peak(batch):
        return training_memory(net, (100,), batch_size=batch, optimizer="momentum").peak_bytes

    found = largest_batch(net, memory, (100,), optimizer="momentum")
    assert found.peak_bytes == peak(found.batch_size) <= memory
    assert memory < found.next_peak_bytes == peak(found.batch_size + 1)
    assert found.traces < 25


def of_two_inputs(batch):
    return torch.zeros(batch, 16, dtype=torch.long), torch.zeros(batch, 8)


class Named(nn.Module):
    """The same two in one dictionary."""

    def __init__(self):
        super().__init__()
        self.pair = Pair()

    def forward(self, batch):
        return self.pair(**batch)


@pytest.mark.parametrize(
    ("module", "inputs", "kwargs"),
    [
        (Pair(), of_two_inputs, None),
        (Pair(), lambda b: of_two_inputs(b)[0], lambda b: {"context": of_two_inputs(b)[1]}),
        (Pair(), lambda b: (), lambda b: {"tokens": Spec((b, 16), torch.long), "context": Spec((b, 8))}),
        (Named(), lambda b: dict(zip(("tokens", "context"), of_two_inputs(b), strict=True)), None),
    ],
    ids=["two positions", "one by keyword", "both by keyword", "a dictionary"],
)
def test_the_largest_batch_of_two_inputs_fits_and_one_more_does_not(module, inputs, kwargs):
    memory = 10**6

    def peak(batch):
        return training_memory(
            module, inputs=inputs(batch), kwargs=None if kwargs is None else kwargs(batch)
        ).peak_bytes

    found = largest_batch(module, memory, inputs=inputs, kwargs=kwargs)
    assert found.batch_size > 10
    assert found.peak_bytes == peak(found.batch_size) <= memory
    assert memory < found.next_peak_bytes == peak(found.batch_size + 1)


def test_the_largest_batch_needs_functions_that_run():
    with pytest.raises(
        ModelspaceError, match=r"inputs is a tuple, which has one size: the largest batch of Pair"
    ):
        largest_batch(Pair(), 10**6, inputs=of_two_inputs(1))
    with pytest.raises(ModelspaceError, match=r"kwargs is a dict, .* kwargs=lambda size: …"):
        largest_batch(Pair(), 10**6, inputs=of_two_inputs, kwargs={"context": 1})
    with pytest.raises(ModelspaceError, match=r"inputs\(1\) failed: ZeroDivisionError"):
        largest_batch(Pair(), 10**6, inputs=lambda size: size / 0)
    with pytest.raises(ModelspaceError, match="received neither"):
        largest_batch(Pair(), 10**6)
    with pytest.raises(ModelspaceError, match="received both"):
        largest_batch(Pair(), 10**6, (16,), inputs=of_two_inputs)


def test_the_largest_batch_begins_at_two_where_one_is_refused():
    assert largest_batch(nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)), 10**5, (8,)).batch_size > 2


def test_the_largest_shard_is_the_last_that_fits():
    net, memory = mlp(100, 200, 10), 10**8
    found = largest_population(net, memory, (100,), optimizer=ms.Adam(), batch_size=32)
    assert found.shared_bytes == 4 * 32 * 100
    assert found.shared_bytes + found.members * found.member_bytes <= memory
    assert found.shared_bytes + (found.members + 1) * found.member_bytes > memory


def test_what_can_t_be_measured_is_refused():
    net = nn.Linear(8, 8)
    with pytest.raises(ModelspaceError, match="unknown optimizer 'adamm': did you mean 'adam'"):
        training_memory(net, (8,), optimizer="adamm")
    with pytest.raises(ModelspaceError, match=r"an optimizer is one of sgd, .*; received int"):
        training_memory(net, (8,), optimizer=3)
    with pytest.raises(ModelspaceError, match="unknown precision 'half'"):
        training_memory(net, (8,), precision="half")
    with pytest.raises(ModelspaceError, match=r"on 1 sample takes [\d,]+ bytes and 10 are given"):
        largest_batch(net, 10, (8,))
    with pytest.raises(ModelspaceError, match=r"one member of Linear takes [\d,]+ bytes .* 10 are given"):
        largest_population(net, 10, (8,))
    with pytest.raises(ModelspaceError, match=r"the loss failed on the outputs: .*tuple"):
        training_memory(nn.LSTM(8, 8), (3, 8), loss=lambda y: y.sum())
