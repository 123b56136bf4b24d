"""What shows, without the doctor, that parameters and constants are not where they should be."""

import copy

import torch
from doctor.ailments.side import learns
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def outputs_at(model, inputs):
    torch.default_generator.manual_seed(3)
    with torch.no_grad():
        return model(inputs)


def _leaves(outputs):
    """The tensors that gradients accumulate in."""
    seen, todo, leaves = set(), [outputs.grad_fn], []
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        todo.extend(parent for parent, _ in node.next_functions)
    return leaves


def unregistered_layers(side):
    model = side.model().train()
    outputs = model(side.inputs(4))
    listed = {id(parameter) for parameter in model.parameters()}
    return any(id(leaf) not in listed for leaf in _leaves(outputs))


def _unreached(side):
    """For each trainable parameter without a gradient: whether the outputs depend on it."""
    model, inputs = side.model().train(), side.inputs(4)
    outputs = model(inputs)
    reached = {id(leaf) for leaf in _leaves(outputs)}
    before = outputs_at(model, inputs)
    depends = []
    for parameter in model.parameters():
        if parameter.requires_grad and id(parameter) not in reached:
            with torch.no_grad():
                kept = parameter.clone()
                parameter.copy_(torch.randn_like(parameter))
            after = outputs_at(model, inputs)
            with torch.no_grad():
                parameter.copy_(kept)
            depends.append(not torch.allclose(before, after))
    return depends


def unused_parameters(side):
    return not all(_unreached(side))


def detached_parameters(side):
    return any(_unreached(side))


def frozen_parameters(side):
    """Nothing to train, or the last layer frozen behind layers that train."""
    trainable = [parameter.requires_grad for parameter in side.model().parameters()]
    return not any(trainable) or not trainable[-1]


def ties_lost(side):
    """After one step of a copy, two matrices where the model's ``tie_weights`` means one."""
    model = side.model()
    if not hasattr(model, "tie_weights"):
        return False
    twin = copy.deepcopy(model)
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.1)
    twin(side.inputs(4)).square().mean().backward()
    optimizer.step()
    encoder, decoder = twin.encoder.weight, twin.decoder.weight
    return not torch.equal(encoder if encoder.shape == decoder.shape else encoder.T, decoder)


class _Devices(TorchDispatchMode):
    """Whether tensors of two devices meet in one operation."""

    def __init__(self):
        super().__init__()
        self.met = False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        self.met |= len({tensor.device for tensor in tensors if tensor.ndim}) > 1
        return function(*args, **(kwargs or {}))


def unregistered_constant(side):
    """On another device, something has stayed behind. The device is ``meta``: it holds no numbers."""
    model = side.model().to("meta").eval()
    with _Devices() as devices:
        try:
            model(side.inputs(4).to("meta"))
        except RuntimeError as error:
            if "device" not in str(error):
                raise
            return True
    return devices.met


class _Dtypes(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.double = False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.double |= any(
            isinstance(leaf, torch.Tensor) and leaf.ndim and leaf.dtype in (torch.float64, torch.complex128)
            for leaf in tree_leaves(result)
        )
        return result


def double_precision(side):
    model = side.model()
    with _Dtypes() as dtypes:
        model(side.inputs(4))
    return dtypes.double


def bias_before_norm(side):
    """A bias of a linear map that moves no output in training, near the point the model starts from."""
    model, inputs = side.model().train(), side.inputs(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    before = outputs_at(model, inputs)
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)) and module.bias is not None:
            kept = module.bias.detach().clone()
            with torch.no_grad():
                module.bias.add_(torch.randn_like(kept))
            after = outputs_at(model, inputs)
            with torch.no_grad():
                module.bias.copy_(kept)
            if torch.allclose(before, after, atol=1e-4):
                return True
    return False


def cannot_overfit(side):
    """Sixty steps of Adam on eight samples leave more than half of the loss."""
    return not learns(side)


def equal_units(side):
    """Training moves two units of a layer and leaves them equal."""
    model = side.model().train()
    kinds = (nn.Linear, nn.modules.conv._ConvNd, nn.RNNBase)
    own = [p for m in model.modules() if isinstance(m, kinds) for p in m.parameters(recurse=False)]
    bare = list(model.parameters(recurse=False))
    weights = [p for p in (*own, *bare) if p.requires_grad and p.ndim > 1 and len(p) > 1]
    before = [p.detach().clone() for p in weights]
    inputs, labels = side.batch(8)
    for _ in range(20):
        outputs = model(inputs)
        model.zero_grad()
        side.value(outputs, labels).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= 0.02 * parameter.grad
    for old, new in zip(before, weights, strict=True):
        rows, moved = new.detach().flatten(1).double(), (new - old).detach().abs().flatten(1).amax(1)
        apart = (rows[:, None] - rows[None]).abs().amax(2) + torch.eye(len(rows))
        if ((apart < 1e-6 * rows.abs().max()).any(1) & (moved > 1e-5)).any():
            return True
    return False


def unseeded_draws(side):
    """``torch.manual_seed(0)`` gives two different models."""
    first, second = (dict(side.model(0).state_dict()) for _ in range(2))
    return any(not torch.equal(value, second[name]) for name, value in first.items())


def optimizer_coverage(side):
    """One step of gradient descent moves a parameter otherwise than by lr times its gradient."""
    if side.optimizer is None:
        return False
    model = side.model()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizers = side.optimizer(model)
    optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
    if any(group["weight_decay"] for optimizer in optimizers for group in optimizer.param_groups):
        return False
    inputs, labels = side.batch(8)
    side.value(model(inputs), labels).backward()
    for optimizer in optimizers:
        optimizer.step()
    stepped = {name: before[name] - 0.1 * parameter.grad for name, parameter in model.named_parameters()}
    return not all(torch.allclose(stepped[name], parameter) for name, parameter in model.named_parameters())


def decayed_biases(side):
    """Where no gradient is, vectors move all the same."""
    if side.optimizer is None:
        return False
    model = side.model()
    optimizers = side.optimizer(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
        optimizer.step()
    return any(p.ndim < 2 and not torch.equal(p, before[name]) for name, p in model.named_parameters())
