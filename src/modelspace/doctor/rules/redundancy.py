"""Layers that add nothing: a linear map after another, a bias that the next layer subtracts."""

from torch import nn

from modelspace.doctor.rule import Seen, rule
from modelspace.doctor.subject import Subject
from modelspace.doctor.trace import REARRANGING, Call, Operation, Trace

_LINEAR = ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d")
# In evaluation mode they are the identity, or an affine map of each channel.
_TRANSPARENT = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "batch_norm")


@rule("warning", needs=("inputs",))
def linear_chain(subject: Subject) -> Seen:
    """Two linear maps follow each other with no non-linearity between them."""
    trace = subject.trace
    for operation in trace.operations:
        second = _map(operation)
        previous = _before(trace, operation) if second is not None else None
        first = _map(previous) if previous is not None else None
        if second is None or previous is None or first is None:
            continue
        (entering, between, groups), (taken, leaving, more_groups) = first, second
        # Fewer numbers between than at either end make a factorisation, of a rank that no single layer has; a
        # depthwise convolution with a pointwise one is another.
        factors = groups > 1 or more_groups > 1 or min(between, taken) < min(entering, leaving)
        if factors or (
            operation.layer is previous.layer and isinstance(operation.layer, nn.MultiheadAttention)
        ):
            continue
        yield (
            f"{previous.where} and {operation.where}",
            f"{previous.name} {entering} → {between} goes straight into {operation.name} "
            f"{taken} → {leaving}: together they are one linear map, with "
            f"{previous.tensors[1].numel() + operation.tensors[1].numel():,} weights for it",
            "x = self.second(torch.relu(self.first(x)))     # a non-linearity between the two, or one layer",
        )


def _map(operation: Operation) -> tuple[int, int, int] | None:
    """Return numbers that enter and leave a trained linear map, and groups: a frozen one can't be merged."""
    if operation.name not in _LINEAR or len(operation.tensors) < 2:
        return None
    weight = operation.tensors[1]
    if not isinstance(weight, nn.Parameter) or weight.ndim < 2 or not weight.requires_grad:
        return None
    groups = getattr(operation.layer, "groups", operation.keywords.get("groups", 1))
    groups = groups if isinstance(groups, int) else 1
    leaving, entering = weight.shape[0], weight.shape[1]
    if operation.name.startswith("conv_transpose"):
        leaving, entering = entering, leaving
    elif operation.name != "linear" and groups == 1 and len(operation.arguments) > 6:
        groups = int(operation.arguments[6])
    return entering, leaving, groups


def _before(trace: Trace, operation: Operation) -> Operation | None:
    """Find the operation that an input comes from through the identity alone, if nothing else uses it on the way."""
    while True:
        tensor = operation.tensors[0]
        previous = trace.producer(tensor, operation)
        if previous is None or len(trace.consumers(tensor)) > 1:
            return None
        if previous.name not in REARRANGING and previous.name not in _TRANSPARENT:
            return previous
        if not previous.tensors:
            return None
        operation = previous


@rule("info", needs=("inputs",))
def bias_before_norm(subject: Subject) -> Seen:
    """A bias has no effect: the normalisation after it subtracts it again."""
    trace, kinds = subject.training_trace, nn.Linear | nn.modules.conv._ConvNd
    calls = {id(x): call for call in trace.calls if isinstance(call.layer, kinds) for x in call.outputs[:1]}
    for norm in trace.calls:
        if not _removes_a_bias(norm) or not norm.inputs:
            continue
        before = calls.get(id(norm.inputs[0]))
        if before is None or len(trace.consumers(norm.inputs[0])) > 1:
            continue
        bias = before.layer.bias
        # The features of a linear layer on [N, L, F] are not the norm's channels.
        per_position = isinstance(before.layer, nn.Linear) and norm.inputs[0].ndim > 2
        if not isinstance(bias, nn.Parameter) or not bias.requires_grad or per_position:
            continue
        yield (
            f"{before.where} before {norm.where}",
            f"its bias of {bias.numel()} numbers is subtracted again with the mean; its gradient is rounding noise",
            f"self.{before.path.rpartition('.')[2] or 'layer'} = nn.{type(before.layer).__name__}(…, bias=False)",
        )


def _removes_a_bias(call: Call) -> bool:
    """Tell whether a norm subtracts each channel's own mean."""
    layer = call.layer
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        return call.training or not layer.track_running_stats
    if isinstance(layer, nn.modules.instancenorm._InstanceNorm):
        return True
    return isinstance(layer, nn.GroupNorm) and layer.num_groups == layer.num_channels
