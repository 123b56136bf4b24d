"""A bias that the normalisation after it removes."""

from collections.abc import Iterator

from torch import nn

from modelspace.doctor.finding import Observation
from modelspace.doctor.location import place
from modelspace.doctor.rule import Rule
from modelspace.doctor.subject import Subject
from modelspace.doctor.trace import Call

_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


def _probe(subject: Subject) -> Iterator[Observation]:
    trace = subject.training_trace
    calls = {id(x): call for call in trace.calls if isinstance(call.layer, _LAYERS) for x in call.outputs[:1]}
    for norm in trace.calls:
        if not _removes_a_bias(norm) or not norm.inputs:
            continue
        before = calls.get(id(norm.inputs[0]))
        if before is None or len(trace.consumers(norm.inputs[0])) > 1:
            continue
        bias = before.layer.bias
        if not isinstance(bias, nn.Parameter) or not bias.requires_grad or _per_position(before, norm):
            continue
        yield Observation(
            f"{place(before.path, kind=type(before.layer).__name__)} before "
            f"{place(norm.path, kind=type(norm.layer).__name__)}",
            f"its bias of {bias.numel()} numbers is subtracted again with the mean; its gradient is rounding noise",
            f"self.{before.path.rpartition('.')[2] or 'layer'} = nn.{type(before.layer).__name__}(…, bias=False)",
        )


def _removes_a_bias(call: Call) -> bool:
    """Whether a norm subtracts each channel's own mean."""
    layer = call.layer
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        return call.training or not layer.track_running_stats
    if isinstance(layer, nn.modules.instancenorm._InstanceNorm):
        return True
    return isinstance(layer, nn.GroupNorm) and layer.num_groups == layer.num_channels


def _per_position(before: Call, norm: Call) -> bool:
    """Whether the layer's features are not the norm's channels, as for a linear layer on [N, L, F]."""
    return isinstance(before.layer, nn.Linear) and norm.inputs[0].ndim > 2


RULE = Rule(
    "bias-before-norm",
    "info",
    "a bias has no effect: the normalisation after it subtracts it again",
    _probe,
    needs=("inputs",),
)
