"""The other side of every comparison with a population: the user's own class in a plain loop, member after member."""

import torch
from support import optimizers
from torch.nn.parameter import UninitializedParameter

from modelspace import losses
from modelspace.optimizers import exactly
from modelspace.reference import train

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


def trained(population, data, optimizer, *, steps, batch_size, loss, defaults=None, result=None, **settings):
    """The members' points and buffers after training each as a plain module, and their losses.

    ``result`` makes the result of a parameter and its state in the optimizer, where it is not the parameter.
    """
    space = population.space
    points, buffers, curves, made = [], [], [], []
    for member, row in enumerate(population.table.to_dict("records")):
        hyper = {**(defaults or {}), **{k: v for k, v in row.items() if k not in ("seed", "data_seed")}}
        module = built(population, member)
        inputs = data.train.inputs
        curves.append(
            train(
                module,
                inputs.to(space.dtype) if inputs.is_floating_point() else inputs,
                data.train.labels,
                losses.resolve(loss),
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
