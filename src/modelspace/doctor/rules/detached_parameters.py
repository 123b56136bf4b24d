"""Parameters that the forward uses and that are cut off from the loss."""

from collections.abc import Iterator

from modelspace.doctor.finding import Observation
from modelspace.doctor.reach import unreached
from modelspace.doctor.rule import Rule
from modelspace.doctor.subject import Subject

_NAMED = 6


def _probe(subject: Subject) -> Iterator[Observation]:
    used = unreached(subject).used
    groups: dict[str, list[str]] = {}
    for name, operation in used.items():
        groups.setdefault(f"{operation.where}\n{operation.name}", []).append(name)
    for key, names in groups.items():
        where, _, operation = key.partition("\n")
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        yield Observation(
            where,
            f"{', '.join(names[:_NAMED])}{more} take part in the forward and no gradient reaches them: "
            f"{_WORDS.get(operation, operation)} cuts them off",
            _FIXES.get(
                operation, "# compute it with gradients: no detach(), .data, no_grad() or numpy on the way"
            ),
        )


_WORDS = {
    "data": ".data",
    "detach": "detach()",
    "item": ".item()",
    "argmax": "argmax",
    "numpy": ".numpy()",
    "grad": "torch.autograd.grad without create_graph=True",
}
_FIXES = {
    "detach": "x = self.layer(x)     # without .detach()",
    "data": "x = self.layer(x)     # without .data",
    "argmax": "return scores     # to the loss; scores.argmax(1) only where a class is read",
    "item": "scale = self.scale     # the tensor itself, not self.scale.item()",
    "grad": "torch.autograd.grad(energy.sum(), x, create_graph=True)",
    "numpy": "x = torch.special.expit(x)     # torch's function instead of NumPy's",
}

RULE = Rule(
    "detached-parameters",
    "error",
    "parameters that the forward uses are cut off from the loss",
    _probe,
    needs=("inputs",),
)
