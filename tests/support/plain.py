"""The other side of every comparison with a population: the user's own class in a plain loop, member after member."""

from dataclasses import dataclass, field, replace

import torch
from support import optimizers
from torch.nn.parameter import UninitializedParameter

from modelspace import losses
from modelspace.losses import Objective, objective_of
from modelspace.optimizers import exactly
from modelspace.reference import train
from modelspace.space import samples_as

OPTIMIZERS = {
    "sgd": lambda p, **h: torch.optim.SGD(p, **h),
    "nesterov": lambda p, **h: torch.optim.SGD(p, nesterov=True, **h),
    "adam": lambda p, **h: torch.optim.Adam(p, **h),
    "amsgrad": lambda p, **h: torch.optim.AdamW(p, amsgrad=True, **h),
    "rmsprop": lambda p, **h: torch.optim.RMSprop(p, centered=True, **h),
    **{
        kind.__name__.lower(): lambda p, kind=kind, **h: exactly(kind(p, **h))
        for kind in (
            *(torch.optim.NAdam, torch.optim.RAdam, torch.optim.Adamax, torch.optim.Adagrad),
            *(torch.optim.Adadelta, torch.optim.Rprop, torch.optim.ASGD, torch.optim.Adafactor),
            *(optimizers.Lion, optimizers.LAMB, optimizers.ScheduleFreeSGD, optimizers.ScheduleFreeAdamW),
        )
    },
    "muon": lambda p, **h: optimizers.Muon(p, **h),
    "lbfgs": lambda p, **h: optimizers.LBFGS(p, history_size=5, **h),
}


def built(population, member):
    """What anyone would write, with the member's numbers put in: nothing of the engine, no copy of anything."""
    space = population.space
    with torch.random.fork_rng():
        torch.manual_seed(int(population.table["seed"][member]))
        module = space.architecture(**space.hyperparameters).to(space.dtype)
        if any(isinstance(p, UninitializedParameter) for p in module.parameters()):
            module(torch.zeros(1, *space.input_shape, dtype=space.sample_dtype))
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    with torch.no_grad():
        for block in space.layout:
            row = population.points[member, block.start : block.stop]
            own[block.name].copy_(row.view(block.shape))
        for name, values in population.buffers.items():
            own[name].copy_(values[member])
    return module


@dataclass(frozen=True, eq=False)
class Noted(Objective):
    """An objective that notes what it names beside its loss, batch after batch."""

    notes: list[dict[str, float]] = field(default_factory=list)

    def made(self, model, inputs, labels):
        made = super().made(model, inputs, labels)
        self.notes.append({name: value.item() for name, value in made.items()})
        return made


def trained(
    population,
    data,
    optimizer,
    *,
    steps,
    batch_size,
    loss=None,
    objective=None,
    defaults=None,
    result=None,
    notes=None,
    **settings,
):
    """The members' points and buffers after training each as a plain module, and their losses.

    ``result`` makes the result of a parameter and its state in the optimizer, where it is not the parameter. What an
    objective names is put into the list ``notes``, a list of batches for each member.
    """
    space = population.space
    points, buffers, curves, made = [], [], [], []
    goal = losses.resolve(loss) if objective is None else replace(objective_of(objective), form=data.form)
    for member, row in enumerate(population.table.to_dict("records")):
        hyper = {**(defaults or {}), **{k: v for k, v in row.items() if k not in ("seed", "data_seed")}}
        own = goal
        if isinstance(goal, Objective):
            terms = {name: hyper.pop(name) for name in goal.hyperparameters() if name in hyper}
            own = Noted(**vars(goal)).at(terms)
        module = built(population, member)
        curves.append(
            train(
                module,
                samples_as(data.train.inputs, space.dtype),
                data.train.labels,
                own,
                lambda parameters, hyper=hyper: (
                    made.append(OPTIMIZERS[optimizer](parameters, **hyper)) or made[-1]
                ),
                steps=steps,
                batch_size=batch_size,
                seed=row["seed"],
                data_seed=row.get("data_seed", 0),
                **settings,
            )
        )
        if notes is not None:
            notes.append(getattr(own, "notes", []))
        last = [p for p in module.parameters() if p.requires_grad]
        if result is not None:
            last = [result(p, made[-1].state[p]) for p in module.parameters() if p.requires_grad]
        points.append(torch.cat([p.detach().reshape(-1) for p in last]))
        buffers.append(
            {name: module.state_dict(keep_vars=True)[name].detach() for name in space.buffer_shapes}
        )
    stacked = {name: torch.stack([b[name] for b in buffers]) for name in space.buffer_shapes}
    return torch.stack(points), stacked, torch.tensor(curves, dtype=torch.float64)


def relative_error(received, expected):
    """‖received − expected‖ over ‖expected‖, the largest over the rows."""
    rows = (expected.reshape(len(expected), -1).double(), received.reshape(len(received), -1).double())
    difference = (rows[1] - rows[0]).norm(dim=1)
    return float((difference / rows[0].norm(dim=1).clamp_min(1e-30)).max())
