import pytest
import torch
from support.cases import DummyNet
from torch import nn

from modelspace.cost import anatomy
from modelspace.errors import ModelspaceError
from modelspace.trace import forward_checked


class Calls(nn.Module):
    """A module whose forward is the given function of itself and the input."""

    def __init__(self, function, **children):
        super().__init__()
        self.function = function
        for name, child in children.items():
            setattr(self, name, child)

    def forward(self, x):
        return self.function(self, x)


def rnn(layer):
    return Calls(lambda self, x: self.rnn(x)[0], rnn=layer)


FAILURES = {
    "linear": (
        nn.Sequential(nn.Flatten(), nn.Linear(225, 10)),
        torch.zeros(1, 1, 10, 10),
        r"layer 1 \(Linear\) received \[1, 100\]: it expects the last dimension to be 225, and it is 100; "
        r"the model was given inputs of shape 1×1×10×10$",
    ),
    "channels": (
        DummyNet(),
        torch.zeros(2, 1, 7, 7),
        r"layer conv1 \(Conv2d\) received \[2, 1, 7, 7\]: it expects \[batch, 3 channels, height, width\], "
        r"and there are 1 channels; .* 2×1×7×7$",
    ),
    "conv dimensions": (
        DummyNet(),
        torch.zeros(2, 147),
        r"expects 4 dimensions, \[batch, 3 .*, and there are 2",
    ),
    "kernel": (
        DummyNet(),
        torch.zeros(1, 3, 2, 2),
        r"layer conv1 \(Conv2d\) failed on \[1, 3, 2, 2\]: .*[Kk]ernel",
    ),
    "view": (
        DummyNet(),
        torch.zeros(1, 3, 8, 8),
        r"^in DummyNet\.forward, after relu: shape '\[-1, 225\]' is invalid .*; .* 1×3×8×8$",
    ),
    "nested view": (
        nn.Sequential(nn.Identity(), DummyNet()),
        torch.zeros(1, 3, 8, 8),
        r"^in DummyNet\.forward \(layer 1\), after 1\.relu: shape",
    ),
    "batchnorm": (nn.BatchNorm2d(4), torch.zeros(2, 3, 5, 5), r"\(BatchNorm2d\) .*4 features .* there are 3"),
    "batchnorm of one": (nn.BatchNorm1d(4), torch.zeros(1, 4), "a batch of two or more"),
    "layernorm": (nn.LayerNorm(4), torch.zeros(2, 3), r"the last dimensions to be \[4\]"),
    "groupnorm": (nn.GroupNorm(2, 4), torch.zeros(2, 6, 5), "4 channels in dimension 1"),
    "embedding dtype": (nn.Embedding(9, 4), torch.zeros(2, 3), r"integer indices below 9, .* torch\.float32"),
    "embedding range": (
        nn.Embedding(9, 4),
        torch.tensor([[3, 12]]),
        "indices below 9, and the largest is 12",
    ),
    "recurrent features": (
        rnn(nn.LSTM(8, 4)),
        torch.zeros(5, 2, 7),
        r"layer rnn \(LSTM\) .*be 8, and it is 7",
    ),
    "recurrent dimensions": (
        rnn(nn.GRU(8, 4, batch_first=True)),
        torch.zeros(8),
        r"\[batch, time, 8 features\], and there are 1",
    ),
    "dtype": (
        nn.Linear(3, 3),
        torch.zeros(2, 3, dtype=torch.float64),
        r"dtype torch\.float32.*torch\.float64",
    ),
    "scalar": (nn.Linear(3, 3), torch.tensor(1.0), r"received \[\]: .*be 3; .* a scalar$"),
    "other errors": (Calls(lambda self, x: x["image"]), torch.zeros(2), r"in Calls\.forward: \w+Error"),
    "no forward": (nn.Module(), torch.zeros(2), "missing the required"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_names_the_layer_what_it_got_and_what_it_expects(failure):
    module, inputs, message = FAILURES[failure]
    with pytest.raises(ModelspaceError, match=message) as caught:
        forward_checked(module, inputs)
    assert caught.value.__cause__ is not None
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in module.modules())


@pytest.mark.parametrize("failure", ["linear", "channels", "view", "batchnorm"])
def test_the_meta_device_fails_the_same_way(failure):
    module, inputs, message = FAILURES[failure]
    with pytest.raises(ModelspaceError, match=message):
        forward_checked(Calls(lambda self, x: self.net(x), net=module).net.to("meta"), inputs.to("meta"))


def test_attention_s_width():
    module = Calls(lambda self, x: self.attention(x, x, x)[0], attention=nn.MultiheadAttention(8, 2))
    with pytest.raises(ModelspaceError, match=r"attention \(MultiheadAttention\) .*last dimension to be 8"):
        forward_checked(module, torch.zeros(5, 1, 6))


def test_a_caught_failure_is_forgotten():
    def forward(self, x):
        try:
            self.first(x)
        except RuntimeError:
            return self.second(x)

    module = Calls(forward, first=nn.Linear(3, 3), second=nn.Linear(4, 4))
    assert forward_checked(module, torch.zeros(1, 4)).shape == (1, 4)
    module = Calls(forward, first=nn.Linear(3, 3), second=nn.Linear(5, 5))
    with pytest.raises(ModelspaceError, match=r"layer second \(Linear\)"):
        forward_checked(module, torch.zeros(1, 4))
    module = Calls(lambda self, x: forward(self, x).view(3, 5), first=nn.Linear(3, 3), second=nn.Linear(4, 4))
    with pytest.raises(ModelspaceError, match=r"^in Calls\.forward, after second: shape '\[3, 5\]'"):
        forward_checked(module, torch.zeros(1, 4))


def test_the_outputs_are_the_module_s_own():
    torch.manual_seed(0)
    net, x = DummyNet(), torch.rand(4, 3, 7, 7)
    assert torch.equal(forward_checked(net, x), net(x))


class Deep(nn.Module):
    """A product of its own, three levels down, whose shapes do not meet."""

    def __init__(self, function):
        super().__init__()
        self.function, self.weight = function, nn.Parameter(torch.zeros(7, 5))

    def forward(self, x):
        return self.function(x, self.weight)


@pytest.mark.parametrize(
    ("function", "operation", "shapes"),
    [
        (lambda x, w: x @ w, "aten.mm", r"\[2, 4\] and \[7, 5\]"),
        (lambda x, w: x + w, "aten.add", r"\[2, 4\] and \[7, 5\]"),
        (lambda x, w: torch.cat([x, w]), "aten.cat", r"\[2, 4\] and \[7, 5\]"),
    ],
    ids=["product", "sum", "concatenation"],
)
@pytest.mark.parametrize("values", [True, False], ids=["real", "fake"])
def test_a_mismatch_deep_inside_names_module_operation_shapes_and_line(function, operation, shapes, values):
    net = nn.ModuleDict({"blocks": nn.Sequential(nn.Identity(), nn.Sequential(nn.Tanh(), Deep(function)))})
    module = Calls(lambda self, x: self.net["blocks"](x), net=net)
    line = function.__code__.co_firstlineno
    message = (
        rf"layer net\.blocks\.1\.1 \(Deep\) failed on \[2, 4\]: .*\({operation} of {shapes}\)"
        rf"; at line {line} of tests/trace/test_forward\.py: \(lambda x, w: .*; the model was given .* 2×4$"
    )
    run = (
        (lambda: forward_checked(module, torch.zeros(2, 4)))
        if values
        else (lambda: anatomy(module, (4,), batch_size=2))
    )
    with pytest.raises(ModelspaceError, match=message):
        run()
