"""Statistics over a single value, where a batch has one sample."""

from collections.abc import Iterator

from torch import nn

from modelspace.doctor.finding import Observation
from modelspace.doctor.location import place
from modelspace.doctor.rule import Rule
from modelspace.doctor.subject import Subject


def _probe(subject: Subject) -> Iterator[Observation]:
    trace = subject.traced(training=True, batch=1)
    for call in trace.calls:
        if (
            not isinstance(call.layer, nn.modules.batchnorm._BatchNorm)
            or not call.training
            or not call.inputs
        ):
            continue
        x = call.inputs[0]
        if x.ndim > 1 and x.numel() == x.shape[1]:
            yield Observation(
                place(call.path, kind=type(call.layer).__name__),
                f"in training, a batch of one sample leaves it {list(x.shape)}, one value a channel, which has no "
                "variance" + (f": it raises ({trace.failure})" if trace.failure is not None else ""),
                "loader = DataLoader(data, batch_size=32, drop_last=True)     # no last batch of one sample\n"
                "# or, for batches of one\nself.norm = nn.GroupNorm(1, channels)",
            )
            return


RULE = Rule(
    "batch-norm-single",
    "warning",
    "training on a batch of one sample fails, or normalises a single value",
    _probe,
)
