"""``verify``: train a handful of members both ways, as a population and plainly, and compare."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from modelspace import data as datasets
from modelspace import optimizers
from modelspace.construction import Source
from modelspace.data import Data, of_splits
from modelspace.engine import goal_of, probe
from modelspace.errors import ModelspaceError, first_line, the_users_told
from modelspace.losses import Loss, Objective, has_own
from modelspace.optimizers import SGD, Adam, Optimizer
from modelspace.space import ModelSpace, Population
from modelspace.verify.judge import of_torch
from modelspace.verify.record import TOLERANCES, Verification
from modelspace.verify.sides import Sides

# Optimizers that torch.optim has in a form of which an ordinary loop is not made.
_OTHERWISE = {
    "LBFGS": "torch.optim.LBFGS steps by a closure, on all data",
    "Muon": "torch.optim.Muon takes matrices alone, and the rest goes to a second optimizer",
}


@the_users_told()
def verify(
    space: Source,
    data: Any = None,
    *,
    loss: str | Loss | Callable[[Any, Any], Tensor] | None = None,
    objective: Objective | Callable[[Any, Any], Any] | Literal["model"] | None = None,
    optimizer: str | Optimizer | torch.optim.Optimizer | type[torch.optim.Optimizer] | None = None,
    members: int = 3,
    steps: int = 10,
    batch_size: int = 8,
    tokens: int | None = None,
    compile: bool = False,
) -> Verification:
    """Train a few members as a population and, one by one, as anyone would; compare points, buffers and outputs.

    The plain side is a judge of its own: ``torch.manual_seed(seed)``, your class (or the module given, which is
    restored after), an ordinary loop, ``torch.optim``. Of the engine it has the order of the batches alone; random
    numbers that a forward draws are matched by a mode around it. The population is computed under ``vmap``, all
    members at once and in shards of two, and one at a time; compiled too where that is asked for. Members differ in
    seed and learning rate. In float64 an error of 1e-9 is allowed, in float32 of 1e-4; where a network itself grows
    rounding to more, ten times what its plain loop makes of parameters disturbed in their last digit.

    Args:
        space: The architecture: a space, or a class, factory, module or target (``"net.py:Net"``) that takes the
            data's samples.
        data: What ``modelspace.data.load`` takes; random samples of the space's ``input_shape`` where None.
        loss: Cross-entropy for class labels and squared error for numbers where None.
        objective: In place of a loss, as of ``fit``; in evaluation mode its values are compared, and not the outputs.
        optimizer: Tried beside SGD with momentum, whose updates are as exact as the gradients, and Adam: any of
            ``torch.optim`` but LBFGS and Muon.
        members: Members to train both ways.
        steps: Updates.
        batch_size: Samples a step.
        tokens: With random samples, what integer inputs are below.
        compile: Whether the compiled step is one of the ways.

    Returns:
        Errors by type, optimizer and step, the lowering of each operation, what has no batched form, where the sides
        part, and the speed measured.

    Raises:
        ModelspaceError: the architecture does not train in plain PyTorch either; the message is its own. Or an
            optimizer that ``torch.optim`` doesn't have, several objectives, or a population.
    """
    if min(members, steps, batch_size) < 1:
        raise ModelspaceError(
            f"members, steps and batch are at least 1; received {members}, {steps}, {batch_size}"
        )
    tried = _tried(optimizer)
    if isinstance(objective, Mapping):
        names = " or ".join(f"objective={name}" for name in objective)
        raise ModelspaceError(f"several objectives are held against the plain loop one at a time: {names}")
    if isinstance(space, Population):
        raise ModelspaceError("verify draws members of its own: give their space, population.space")
    if not isinstance(space, ModelSpace):
        data = data if data is None else datasets.load(data)
        sample = {} if data is None else {"input_shape": data.input_shape, "input_dtype": data.input_dtype}
        space = ModelSpace(space, **sample)
    found, left_out, notes, sides = [], {}, {}, None
    for dtype, tolerance in TOLERANCES.items():
        name = str(dtype).removeprefix("torch.")
        try:
            cast = space.in_dtype(dtype)
            material = (
                made_data(cast, 4 * batch_size, tokens=tokens) if data is None else datasets.load(data).held
            )
            goal = made_goal(cast, material, loss, objective)
            sides = Sides(cast, material, goal, members, steps, batch_size, compile)
            found += [sides.errors(name, tolerance, each) for each in tried]
            notes |= dict.fromkeys(sides.notes)
        except (ModelspaceError, RuntimeError) as error:
            left_out[name] = first_line(error)
    if sides is None or not found:
        raise ModelspaceError(f"{space.title} can't be trained: {next(iter(left_out.values()))}")
    plan, population_seconds = sides.speed()
    different = sides.refused is not None or not all(each.within for each in found)
    return Verification(
        space=space.title,
        dimension=space.dimension,
        members=members,
        steps=steps,
        batch_size=batch_size,
        data=sides.data.name,
        loss=sides.task.recipe.loss.name,
        lowering=sides.lowering,
        compiled="compiled" in sides.ways,
        ways=tuple(sides.ways),
        fallbacks=sides.fallbacks,
        operations=dict(sides.task.function.operations),
        errors=tuple(found),
        left_out=left_out,
        notes=tuple(notes),
        refused=sides.refused,
        parted=sides.parted() if different else None,
        plan=plan,
        loop_seconds=sides.loop_seconds(),
        population_seconds=population_seconds,
    )


def _tried(
    optimizer: str | Optimizer | torch.optim.Optimizer | type[torch.optim.Optimizer] | None,
) -> list[Optimizer]:
    """SGD, Adam, and the optimizer that was asked for."""
    asked = [] if optimizer is None else [optimizers.resolve(optimizer)]
    if asked and of_torch(asked[0]) is None:
        name = type(asked[0]).__name__
        why = _OTHERWISE.get(name, f"torch.optim has no {name}")
        raise ModelspaceError(
            f"{why}: there is no plain loop of one to hold the architecture against; give another optimizer (this "
            "one itself is held by modelspace.optimizers.check)"
        )
    return list(dict.fromkeys([SGD(momentum=0.9), Adam(), *asked]))


# Data made up for an architecture: enough to train it for a few steps


def made_data(space: ModelSpace, samples: int, *, tokens: int | None = None) -> Data:
    """Random samples of the space's shape, with labels that its outputs can be held against.

    Inputs are standard normal numbers, or integers below ``tokens``. Outputs of shape ``[batch, C]``, C ≥ 2, get
    class labels; any other shape gets normal numbers of that shape.

    Args:
        space: Its ``input_shape`` is needed.
        samples: In the training split.
        tokens: What integer inputs are below; 2 where None.

    Raises:
        ModelspaceError: no ``input_shape``, or the forward fails.
    """
    if space.input_shape is None:
        raise ModelspaceError(f"one sample's shape of {space.name} is needed: give input_shape=(3, 32, 32)")
    generator = torch.Generator().manual_seed(0)
    shape = space.input_shape

    def inputs(count: int) -> Tensor:
        if space.input_dtype.is_floating_point:
            return torch.randn(count, *shape, generator=generator, dtype=torch.float64).to(space.dtype)
        return torch.randint(tokens or 2, (count, *shape), generator=generator)

    outputs = probe(space.draw(0), inputs(2))

    def labels(count: int) -> Tensor:
        if is_classifying(outputs):
            return torch.randint(outputs.shape[1], (count,), generator=generator)
        return torch.randn(count, *outputs.shape[1:], generator=generator, dtype=torch.float64).to(
            space.dtype
        )

    parts = {name: (inputs(n), labels(n)) for name, n in (("train", samples), ("validation", 2), ("test", 2))}
    return of_splits(**parts, name="random samples")


def is_classifying(outputs: Tensor) -> bool:
    """Whether outputs look like scores of classes."""
    return outputs.dim() == 2 and outputs.shape[1] >= 2 and outputs.is_floating_point()


def made_goal(space: ModelSpace, data: Data, loss: Any, objective: Any) -> Loss:
    """What is minimised, as of ``fit``; but squared error where labels are numbers and nothing is given."""
    labels = data.train.labels
    if loss is None and objective is None and not has_own(space.template):
        loss = "mse" if isinstance(labels, Tensor) and labels.is_floating_point() else None
    return goal_of(space.sample([0]), data, loss, objective)
