"""Initial values that are drawn by a generator which ``torch.manual_seed`` does not reach."""

import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from modelspace.doctor.finding import Observation
from modelspace.doctor.location import place
from modelspace.doctor.private import seed_all
from modelspace.doctor.rule import Inapplicable, Rule
from modelspace.doctor.subject import Subject

_NAMED = 4
_TRIES = 4
_UNKNOWN = (
    "no global generator but torch's drew numbers: it may be one of the model's own, such as np.random.default_rng() "
    "without a seed, or memory that nothing has written, as of torch.empty"
)


def _probe(subject: Subject) -> Iterator[Observation]:
    if subject.given_module:
        raise Inapplicable("a built module has drawn its values already: give its class")
    before = _states()
    first = _built(subject)
    advanced = [name for name, state in _states().items() if state != before[name]]
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
        named = ", ".join(f"{name} {how}" for name, how in list(differing.items())[:_NAMED])
        more = f" and {len(differing) - _NAMED} more" if len(differing) > _NAMED else ""
        evidence = f"differ in {named}{more}"
    else:
        evidence = f"have equal parameters and buffers, and outputs that differ by up to {gap:.3g}"
    drawn = f"{' and '.join(advanced)} drew numbers meanwhile" if advanced else _UNKNOWN
    owner = next(iter(differing), "")
    yield Observation(
        place(owner) if owner else subject.title,
        f"two constructions after torch.manual_seed({subject.seed}) {evidence}; {drawn}",
        "self.weight = nn.Parameter(torch.randn(3, 5))     # not np.random.randn: torch.manual_seed reaches it\n"
        "order = torch.randperm(n)     # not np.random.permutation, random.shuffle\n"
        "# or a generator that torch seeds\n"
        "rng = np.random.default_rng(int(torch.randint(2**31, ())))",
    )


def _states() -> dict[str, str]:
    return {
        "NumPy's global generator": str(np.random.get_state(legacy=False)),  # noqa: NPY002
        "Python's random": str(random.getstate()),
    }


def _built(subject: Subject) -> nn.Module:
    """What the user's own callable makes right after ``torch.manual_seed``; other generators go on as they are."""
    architecture = subject.architecture
    assert not isinstance(architecture.source, nn.Module)
    torch.manual_seed(subject.seed)
    module = architecture.source(**architecture.hyperparameters)
    return module if architecture.dtype is None else module.to(architecture.dtype)


def _differing(first: nn.Module, second: nn.Module) -> dict[str, str]:
    """Names of the parameters and buffers that are not equal, and how far they are apart."""
    one, other = _state(first), _state(second)
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


def _state(module: nn.Module) -> dict[str, Tensor]:
    # A lazy layer's values are drawn at its first forward.
    tensors = (*module.named_parameters(), *module.named_buffers())
    return {name: x.detach() for name, x in tensors if not is_lazy(x) and not x.is_sparse}


def _outputs_gap(subject: Subject, first: nn.Module, second: nn.Module) -> float:
    """How far the outputs of two modules are apart; 0 where they can't be compared."""
    if subject.shape is None or any(is_lazy(p) for p in first.parameters()):
        return 0.0
    outputs = []
    for module in (first, first, second):
        seed_all(subject.seed)
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


RULE = Rule(
    "unseeded-draws",
    "warning",
    "initial values are drawn by a generator that torch.manual_seed does not reach",
    _probe,
    needs=("values",),
)
