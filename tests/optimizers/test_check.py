"""The kit sees what is broken, and says where."""

from dataclasses import dataclass
from functools import partial

import pytest
import torch
from support import optimizers as plain

from modelspace import optimizers as o
from modelspace.errors import ModelspaceError
from modelspace.optimizers import SGD, check

SOUND = [
    *(
        (kind(), getattr(torch.optim, kind.__name__))
        for kind in (o.Adam, o.AdamW, o.RAdam, o.Adagrad, o.Rprop)
    ),
    (SGD(momentum=0.9, nesterov=True), partial(torch.optim.SGD, nesterov=True)),
    (o.ASGD(), torch.optim.ASGD),
    (o.Lion(), plain.Lion),
    (o.LAMB(), plain.LAMB),
]


@pytest.mark.parametrize(("optimizer", "theirs"), SOUND, ids=lambda value: getattr(value, "__name__", None))
def test_what_is_sound_passes(optimizer, theirs):
    assert check(optimizer, theirs) <= 1e-12


@dataclass(frozen=True)
class WithoutDecay(SGD):
    """It forgets weight decay, which is 0 by default."""

    def coefficients(self, hyper, step):
        return super().coefficients({**hyper, "weight_decay": 0 * hyper["weight_decay"]}, step)


@dataclass(frozen=True)
class Mixed(SGD):
    """Its rows know of each other."""

    def apply(self, gradient, state, points, c):
        return super().apply(gradient + 1e-6 * gradient.sum(0), state, points, c)


@dataclass(frozen=True)
class InPlace(SGD):
    """It writes into what it is given."""

    def apply(self, gradient, state, points, c):
        state["momentum_buffer"].add_(1)
        return super().apply(gradient, state, points, c)


@dataclass(frozen=True)
class Growing(SGD):
    """Its state changes its shape."""

    def apply(self, gradient, state, points, c):
        points, state = super().apply(gradient, state, points, c)
        return points, {**state, "more": gradient}


@dataclass(frozen=True)
class Late(SGD):
    """It goes wrong at the fifth step, in the last parameter."""

    def coefficients(self, hyper, step):
        return {**super().coefficients(hyper, step), "late": (step >= 5) * torch.ones_like(hyper["lr"])}

    def apply(self, gradient, state, points, c):
        points, state = super().apply(gradient, state, points, c)
        return torch.cat([points[:, :-1], points[:, -1:] * (1 + 1e-6 * c["late"])], 1), state


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            WithoutDecay(),
            r"WithoutDecay and SGD part at update \d+: member [123] \(lr=.*weight_decay=.*\), parameter \d",
        ),
        (Mixed(), "Mixed: a member alone takes other steps than among others"),
        (InPlace(), "InPlace: an update changes its arguments"),
        (Growing(), "Growing: an update changes the state's form"),
        (
            Late(),
            r"Late and SGD part at update 5: member 0 .* parameter 2 of shape \(2, 3, 2\), relative error",
        ),
        (SGD(lr=-1.0), r"learning rate lr must be a positive number; received -1\.0 \(member 0\)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_broken_is_seen(broken, message):
    with pytest.raises(ModelspaceError, match=message):
        check(broken, torch.optim.SGD)
