"""Layers that the optimizer doesn't know, and layers that the forward doesn't use."""

import torch
import torch.nn.functional as F
from doctor.ailments.fault import Fault
from torch import nn


class Deep(nn.Module):
    container = list

    def __init__(self, num_layers=2):
        super().__init__()
        self.inp = nn.Linear(6, 16)
        self.hids = self.container([nn.Linear(16, 16) for _ in range(num_layers)])
        self.classifier = nn.Linear(16, 3)

    def forward(self, x):
        x = torch.tanh(self.inp(x))
        for layer in self.hids:
            x = torch.tanh(layer(x))
        return self.classifier(x)


class DeepRegistered(Deep):
    container = nn.ModuleList


class TextCNN(nn.Module):
    container = list

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(30, 8)
        self.convs = self.container([nn.Conv1d(8, 6, width) for width in (2, 3, 4)])
        self.fc = nn.Linear(18, 4)

    def forward(self, x):
        x = self.embed(x).transpose(1, 2)
        x = torch.cat([F.relu(conv(x)).max(2).values for conv in self.convs], 1)
        return self.fc(x)


class TextCNNRegistered(TextCNN):
    container = nn.ModuleList


class Relations(nn.Module):
    """A map for each kind of relation."""

    container = dict

    def __init__(self):
        super().__init__()
        kinds = {name: nn.Linear(5, 12) for name in ("parent", "child")}
        self.relations = self.container(kinds)
        self.score = nn.Linear(12, 3)

    def forward(self, x):
        h = sum(relation(x[:, i]) for i, relation in enumerate(self.relations.values()))
        return self.score(torch.tanh(h))


class RelationsRegistered(Relations):
    container = nn.ModuleDict


class DanglingLayer(nn.Module):
    """A new convolution in every forward."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 6, 3, padding=1)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.elu(nn.Conv2d(6, 8, 1)(x))
        return self.fc(x.mean((2, 3)))


class LayerMadeOnce(DanglingLayer):
    def __init__(self):
        super().__init__()
        self.conv2 = nn.Conv2d(6, 8, 1)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.elu(self.conv2(x))
        return self.fc(x.mean((2, 3)))


class BareWeight(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.GRU(3, 8, batch_first=True)
        self.w = self.weight((torch.rand(8, 4) - 0.5) / 2)

    def weight(self, value):
        return value.requires_grad_()

    def forward(self, x):
        return self.encoder(x)[1][-1] @ self.w


class BareWeightRegistered(BareWeight):
    def weight(self, value):
        return nn.Parameter(value)


class Closure(nn.Module):
    """A head kept in a function."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(7, 16), nn.ReLU())
        head = nn.Linear(16, 3)
        self.head = lambda x: head(x)

    def forward(self, x):
        return self.head(self.body(x))


class ClosureRegistered(Closure):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(16, 3)


class ForgottenSecond(nn.Module):
    """``layer1`` twice, by copy and paste."""

    def __init__(self):
        super().__init__()
        self.layer1 = nn.Conv2d(4, 4, 3, padding=1)
        self.layer2 = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        x = F.leaky_relu(self.layer1(x))
        x = F.leaky_relu(self.layer1(x))
        return self.fc(x.mean((2, 3)))


class BothLayers(ForgottenSecond):
    def forward(self, x):
        x = F.leaky_relu(self.layer1(x))
        x = F.leaky_relu(self.layer2(x))
        return self.fc(x.mean((2, 3)))


class OverwrittenBatchNorm(nn.BatchNorm2d):
    """Its forward only applies the activation."""

    def forward(self, x):
        return F.leaky_relu(x)


class ActivatedBatchNorm(nn.BatchNorm2d):
    def forward(self, x):
        return F.leaky_relu(super().forward(x))


def fast_attention_block(norm):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), norm(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    )


class DiscardedLoop(nn.Module):
    """The loop computes what nobody reads."""

    def __init__(self):
        super().__init__()
        self.units = nn.ModuleList([nn.Linear(12, 12) for _ in range(2)])
        self.stem = nn.Linear(5, 12)
        self.output = nn.Linear(12, 3)

    def forward(self, x):
        x = torch.tanh(self.stem(x))
        for unit in self.units:
            out = torch.tanh(unit(x))
        return self.output(out)


class ThreadedLoop(DiscardedLoop):
    def forward(self, x):
        out = torch.tanh(self.stem(x))
        for unit in self.units:
            out = torch.tanh(unit(out))
        return self.output(out)


class DecoderBypassed(nn.Module):
    """An autoencoder whose second decoder layer is written and not called."""

    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(10, 6)
        self.dec1 = nn.Linear(6, 10)
        self.dec2 = nn.Linear(10, 10)

    def forward(self, x):
        z = torch.tanh(self.enc(x))
        return self.dec1(z)


class DecoderComplete(DecoderBypassed):
    def forward(self, x):
        z = torch.tanh(self.enc(x))
        return self.dec2(torch.tanh(self.dec1(z)))


FAULTS = (
    Fault(
        "hidden layers in a Python list",
        "unregistered-layers",
        Deep,
        DeepRegistered,
        (6,),
        source="pytorch/pytorch#666",
        note="They keep their random weights, and stay behind when the model moves to the GPU.",
    ),
    Fault(
        "text convolutions in a Python list",
        "unregistered-layers",
        TextCNN,
        TextCNNRegistered,
        (6,),
        tokens=30,
        source="pytorch/pytorch#1053",
        note="After .cuda() the convolutions are still on the CPU.",
    ),
    Fault(
        "layers in a dictionary",
        "unregistered-layers",
        Relations,
        RelationsRegistered,
        (2, 5),
        source="pytorch/pytorch#632",
        note="The parameters are not in model.parameters().",
    ),
    Fault(
        "convolution made in the forward",
        "unregistered-layers",
        DanglingLayer,
        LayerMadeOnce,
        (2, 5, 5),
        source="lafith/Mobile-UNet#1",
        note="A new layer each time, never trained.",
    ),
    Fault(
        "weight as a plain tensor that requires a gradient",
        "unregistered-layers",
        BareWeight,
        BareWeightRegistered,
        (5, 3),
        note="It has a gradient, and the optimizer never sees it.",
    ),
    Fault(
        "head inside a lambda",
        "unregistered-layers",
        Closure,
        ClosureRegistered,
        (7,),
        note="The head is missing from the checkpoint.",
    ),
    Fault(
        "first layer called twice, second never",
        "unused-parameters",
        ForgottenSecond,
        BothLayers,
        (4, 5, 5),
        source="inria-thoth/HySUPP#3",
        note="Distributed training raises: parameters that were not used in producing loss.",
    ),
    Fault(
        "BatchNorm whose forward is overridden",
        "unused-parameters",
        lambda: fast_attention_block(OverwrittenBatchNorm),
        lambda: fast_attention_block(ActivatedBatchNorm),
        (3, 6, 6),
        source="feinanshan/FANet#5",
        note="Nothing is normalised; its weight and bias stay at 1 and 0.",
    ),
    Fault(
        "loop whose results are discarded",
        "unused-parameters",
        DiscardedLoop,
        ThreadedLoop,
        (5,),
        source="thomasjpfan/pytorch_refinenet#2",
        note="Only the last unit has an effect.",
    ),
    Fault(
        "second decoder layer never called",
        "unused-parameters",
        DecoderBypassed,
        DecoderComplete,
        (10,),
        loss="mse_loss",
        note="Its gradient is None.",
    ),
)
