"""Random numbers where none should be: in evaluation, and from generators that no seed of PyTorch's reaches."""

import re

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from modelspace.doctor.rule import Inapplicable, Seen, listed, rule
from modelspace.doctor.samples import other_generators
from modelspace.doctor.subject import Subject, state_of
from modelspace.doctor.trace import place

# The same kernels on the same numbers differ by nothing; threads may add up in another order.
_TOLERANCE = 1e-5
# Parts of the names of operations that draw.
_DRAWING = re.compile("rand|dropout|normal|bernoulli|multinomial|uniform|fractional|exponential|rrelu")


@rule("warning")
def nondeterminism(subject: Subject) -> Seen:
    """Two evaluations of the same inputs differ."""
    inputs, module = subject.inputs(), subject.fresh()
    first, again = (subject.run(inputs, module=module) for _ in range(2))
    if _differ(first, again):
        evidence = (
            f"the second evaluation of the same inputs differs by up to {_gap(first, again)}, with the "
            "same random numbers: the forward changes the model, in evaluation mode"
        )
    else:
        other = subject.run(inputs, seed=subject.seed + 1)
        if not _differ(first, other):
            return
        evidence = f"another random state changes the outputs of evaluation by up to {_gap(first, other)}"
    drawing = (o for o in subject.trace.operations if _DRAWING.search(o.name))
    operation = next(drawing, None)
    yield (
        operation.where if operation is not None else subject.title,
        evidence + (f"; {operation.name} draws random numbers" if operation is not None else ""),
        "if self.training:\n    x = x + 0.1 * torch.randn_like(x)     # noise in training only\n"
        "x = F.dropout(x, 0.5, training=self.training)",
    )


def _differ(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return True
    size = float(a.double().abs().max()) or 1.0
    return float((a.double() - b.double()).abs().max()) > _TOLERANCE * size


def _gap(a: Tensor, b: Tensor) -> str:
    return f"{float((a - b).double().abs().max()):.3g}" if a.shape == b.shape else "its whole shape"


_NAMED, _TRIES = 4, 4
_UNKNOWN = (
    "no global generator but torch's drew numbers: it may be one of the model's own, such as np.random.default_rng() "
    "without a seed, or memory that nothing has written, as of torch.empty"
)


@rule("warning", needs=("values",))
def unseeded_draws(subject: Subject) -> Seen:
    """Initial values are drawn by a generator that torch.manual_seed does not reach."""
    if subject.given_module:
        raise Inapplicable("a built module has drawn its values already: give its class")
    before = other_generators()
    first = _built(subject)
    advanced = [name for name, state in other_generators().items() if state != before[name]]
    # What is chosen among a few, such as an activation, may be chosen twice.
    for _ in range(_TRIES if advanced else 1):
        second = _built(subject)
        differing = _differing(first, second)
        gap = 0.0 if differing else _outputs_gap(subject, first, second)
        if differing or gap:
            break
    else:
        return
    if differing:
        evidence = f"differ in {listed((f'{name} {how}' for name, how in differing.items()), _NAMED)}"
    else:
        evidence = f"have equal parameters and buffers, and outputs that differ by up to {gap:.3g}"
    drawn = f"{' and '.join(advanced)} drew numbers meanwhile" if advanced else _UNKNOWN
    owner = next(iter(differing), "")
    yield (
        place(owner) if owner else subject.title,
        f"two constructions after torch.manual_seed({subject.seed}) {evidence}; {drawn}",
        "self.weight = nn.Parameter(torch.randn(3, 5))     # not np.random.randn: torch.manual_seed reaches it\n"
        "order = torch.randperm(n)     # not np.random.permutation, random.shuffle\n"
        "# or a generator that torch seeds\n"
        "rng = np.random.default_rng(int(torch.randint(2**31, ())))",
    )


def _built(subject: Subject) -> nn.Module:
    """Call the user's own callable right after ``torch.manual_seed``; other generators go on as they are."""
    architecture = subject.architecture
    assert not isinstance(architecture.source, nn.Module)
    torch.manual_seed(subject.seed)
    module = architecture.source(**architecture.hyperparameters)
    return module if architecture.dtype is None else module.to(architecture.dtype)


def _differing(first: nn.Module, second: nn.Module) -> dict[str, str]:
    """Return the names of parameters and buffers that are not equal, and how far they are apart."""
    one, other = (
        {name: x for name, x in state_of(module).items() if not x.is_sparse} for module in (first, second)
    )
    found: dict[str, str] = {}
    for name in dict.fromkeys((*one, *other)):
        a, b = one.get(name), other.get(name)
        if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
            found[name] = "in its shape"
        elif not torch.equal(a, b):
            apart = (a.to(torch.complex128) - b.to(torch.complex128)).abs().nan_to_num(0.0).max()
            if float(apart) > 0:
                found[name] = f"by up to {float(apart):.3g}"
    return found


def _outputs_gap(subject: Subject, first: nn.Module, second: nn.Module) -> float:
    """Return how far the outputs of two modules are apart; 0 where they can't be compared."""
    if subject.shape is None or any(is_lazy(p) for p in first.parameters()):
        return 0.0
    outputs = []
    for module in (first, first, second):
        try:
            outputs.append(subject.run(subject.inputs(), module=module.eval()).to(torch.complex128))
        except Exception:
            return 0.0
    one, again, other = outputs
    if one.shape != again.shape or not torch.allclose(one, again):
        return 0.0  # nondeterminism says more
    if one.shape != other.shape:
        return float("inf")
    gap = float((one - other).abs().max())
    return gap if gap > 1e-5 * float(one.abs().max()) else 0.0
