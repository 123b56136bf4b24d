"""Classic networks for images, from their papers, with the figures that torchvision publishes of its own of them."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

CLASSES = 1000


class Residual(nn.Module):
    """What a body does to its input is added to the input, which a shortcut may have to bring to the same shape."""

    def __init__(self, body, shortcut=None):
        super().__init__()
        self.body = body
        self.shortcut = nn.Identity() if shortcut is None else shortcut

    def forward(self, x):
        return self.shortcut(x) + self.body(x)


class Beside(nn.Module):
    """The channels of several branches of one input, beside each other."""

    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], 1)


def normed(ins, outs, kernel=1, stride=1, groups=1):
    """A convolution that keeps the image's size, but for its stride; the norm's shift makes a bias idle."""
    conv = nn.Conv2d(ins, outs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outs))


def averaged(width, classes=CLASSES):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def perceptron(*widths):
    layers = [nn.Flatten()]
    for ins, outs in pairwise(widths):
        layers += [nn.Linear(ins, outs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def alexnet():
    """Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks": one column, no LRN."""
    layers, ins = [], 3
    for outs, kernel, stride, padding, pooled in (
        (64, 11, 4, 2, True),
        (192, 5, 1, 2, True),
        (384, 3, 1, 1, False),
        (256, 3, 1, 1, False),
        (256, 3, 1, 1, True),
    ):
        layers += [nn.Conv2d(ins, outs, kernel, stride, padding), nn.ReLU()]
        layers += [nn.MaxPool2d(3, 2)] if pooled else []
        ins = outs
    return nn.Sequential(*layers, perceptron(256 * 6 * 6, 4096, 4096, CLASSES))


def vgg11():
    """Simonyan and Zisserman 2015, "Very deep convolutional networks for large-scale image recognition": A."""
    layers, ins = [], 3
    for widths in ((64,), (128,), (256, 256), (512, 512), (512, 512)):
        for outs in widths:
            layers += [nn.Conv2d(ins, outs, 3, padding=1), nn.ReLU()]
            ins = outs
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, perceptron(512 * 7 * 7, 4096, 4096, CLASSES))


def basic(ins, width, stride):
    body = nn.Sequential(normed(ins, width, 3, stride), nn.ReLU(), normed(width, width, 3))
    return body, width


def bottleneck(ins, width, stride):
    """With its stride at the 3×3, not at the first 1×1 as in the paper: torchvision's ResNet-50 is that one."""
    body = nn.Sequential(
        normed(ins, width), nn.ReLU(), normed(width, width, 3, stride), nn.ReLU(), normed(width, 4 * width)
    )
    return body, 4 * width


def resnet(block, depths):
    """He, Zhang, Ren and Sun 2016, "Deep residual learning for image recognition", with projections (B)."""
    layers, ins = [normed(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)], 64
    for stage, depth in enumerate(depths):
        for index in range(depth):
            stride = 2 if stage and not index else 1
            body, outs = block(ins, 64 * 2**stage, stride)
            shortcut = normed(ins, outs, 1, stride) if (ins, stride) != (outs, 1) else None
            layers += [Residual(body, shortcut), nn.ReLU()]
            ins = outs
    return nn.Sequential(*layers, averaged(ins))


def resnet18():
    return resnet(basic, (2, 2, 2, 2))


def resnet50():
    return resnet(bottleneck, (3, 4, 6, 3))


def fire(ins, squeezed, expanded):
    one = nn.Sequential(nn.Conv2d(squeezed, expanded, 1), nn.ReLU())
    three = nn.Sequential(nn.Conv2d(squeezed, expanded, 3, padding=1), nn.ReLU())
    return nn.Sequential(nn.Conv2d(ins, squeezed, 1), nn.ReLU(), Beside(one, three))


def squeezenet():
    """Iandola and others 2016, "SqueezeNet", 1.0: its classifier is a convolution, averaged at the end."""
    layers, ins = [nn.Conv2d(3, 96, 7, 2), nn.ReLU()], 96
    for fires in (
        ((16, 64), (16, 64), (32, 128)),
        ((32, 128), (48, 192), (48, 192), (64, 256)),
        ((64, 256),),
    ):
        layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
        for squeezed, expanded in fires:
            layers.append(fire(ins, squeezed, expanded))
            ins = 2 * expanded
    return nn.Sequential(
        *layers, nn.Conv2d(ins, CLASSES, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


def inverted(ins, outs, expansion, stride):
    inner = expansion * ins
    layers = [normed(ins, inner), nn.ReLU6()] if expansion > 1 else []
    layers += [normed(inner, inner, 3, stride, groups=inner), nn.ReLU6(), normed(inner, outs)]
    body = nn.Sequential(*layers)
    return Residual(body) if (ins, stride) == (outs, 1) else body


def mobilenet_v2():
    """Sandler and others 2018, "MobileNetV2: inverted residuals and linear bottlenecks", table 2."""
    layers, ins = [normed(3, 32, 3, 2), nn.ReLU6()], 32
    for expansion, outs, depth, stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for index in range(depth):
            layers.append(inverted(ins, outs, expansion, 1 if index else stride))
            ins = outs
    return nn.Sequential(*layers, normed(ins, 1280), nn.ReLU6(), averaged(1280))


def before(ins, outs, kernel=1):
    """A convolution of what was normed and rectified, DenseNet's order."""
    conv = nn.Conv2d(ins, outs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.BatchNorm2d(ins), nn.ReLU(), conv)


def densenet121(growth=32):
    """Huang, Liu, van der Maaten and Weinberger 2017, "Densely connected convolutional networks": BC, θ = 1/2."""
    layers, ins = [normed(3, 2 * growth, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)], 2 * growth
    for stage, depth in enumerate((6, 12, 24, 16)):
        if stage:
            layers += [before(ins, ins // 2), nn.AvgPool2d(2)]
            ins //= 2
        for _ in range(depth):
            new = nn.Sequential(before(ins, 4 * growth), before(4 * growth, growth, 3))
            layers.append(Beside(nn.Identity(), new))
            ins += growth
    return nn.Sequential(*layers, nn.BatchNorm2d(ins), nn.ReLU(), averaged(ins))


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))


class VisionTransformer(nn.Module):
    """Dosovitskiy and others 2021, "An image is worth 16×16 words": base, patches of 16×16, a class token."""

    def __init__(self, side=224, patch=16, width=768, depth=12, heads=12):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, 1 + (side // patch) ** 2, width))
        blocks = []
        for _ in range(depth):
            up, down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            blocks += [
                Residual(nn.Sequential(nn.LayerNorm(width), Attention(width, heads))),
                Residual(nn.Sequential(nn.LayerNorm(width), up, nn.GELU(), down)),
            ]
        self.blocks = nn.Sequential(*blocks, nn.LayerNorm(width))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        return self.head(self.blocks(x + self.positions)[:, 0])


@dataclass(frozen=True)
class Classic:
    """A network and what torchvision publishes of its own, which is the same.

    Attributes:
        name: Its name in torchvision.
        make: What makes it.
        parameters: ``num_params`` of torchvision's weights.
        gmacs: Their ``_ops``, at 224×224 pixels.
    """

    name: str
    make: Callable[[], nn.Module]
    parameters: int
    gmacs: float

    def __str__(self):
        return self.name


CLASSICS = (
    Classic("alexnet", alexnet, 61_100_840, 0.714),
    Classic("vgg11", vgg11, 132_863_336, 7.609),
    Classic("resnet18", resnet18, 11_689_512, 1.814),
    Classic("resnet50", resnet50, 25_557_032, 4.089),
    Classic("squeezenet1_0", squeezenet, 1_248_424, 0.819),
    Classic("mobilenet_v2", mobilenet_v2, 3_504_872, 0.301),
    Classic("densenet121", densenet121, 7_978_856, 2.834),
    Classic("vit_b_16", VisionTransformer, 86_567_656, 17.564),
)
