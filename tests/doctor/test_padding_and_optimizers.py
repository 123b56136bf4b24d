"""What looks like an ignored mask, a mistaken batch_first or a wrong optimizer, and is none; and what is one."""

import pytest
import torch
from doctor.ailments.masks import DeafReader, Reader, words
from doctor.ailments.optimizers import Body
from torch import nn

import modelspace as ms
from modelspace.data import Data, Split


class Scores(nn.Module):
    """Attention without an output projection; each of its children reads its mask otherwise."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(4, 8), nn.Linear(8, 3)

    def attended(self, x, change=lambda scores: scores):
        x = self.embed(x)
        return self.head(change(x @ x.transpose(1, 2) / 8**0.5).softmax(-1) @ x)


class Added(Scores):
    """``mask`` is 0 or far below, and added to the scores: [N, 1, T]."""

    def forward(self, x, mask=None):
        return self.attended(x, lambda scores: scores if mask is None else scores + mask)


class ByHead(Scores):
    """``src_mask`` is [N, 1, 1, T], as the annotated transformer has it."""

    def forward(self, x, src_mask=None):
        return self.attended(x, lambda s: s if src_mask is None else s.masked_fill(src_mask[:, 0] == 0, -1e9))


class Packed(nn.Module):
    """Lengths are counted from the mask, and the longest comes first."""

    def __init__(self):
        super().__init__()
        self.gru, self.head = nn.GRU(4, 8, batch_first=True, bidirectional=True), nn.Linear(16, 3)

    def forward(self, x, mask=None):
        lengths = torch.full((len(x),), x.shape[1]) if mask is None else mask.sum(1).long().cpu()
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        return self.head(self.gru(packed)[1].transpose(0, 1).flatten(1))


class Convolved(nn.Module):
    """Padding is made zero before each convolution."""

    before = True

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv1d(4, 8, 3, padding=1), nn.Conv1d(8, 3, 3, padding=1)

    def forward(self, x, mask=None):
        mask = 1.0 if mask is None else mask[:, None].to(x.dtype)
        x = x.transpose(1, 2)
        if self.before:
            return self.last(torch.relu(self.first(x * mask)) * mask)
        return self.last(torch.relu(self.first(x))) * mask


class ConvolvedThenMasked(Convolved):
    """The outputs are masked, and their neighbours have seen the padding."""

    before = False


class Hidden(Scores):
    """A masked autoencoder: what is masked is to be told, and is replaced by a token."""

    def forward(self, x, mask=None):
        return self.attended(x if mask is None else torch.where(mask[..., None].bool(), 0.1, x))


class Causal(nn.Module):
    """``mask`` says who looks at whom, [T, T]: nothing is known of padding."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True)

    def forward(self, x, mask=None):
        return self.layer(x, src_mask=mask)


class Actions(nn.Module):
    """Scores of actions, as many as there are features; the mask forbids some."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(7, 7)

    def forward(self, x, mask=None):
        return self.fc(x) if mask is None else self.fc(x).masked_fill(~mask, -1e9)


@pytest.mark.parametrize(
    ("net", "shape", "severity"),
    [
        *((net, (7, 4), None) for net in (Added, ByHead, Packed, Convolved, Hidden, Causal)),
        (Packed, (5, 4), None),  # as long as a probe's batch
        (Causal, (5, 4), None),
        (Actions, (7,), None),
        (ConvolvedThenMasked, (7, 4), "warning"),
    ],
)
def test_a_mask_is_read_in_each_of_its_codings(net, shape, severity):
    found = ms.doctor(net, inputs=shape, only=["ignored-mask"])
    assert [f.severity for f in found.findings] == ([severity] if severity else []), str(found)
    assert not any(" failed: " in why for why in found.skipped.values())


def test_the_data_s_own_mask_is_read():
    assert ms.doctor(Reader, data=words(), only=["ignored-mask"]).checked == ("ignored-mask",)
    assert ms.doctor(Reader, data=words(), only=["ignored-mask"]).healthy
    (seen,) = ms.doctor(DeafReader, data=words(), only=["ignored-mask"]).findings
    assert "that attention_mask hides" in seen.evidence
    assert "the same whatever the mask says" in seen.evidence
    assert seen.severity == "error"


def test_data_that_hides_nothing_tells_nothing():
    full = [
        Split({**part.inputs, "attention_mask": torch.ones_like(part.inputs["attention_mask"])}, part.labels)
        for part in (words().train, words().validation, words().test)
    ]
    found = ms.doctor(DeafReader, data=Data("full", *full), only=["ignored-mask"])
    assert "no mask of padding" in found.skipped["ignored-mask"]


class Recurrent(nn.Module):
    """A recurrent layer, given what ``given`` makes of the inputs."""

    def __init__(self, given, batch_first=False, last=lambda out: out[-1]):
        super().__init__()
        self.rnn, self.given, self.last = nn.RNN(5, 8, batch_first=batch_first), given, last

    def forward(self, x):
        return self.last(self.rnn(self.given(x))[0])


class PackedWithState(nn.Module):
    """The first tensor that the layer is given is its state, of which dimension 1 is the batch."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(5, 5, batch_first=True)

    def forward(self, x):
        return self.gru(packed(x), x.mean(1)[None])[1][-1]


def packed(x):
    return nn.utils.rnn.pack_padded_sequence(x, torch.full((len(x),), x.shape[1]), batch_first=True)


@pytest.mark.parametrize(
    ("made", "shape"),
    [
        (lambda: Recurrent(lambda x: x.transpose(0, 1)), (6, 5)),
        (lambda: Recurrent(lambda x: x, True, lambda out: out[:, -1]), (5, 5)),
        (lambda: Recurrent(lambda x: x[None]), (5,)),
        (lambda: Recurrent(packed, True, lambda out: out.data), (6, 5)),
        (PackedWithState, (6, 5)),
        # Every pair of a batch, which batch-mixing speaks of.
        (lambda: Recurrent(lambda x: x[:, None] + x[None]), (5,)),
        # Windows of a series as further samples, time first.
        (lambda: Recurrent(lambda x: x.reshape(-1, 3, 5).transpose(0, 1), False,
                           lambda out: out[-1].reshape(-1, 16)), (6, 5)),
    ],
    ids=["transposed", "batch first", "one instant", "packed", "packed with state", "pairs", "windows"],
)  # fmt: skip
def test_layers_that_are_given_what_they_take_are_passed(made, shape):
    found = ms.doctor(made, inputs=shape, only=["batch-first"])
    assert found.checked == ("batch-first",)
    assert found.healthy, str(found)


def test_the_layers_of_a_stack_are_one_finding():
    def made():
        layer = nn.TransformerEncoderLayer(8, 2, 16)
        return nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)

    (seen,) = ms.doctor(made, inputs=(7, 8), only=["batch-first", "batch-mixing"]).findings
    assert (seen.rule, seen.where) == ("batch-first", "layers.0 (TransformerEncoderLayer)")
    assert "nn.TransformerEncoderLayer(…, batch_first=True)" in seen.fix


def coverage(net, optimizer, **given):
    found = ms.doctor(net, optimizer=optimizer, only=["optimizer-coverage"], **given)
    assert found.checked == ("optimizer-coverage",), found.skipped
    return [(f.severity, f.where) for f in found.findings]


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


class Margins(nn.Module):
    """A loss with parameters of its own, as of learned margins."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, z, y):
        return nn.functional.cross_entropy(z * self.scale, y)


def test_an_optimizer_has_each_parameter_once():
    net, loss = Body(), Margins()
    assert coverage(net, sgd(net.parameters())) == []
    assert coverage(net, [sgd(net.body.parameters()), sgd(net.head.parameters())]) == []
    assert coverage(net, sgd([*net.parameters(), *loss.parameters()]), loss=loss) == []
    assert coverage(net, sgd([*net.parameters(), nn.Parameter(torch.ones(2))])) == [("info", "Body")]
    assert coverage(net, sgd(net.head.parameters()))[0][0] == "error"
    net.body.requires_grad_(False)
    assert coverage(net, sgd(net.head.parameters())) == []
    assert coverage(Body, lambda net: sgd(net.parameters())) == []


def test_a_layer_that_was_replaced_is_told_from_one_left_out():
    net = Body()
    optimizer = sgd(net.parameters())
    net.head = nn.Linear(16, 3)
    (seen,) = ms.doctor(net, optimizer=optimizer, only=["optimizer-coverage"]).findings
    assert seen.where == "head.weight, head.bias"
    assert "2 of 6 parameters, 51 numbers" in seen.evidence
    assert "before a layer was replaced" in seen.evidence
    assert (
        "replaced"
        not in ms.doctor(Body, optimizer=lambda net: sgd(net.body.parameters()), only=["optimizer-coverage"])
        .findings[0]
        .evidence
    )


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ("adam", "optimizer is a str"),
        (torch.optim.Adam, "the class Adam"),
        (sgd(Body().parameters()), "a built module, and Body is none"),
        ([], "optimizer is a list"),
        (ms.SGD(), "optimizer is a SGD"),
    ],
)
def test_what_is_no_optimizer_is_refused(optimizer, message):
    with pytest.raises(ms.ModelspaceError, match=message):
        ms.doctor(Body, optimizer=optimizer)


def test_a_function_that_makes_none_is_skipped_with_the_reason():
    found = ms.doctor(Body, optimizer=lambda net: net, only=["optimizer-coverage"])
    assert found.skipped == {"optimizer-coverage": "optimizer= returned a Body, and no torch.optim optimizer"}
