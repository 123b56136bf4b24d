"""Optimizers that do not have the model's parameters, each once; and weight decay on what has no need of it."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from modelspace.doctor.rule import Inapplicable, Seen, listed, rule
from modelspace.doctor.subject import Subject
from modelspace.errors import told

_NAMED = 4


def _trained(subject: Subject) -> tuple[nn.Module, list[torch.optim.Optimizer]]:
    """Return the module and its optimizers: the user's own, or new ones of a fresh module."""
    if isinstance(subject.optimizer, list):
        assert isinstance(subject.architecture.source, nn.Module)
        return subject.architecture.source, subject.optimizer
    module = subject.fresh(training=True)
    try:
        made: Any = subject.optimizer(module)
    except Exception as error:
        raise Inapplicable(f"optimizer= fails: {told(error)}") from None
    several = list(made) if isinstance(made, list | tuple) else [made]
    if not several or not all(isinstance(each, torch.optim.Optimizer) for each in several):
        raise Inapplicable(f"optimizer= returned a {type(made).__name__}, and no torch.optim optimizer")
    return module, several


def _held(optimizers: list[torch.optim.Optimizer]) -> list[Tensor]:
    return [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]


@rule("error", needs=("optimizer",))
def optimizer_coverage(subject: Subject) -> Seen:
    """The optimizer has not each of the model's parameters once."""
    module, optimizers = _trained(subject)
    names = {id(p): name for name, p in module.named_parameters()}
    held = _held(optimizers)
    times = Counter(map(id, held))
    missing = [(n, p) for n, p in module.named_parameters() if p.requires_grad and id(p) not in times]
    of_loss = {id(p) for p in subject.of_loss}
    strange = {id(p): p for p in held if id(p) not in names and id(p) not in of_loss}
    if missing:
        spare = Counter(tuple(p.shape) for p in strange.values())
        swapped = not Counter(tuple(p.shape) for _, p in missing) - spare
        why = (
            "; it has parameters of the same shapes that are not this model's: those of a copy, or of the model "
            "before a layer was replaced"
            if swapped
            else ""
        )
        yield (
            listed([name for name, _ in missing], _NAMED),
            f"{len(missing)} of {len(names)} parameters, {sum(p.numel() for _, p in missing):,} numbers, ask for a "
            f"gradient and no group has them: a step never moves them{why}",
            "optimizer = torch.optim.AdamW(net.parameters())     # after the last layer was put in its place\n"
            "# or, for what is to stay as it is\nnet.body.requires_grad_(False)",
        )
        strange = {} if swapped else strange
    twice = [names.get(key, "a tensor of another module") for key, count in times.items() if count > 1]
    if twice:
        yield (
            listed(twice, _NAMED),
            f"{len(twice)} parameter{'s are' if len(twice) > 1 else ' is'} held more than once: each step moves "
            f"{'them' if len(twice) > 1 else 'it'} as often, by a learning rate that nobody chose",
            "optimizer = torch.optim.AdamW([\n    {'params': net.body.parameters(), 'lr': 1e-4},\n"
            "    {'params': net.head.parameters(), 'lr': 1e-3},     # no parameter in two groups\n])",
        )
    if strange:
        yield (
            subject.title,
            f"{len(strange)} of the optimizer's tensors are neither the model's nor the loss's, of shape "
            f"{listed([str(list(p.shape)) for p in strange.values()], _NAMED)}",
            "optimizer = torch.optim.AdamW(net.parameters())     # this model's alone; or examine what has both",
            "info",
        )


@rule("info", needs=("optimizer",))
def decayed_biases(subject: Subject) -> Seen:
    """Weight decay pulls biases and the scales of norms towards 0."""
    module, optimizers = _trained(subject)
    names = {id(p): name for name, p in module.named_parameters()}
    decayed: dict[float, list[Tensor]] = {}
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        rate = float(group.get("weight_decay") or 0.0)
        if rate > 0:
            decayed.setdefault(rate, []).extend(p for p in group["params"] if id(p) in names and p.ndim < 2)
    for rate, found in decayed.items():
        if found:
            yield (
                listed([names[id(p)] for p in found], _NAMED),
                f"a weight decay of {rate:g} acts on {len(found)} biases and scales, "
                f"{sum(p.numel() for p in found):,} numbers: it bounds no function there, and pulls a scale to 0",
                "flat = [p for p in net.parameters() if p.ndim < 2]\n"
                "rest = [p for p in net.parameters() if p.ndim >= 2]\n"
                f"torch.optim.AdamW([{{'params': rest, 'weight_decay': {rate:g}}}, "
                "{'params': flat, 'weight_decay': 0.0}])",
            )
