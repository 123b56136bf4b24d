"""Parameters that no gradient reaches: unused, cut off from the loss, or frozen."""

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

from modelspace.doctor.rule import Seen, listed, rule
from modelspace.doctor.subject import BATCH, Subject
from modelspace.doctor.trace import Operation, Trace, tensors_in
from modelspace.losses import leaves

# Draws, in both modes: a branch that one draw does not take, or an expert that gets no sample, is not unused.
_DRAWS, _BATCH = 3, 32
# How many names a sentence holds.
_NAMED = 6
_CUT_BY = {
    "data": (".data", "x = self.layer(x)     # without .data"),
    "detach": ("detach()", "x = self.layer(x)     # without .detach()"),
    "item": (".item()", "scale = self.scale     # the tensor itself, not self.scale.item()"),
    "argmax": ("argmax", "return scores     # to the loss; scores.argmax(1) only where a class is read"),
    "numpy": (".numpy()", "x = torch.special.expit(x)     # torch's function instead of NumPy's"),
    "grad": (
        "torch.autograd.grad without create_graph=True",
        "torch.autograd.grad(energy.sum(), x, create_graph=True)",
    ),
}


@rule("warning", needs=("inputs",))
def unused_parameters(subject: Subject) -> Seen:
    """Parameters are registered that the forward never uses."""
    parameters = dict(subject.trace.module.named_parameters())
    missed = _unreached(subject)
    vanishing = [name for name in missed if _vanishes(subject, name)]
    unused = [n for n in missed if n not in vanishing and _cut(subject.trace, parameters[n]) is None]

    def described(names: list[str]) -> tuple[list[str], str]:
        owners = dict.fromkeys(name.rpartition(".")[0] or name for name in names[:_NAMED])
        return list(owners), f"{listed(names, _NAMED)}: {sum(parameters[n].numel() for n in names):,} numbers"

    if unused:
        owners, what = described(unused)
        yield (
            ", ".join(owners),
            f"{what} that the forward never uses, or whose result it drops, in either mode and at "
            "several seeds; no gradient reaches them",
            f"# either use it in the forward\nx = self.{owners[0]}(x)\n# or leave it out of __init__",
        )
    if vanishing:
        owners, what = described(vanishing)
        yield (
            ", ".join(owners),
            f"{what} that move no output: the forward returns a derivative, in which an added "
            "constant disappears",
            "nn.Linear(width, 1, bias=False)     # where no energy is returned beside its derivative",
            "info",
        )


@rule("error", needs=("inputs",))
def detached_parameters(subject: Subject) -> Seen:
    """Parameters that the forward uses are cut off from the loss."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name in _unreached(subject):
        cut = _cut(subject.trace, subject.trace.module.get_parameter(name))
        if cut is not None and not _vanishes(subject, name):
            groups.setdefault((cut.where, cut.name), []).append(name)
    for (where, operation), names in groups.items():
        otherwise = "# compute it with gradients: no detach(), .data, no_grad() or numpy on the way"
        word, fix = _CUT_BY.get(operation, (operation, otherwise))
        yield (
            where,
            f"{listed(names, _NAMED)} take part in the forward and no gradient reaches them: {word} cuts them off",
            fix,
        )


def _unreached(subject: Subject) -> list[str]:
    """Name the trainable parameters that no gradient of anything that the forward returns reaches, in any draw."""
    trace = subject.trace
    out = {name for name, p in trace.module.named_parameters() if p.requires_grad} - _reached(trace)
    batch = BATCH if subject.too_large or not out else subject.affordable(_BATCH, 2 * _DRAWS)
    for seed in subject.each_seed(1 if subject.too_large else _DRAWS):
        for training in (False, True):
            if not out:
                return []
            other = subject.traced(training=training, batch=batch, seed=seed)
            if other.failure is None:
                out -= _reached(other)
            if out and other.failure is None and other.backward_failure is None:
                out -= {name for name, p in other.module.named_parameters() if p.grad is not None}
    return [name for name, _ in trace.module.named_parameters() if name in out]


def _reached(trace: Trace) -> set[str]:
    ids = {id(x) for x in leaves(*tensors_in(trace.result))}
    return {name for name, p in trace.module.named_parameters() if id(p) in ids}


def _vanishes(subject: Subject, name: str) -> bool:
    """Tell whether a forward that takes derivatives uses a parameter whose other values give the same outputs."""
    trace = subject.trace
    parameter = trace.module.get_parameter(name)
    # It does so by ``torch.autograd.grad``, or by a transform of ``torch.func``.
    differentiates = any(
        operation.name in ("grad", "make_dual")
        or any(is_functorch_wrapped_tensor(x) for x in operation.tensors)
        for operation in trace.operations
    )
    if subject.too_large or not differentiates:
        return False
    if not any(x is parameter for operation in trace.operations for x in operation.tensors):
        return False
    module, inputs = subject.fresh(), subject.inputs()
    before = subject.run(inputs, module=module)
    with torch.no_grad():
        moved = module.get_parameter(name)
        moved += 1 + moved.abs()
    return torch.allclose(before, subject.run(inputs, module=module), rtol=1e-4, atol=1e-6)


def _cut(trace: Trace, parameter: Tensor) -> Operation | None:
    """Find the operation after which nothing of a parameter carries a gradient; None where its result is dropped."""
    carrying = {id(parameter)}
    last: Operation | None = None
    for operation in trace.operations:
        if not any(id(x) in carrying for x in operation.tensors):
            continue
        if operation.cuts:
            last = operation
            continue
        carrying |= {id(x) for x in operation.outputs if x.requires_grad}
    return last


@rule("error", needs=())
def frozen_parameters(subject: Subject) -> Seen:
    """What must be trained is frozen: everything, or the last layer."""
    parameters = list(subject.skeleton.parameters())
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    frozen = sum(p.numel() for p in parameters if not p.requires_grad)
    if not frozen:
        return
    if not trainable:
        yield (
            subject.title,
            f"all {len(parameters)} parameters, {frozen:,} numbers, have requires_grad = False: nothing is trained",
            "for parameter in model.fc.parameters():\n    parameter.requires_grad = True",
        )
        return
    if subject.shape is None or subject.trace.failure is not None:
        return
    calls = [call for call in subject.trace.calls if any(True for _ in call.layer.parameters(recurse=False))]
    # Adapters train little beside a frozen base, last layer included: that is meant. A frozen last layer above
    # a network that is mostly trained is not.
    if calls and trainable > frozen and not any(p.requires_grad for p in calls[-1].layer.parameters(False)):
        yield (
            calls[-1].where,
            f"the last layer has requires_grad = False and the {trainable:,} numbers before it are trained: a head "
            "that is drawn at random stays so",
            f"for parameter in model.{calls[-1].path}.parameters():\n    parameter.requires_grad = True",
            "warning",
        )
