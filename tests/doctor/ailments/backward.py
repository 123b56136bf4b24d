"""Functions with a backward of their own that fails."""

import torch
from doctor.ailments.fault import Fault, under
from torch import nn


class Sign(torch.autograd.Function):
    """A straight-through estimator that forgets the gradient of its second argument."""

    @staticmethod
    def forward(ctx, x, clip):
        return x.sign()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class SignOfBoth(Sign):
    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


class Adjoint(torch.autograd.Function):
    """The gradient of the scale is summed over the wrong dimension."""

    @staticmethod
    def forward(ctx, x, scale):
        ctx.save_for_backward(x, scale)
        return x * scale

    @staticmethod
    def backward(ctx, gradient):
        x, scale = ctx.saved_tensors
        return gradient * scale, (gradient * x).sum(1)


class AdjointOfShape(Adjoint):
    @staticmethod
    def backward(ctx, gradient):
        x, scale = ctx.saved_tensors
        return gradient * scale, (gradient * x).sum(0)


class Cube(torch.autograd.Function):
    """The factor was kept under another name."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.save_for_backward(x)
        ctx.scale = 3 * factor
        return factor * x**3

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return ctx.factor * x**2 * gradient, None


class CubeOfScale(Cube):
    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return ctx.scale * x**2 * gradient, None


class Net(nn.Module):
    def __init__(self, function, given=None):
        super().__init__()
        self.first, self.last, self.function = nn.Linear(6, 8), nn.Linear(8, 3), function
        self.given = nn.Parameter(torch.ones(8)) if given is None else given

    def forward(self, x):
        return self.last(self.function.apply(self.first(x), self.given).tanh())


FAULTS = (
    *under(
        "backward-fails",
        # 1zb/pytorch-image-comp-rnn#4: Function SignBackward returned an incorrect number of gradients.
        Fault(
            "backward with one gradient too few", lambda: Net(Sign, 1.0), lambda: Net(SignOfBoth, 1.0), (6,)
        ),
        # msurtsukov/neural-ode#2: Function AdjointBackward returned an invalid gradient at index 1.
        Fault(
            "backward with a gradient of another shape",
            lambda: Net(Adjoint),
            lambda: Net(AdjointOfShape),
            (6,),
        ),
        # locuslab/mpc.pytorch#47: The forward had been tested; its backward runs at the first step of training.
        Fault("backward that raises", lambda: Net(Cube, 1.0), lambda: Net(CubeOfScale, 1.0), (6,)),
    ),
)
