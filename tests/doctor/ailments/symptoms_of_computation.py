"""What shows, without the doctor, that the forward or the backward is not what it seems."""

import inspect
from itertools import pairwise

import torch
from doctor.ailments.symptoms_of_parameters import outputs_at
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)


def batch_reshape(side):
    """Another number of outputs than of samples, at this size or another."""
    model = side.model().eval()
    for index in (None, *range(len(side.shape))):
        for more in range(1, 9):
            shape = [
                size + more * (i == index or (index == 0 and i > 0)) for i, size in enumerate(side.shape)
            ]
            if index == 0:
                shape[0] = side.shape[0]
            shape = side.shape if index is None else shape
            try:
                outputs = outputs_at(model, side.inputs(4, shape=shape))
            except (RuntimeError, IndexError):
                continue
            if len(outputs) != 4:
                return True
            if index is None:
                break
    return False


def batch_mixing(side):
    """The first answer changes with the other samples, or the last does, in evaluation."""
    model = side.model().eval()
    inputs, others = side.inputs(4, seed=1), side.inputs(4, seed=2)
    here = outputs_at(model, inputs)
    if len(here) != 4:
        return False
    for row in (0, 3):
        mixed = others.clone()
        mixed[row] = inputs[row]
        if not torch.allclose(here[row], outputs_at(model, mixed)[row], atol=1e-5):
            return True
    return False


def batch_first(side):
    """A recurrent or attention layer is there, and samples are not apart: their rows mix, or are not theirs."""
    layers = (nn.RNNBase, nn.MultiheadAttention)
    if not any(isinstance(layer, layers) for layer in side.model().modules()):
        return False
    return batch_mixing(side) or len(outputs_at(side.model().eval(), side.inputs(4))) != 4


def ignored_mask(side):
    """Other values where the mask says padding give other outputs where it says none."""
    model = side.model().eval()
    names = [n for n in inspect.signature(model.forward).parameters if n.endswith("mask")]
    if not names or len(side.shape) > 2:
        return False
    inputs, others = side.inputs(4, seed=1), side.inputs(4, seed=2)
    kept = torch.arange(side.shape[0]) < torch.tensor([side.shape[0], 5, 3, 2])[:, None]
    others = torch.where(kept.reshape(*kept.shape, *[1] * (inputs.ndim - 2)), inputs, others)
    mask = ~kept if "key_padding" in names[0] else kept
    with torch.no_grad():
        first, second = (model(x, **{names[0]: mask}) for x in (inputs, others))
    if first.ndim > 2:  # [N, C, position]
        first, second = (x.transpose(1, 2)[kept] for x in (first, second))
    return not torch.allclose(first, second, atol=1e-5)


def batch_norm_single(side):
    try:
        outputs_at(side.model().train(), side.inputs(1))
    except ValueError as error:
        return "more than 1 value per channel" in str(error)
    return False


def train_eval_gap(side):
    """One evaluation is far from the mean of many trainings, running statistics having settled."""
    model, inputs = side.model(), side.inputs(32)
    evaluated, trained = outputs_at(model.eval(), inputs), outputs_at(model.train(), inputs)
    if torch.allclose(evaluated, trained, atol=1e-5) and not nondeterminism(side):
        return False
    with torch.no_grad():
        for _ in range(40):
            model(inputs)
        mean = torch.stack([model(inputs) for _ in range(48)]).mean(0)
        evaluated = model.eval()(inputs)
    return ((evaluated - mean).norm() / (mean - mean.mean(0)).norm()).item() > 0.3


def nondeterminism(side):
    model, inputs = side.model().eval(), side.inputs(16)
    with torch.no_grad():
        return not torch.equal(model(inputs), model(inputs))


class _Rectified(TorchDispatchMode):
    """Whether a slice of what a ReLU gave, across the batch, is zero."""

    def __init__(self):
        super().__init__()
        self.dead = False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function in (torch.ops.aten.relu.default, torch.ops.aten.relu_.default) and result.ndim > 1:
            for dimension in {1, result.ndim - 1}:
                units = result.movedim(dimension, 0).flatten(1)
                self.dead |= bool((units == 0).all(1).any())
        return result


def dead_units(side, seed=0):
    model = side.model(seed).train()
    with _Rectified() as rectified, torch.no_grad():
        model(side.inputs(128))
    return rectified.dead


def signal_by_depth(side):
    """A hundredfold change of the gradients, or of how far samples are apart, over eight layers or more."""
    model = side.model().train()
    kept = []
    for module in model.modules():
        if isinstance(module, LINEAR):
            module.register_forward_hook(lambda module, inputs, output: kept.append(output))
    outputs = model(side.inputs(32))
    if len(kept) < 8 or not all(output.requires_grad for output in kept):
        return False
    gradients = torch.autograd.grad((outputs * torch.randn_like(outputs)).sum(), kept, allow_unused=True)
    first, last = kept[0], kept[-2]
    apart = (last - last.mean(0)).square().mean().sqrt() / (first - first.mean(0)).square().mean().sqrt()
    faded = gradients[0].square().mean().sqrt() / gradients[-2].square().mean().sqrt()
    # The gradient of a convolution is spread over its positions, equally many in all layers here.
    return any(not 0.01 < ratio.item() < 100 for ratio in (apart, faded))


def linear_chain(side):
    """From what goes into one layer to what comes out of the next, the midpoint goes to the midpoint."""
    model, inputs = side.model().eval(), side.inputs(4)
    called = []
    hooks = [
        module.register_forward_hook(lambda module, given, output: called.append((module, given[0])))
        for module in model.modules()
        if isinstance(module, LINEAR)
    ]
    outputs_at(model, inputs)
    for hook in hooks:
        hook.remove()
    return any(
        first is not second and _affine(model, inputs, first, second, given)
        for (first, given), (second, _) in pairwise(called)
    )


def _affine(model, inputs, first, second, given):
    ends = [100 * torch.randn_like(given) for _ in range(2)]

    def reached(put):
        left = []
        before = first.register_forward_pre_hook(lambda module, given: (put,))
        after = second.register_forward_hook(lambda module, given, output: left.append(output))
        try:
            outputs_at(model, inputs)
        finally:
            before.remove()
            after.remove()
        return left[0]

    one, other, middle = reached(ends[0]), reached(ends[1]), reached((ends[0] + ends[1]) / 2)
    moved = (one - other).abs().max()
    return moved.item() > 1e-3 and ((one + other) / 2 - middle).abs().max().item() < 1e-3 * moved.item()


def _raised(side):
    """What a step of training raises."""
    try:
        outputs = side.model().train()(side.inputs(4))
        if outputs.requires_grad:
            outputs.square().sum().backward()
    except (RuntimeError, AttributeError) as error:
        return str(error)
    return ""


def inplace_backward(side):
    return "modified by an inplace operation" in _raised(side)


def backward_fails(side):
    return bool(_raised(side)) and not inplace_backward(side)


def inplace_hook(side):
    """What a hook has kept of a module is not what the module returned."""
    model = side.model().train()
    kept = []
    for module in model.modules():
        if not list(module.children()):
            module.register_forward_hook(
                lambda module, given, output: (
                    kept.append((output, output.clone())) if isinstance(output, torch.Tensor) else None
                )
            )
    with torch.no_grad():
        model(side.inputs(4))
    return any(not torch.equal(now, then) for now, then in kept)
