"""Products of second derivatives against explicit matrices, other libraries, and differences where autograd errs."""

import importlib.util
import re
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import networks
from support.cases import SAMPLES, DummyNet, mlp, named
from support.plain import relative_error
from support.sampled import sampled
from torch import nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

import modelspace as ms
from modelspace.data import Data, Split
from modelspace.engine import Derivatives, goal_of
from modelspace.space import samples_as

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch.func.jvp
CROSS_ENTROPY = ms.losses.resolve("cross_entropy")


def normal(*shape, seed=7, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def posed(make, shape=(6,), members=3, samples=12, classes=3, **settings):
    """Members of a network, samples with labels, and their derivatives."""
    population = ms.ModelSpace(make, input_shape=shape, dtype=torch.float64).sample(seeds=members)
    inputs = normal(samples, *shape, seed=1)
    labels = torch.arange(samples) % classes
    settings = {"loss": CROSS_ENTROPY, "compile": False, **settings}
    return population, inputs, labels, Derivatives(population, inputs, labels, **settings)


def of_case(case, **settings):
    """The same of a case of the contracts."""
    population = case.space(torch.float64).sample(seeds=3).with_columns(**case.columns)
    data = case.data()
    goal = goal_of(population, data, case.loss, case.objective)
    inputs, labels = samples_as(data.train.inputs, torch.float64), data.train.labels
    settings = {"compile": False, "batch_size": SAMPLES, **settings}
    return population, inputs, labels, goal, Derivatives(population, inputs, labels, goal, **settings)


def function_of(module, inputs):
    """A plain module's outputs as a function of its point."""
    blocks = [(name, p.shape) for name, p in module.named_parameters()]

    def outputs(point):
        parts = point.split([shape.numel() for _, shape in blocks])
        named = {name: part.view(shape) for (name, shape), part in zip(blocks, parts, strict=True)}
        return functional_call(module.eval(), named, (inputs,))

    return outputs


def explicit(operator, outputs, point, labels):
    """The whole matrix, by ``torch.func``: of the outputs as a function of the point."""
    if operator == "hessian":
        return torch.func.hessian(lambda p: F.cross_entropy(outputs(p), labels))(point)
    if operator == "fisher":
        rows = torch.func.jacrev(lambda p: F.cross_entropy(outputs(p), labels, reduction="none"))(point)
        return rows.T @ rows / len(labels)
    rows, z = torch.func.jacrev(outputs)(point).flatten(0, 1), outputs(point)
    curved = torch.func.hessian(lambda z: F.cross_entropy(z, labels))(z)
    return rows.T @ curved.reshape(len(rows), -1) @ rows


@pytest.mark.parametrize(
    "name", ["MLP tanh", *sampled(["attention", "LayerNorm GroupNorm", "tied embedding"], 9)]
)
@pytest.mark.parametrize("operator", ["gauss-newton", "fisher"])
def test_gauss_newton_and_fisher_are_made_of_jacobians(name, operator):
    population, inputs, labels, _, derivatives = of_case(named(name), operator=operator)
    vectors = normal(*population.points.shape)
    product = derivatives.product(population.points, population.buffers, vectors)
    assert (derivatives.fallback, derivatives.finite) == (None, None)
    for k, module in enumerate(population.modules()):
        whole = explicit(operator, function_of(module, inputs), population.points[k], labels)
        assert relative_error(product[k][None], (whole @ vectors[k])[None]) <= 1e-10


def test_a_batch_of_256_dummynets_is_torch_func_s_hessian():
    population, inputs, labels, derivatives = posed(DummyNet, (3, 7, 7), members=256, samples=4, classes=10)
    vectors = normal(*population.points.shape)
    product = derivatives.product(population.points, population.buffers, vectors)
    for k in (0, 100, 255):
        outputs = function_of(population.module(k), inputs)
        slope = torch.func.grad(lambda p, outputs=outputs: F.cross_entropy(outputs(p), labels))
        _, expected = torch.func.jvp(slope, (population.points[k],), (vectors[k],))
        assert relative_error(product[k][None], expected[None]) <= 1e-10


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("curvlinops"), reason="curvlinops is not installed")
@pytest.mark.parametrize("operator", ["hessian", "gauss-newton", "fisher"])
def test_256_dummynets_are_curvlinops(operator):
    import curvlinops

    kinds = {
        "hessian": "HessianLinearOperator",
        "gauss-newton": "GGNLinearOperator",
        "fisher": "EFLinearOperator",
    }
    population, inputs, labels, derivatives = posed(
        DummyNet, (3, 7, 7), members=256, samples=20, classes=10, operator=operator
    )
    vectors = normal(*population.points.shape)
    product = derivatives.product(population.points, population.buffers, vectors)
    for k in range(0, 256, 17):
        module = population.module(k).eval()
        parameters = [p for p in module.parameters() if p.requires_grad]
        made = getattr(curvlinops, kinds[operator])
        theirs = made(module, nn.CrossEntropyLoss(), parameters, [(inputs, labels)]) @ vectors[k]
        assert relative_error(product[k][None], theirs[None]) <= 1e-9


@pytest.mark.slow
def test_one_dummynet_is_torch_func_s_whole_hessian():
    population, inputs, labels, derivatives = posed(DummyNet, (3, 7, 7), members=1, samples=3, classes=10)
    whole = explicit("hessian", function_of(population.module(0), inputs), population.points[0], labels)
    vectors = normal(64, population.space.dimension)
    points = population.points.expand(64, -1)
    assert relative_error(derivatives.product(points, {}, vectors), vectors @ whole) <= 1e-10


def twice(module, inputs, labels, vector):
    """Autograd twice on a plain module, as anyone would write it."""
    leaves = list(module.parameters())
    slopes = torch.autograd.grad(F.cross_entropy(module(inputs), labels), leaves, create_graph=True)
    along = torch.cat([g.reshape(-1) for g in slopes]) @ vector
    return torch.cat([g.reshape(-1) for g in torch.autograd.grad(along, leaves)])


def differences(module, inputs, labels, vector, step=1e-6):
    """Central differences of a plain module's gradient."""
    leaves, sides = list(module.parameters()), []
    point = torch.cat([p.detach().reshape(-1) for p in leaves])
    for sign in (1, -1):
        nn.utils.vector_to_parameters(point + sign * step * vector, leaves)
        slopes = torch.autograd.grad(F.cross_entropy(module(inputs), labels), leaves)
        sides.append(torch.cat([g.reshape(-1) for g in slopes]))
    nn.utils.vector_to_parameters(point, leaves)
    return (sides[0] - sides[1]) / (2 * step)


@pytest.mark.parametrize("way", ["batched", "loop"])
def test_pytorch_s_own_double_backward_of_weight_norm_is_wrong_and_ours_is_not(way, monkeypatch):
    if way == "loop":
        monkeypatch.setattr(sys.modules[Derivatives.__module__], "_HANDFUL", 10**9)
    population, inputs, labels, derivatives = posed(networks.weight_normalised, members=2)
    vectors = normal(*population.points.shape)
    product = derivatives.product(population.points, population.buffers, vectors)
    expected = torch.stack(
        [differences(m, inputs, labels, v) for m, v in zip(population.modules(), vectors, strict=True)]
    )
    autograd = torch.stack(
        [twice(m, inputs, labels, v) for m, v in zip(population.modules(), vectors, strict=True)]
    )
    assert relative_error(autograd, expected) > 1e-3
    assert relative_error(product, expected) <= 1e-7
    if way == "batched":
        assert (derivatives.fallback, derivatives.finite) == (None, None)
    else:
        assert derivatives.fallback == "a member alone fills the processor"
        assert "second derivative is another than that of the gradient" in derivatives.finite


class Once(networks.Sine):
    """Sine whose backward PyTorch refuses to differentiate."""

    backward = staticmethod(once_differentiable(networks.Sine.backward))


class Wrong(networks.Sine):
    """Sine whose backward forgets what it depends on."""

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return x.detach().cos() * gradient


class Far(nn.Module):
    """PyTorch has no second derivative of it."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(6, 8), nn.Linear(1, 3)

    def forward(self, x):
        parts = torch.tanh(self.first(x)).view(-1, 2, 4)
        return self.head(torch.stack([F.pdist(part) for part in parts.unbind()]))


WRONG = "autograd's second derivative is another than that of the gradient, by "


@pytest.mark.parametrize("operator", ["hessian", "gauss-newton"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: networks.Custom(Once), WRONG),
        (lambda: networks.Custom(Wrong), WRONG),
        (Far, "no second derivative: .*_pdist_backward"),
    ],
    ids=["once", "wrong", "none"],
)
def test_what_has_no_second_derivative_is_differences_and_said(make, why, dtype, operator, capsys):
    population = ms.ModelSpace(make, input_shape=(6,), dtype=dtype).sample(seeds=3)
    inputs, labels = normal(12, 6, seed=1), torch.arange(12) % 3
    derivatives = Derivatives(population, inputs, labels, CROSS_ENTROPY, operator=operator, compile=False)
    assert derivatives.fallback is None
    vectors = normal(*population.points.shape)
    product = derivatives.product(population.points, {}, vectors.to(dtype))
    if operator == "hessian" or derivatives.finite is not None:
        assert re.match(why, derivatives.finite)
        said = f"{population.space.title} are finite differences of its gradients: {derivatives.finite}"
        assert said in capsys.readouterr().err
    if operator == "hessian":
        modules = population.in_dtype(torch.float64).modules()
        expected = [differences(m, inputs, labels, v) for m, v in zip(modules, vectors, strict=True)]
        tolerance = {torch.float64: 1e-7, torch.float32: 1e-4}[dtype]
        assert relative_error(product, torch.stack(expected)) <= tolerance


def test_long_attention_is_exact(monkeypatch):
    attention = sys.modules["modelspace.engine.lowerings.attention"]
    case = named("fused attention")
    expected = of_case(case)
    vectors = normal(*expected[0].points.shape)
    monkeypatch.setattr(attention, "_SHORT", 0)  # as if the sequence were long
    for made in (of_case(case), expected):
        assert (made[-1].fallback, made[-1].finite) == (None, None)
    population = expected[0]
    products = [each[-1].product(population.points, {}, vectors) for each in (of_case(case), expected)]
    assert relative_error(*products) <= 1e-12


def test_pieces_shards_and_probes_are_one_batch(monkeypatch):
    population, inputs, labels, whole = posed(mlp, members=5, samples=23)
    points, vectors = population.points, normal(5, population.space.dimension)
    expected, (losses, gradient) = whole.product(points, {}, vectors), whole.gradient(points, {})
    rows = [3, 3, 0, 3]  # a member with three vectors, and another
    monkeypatch.setattr(sys.modules[Derivatives.__module__], "_PIECE", 6)
    cut = Derivatives(population, inputs, labels, CROSS_ENTROPY, compile=False)
    cut.most = 2
    assert relative_error(cut.product(points, {}, vectors), expected) <= 1e-12
    found = cut.gradient(points, {})
    assert torch.allclose(found[0], losses, rtol=1e-12)
    assert relative_error(found[1], gradient) <= 1e-12
    probes = cut.product(points[rows], {}, vectors[[0, 3, 0, 1]])
    assert relative_error(probes[[1, 2]], expected[[3, 0]]) <= 1e-12


@pytest.mark.parametrize(
    "loss",
    [nn.CrossEntropyLoss(torch.tensor([1.0, 5.0, 0.2], dtype=torch.float64)), "cross_entropy", "objective"],
    ids=["class weights", "mean", "objective"],
)
def test_the_loss_is_the_one_that_evaluate_gives(loss, monkeypatch):
    monkeypatch.setattr(sys.modules[Derivatives.__module__], "_PIECE", 5)

    def objective(model, batch):
        return F.cross_entropy(model(batch[0]), batch[1]) + 0.1 * model(batch[0]).mean(0).square().sum()

    population = ms.ModelSpace(mlp, input_shape=(6,), dtype=torch.float64).sample(seeds=3)
    part = Split(normal(13, 6), torch.arange(13) % 3)
    data = Data("x", part, part, part)
    how = {"objective": objective} if loss == "objective" else {"loss": loss}
    goal = goal_of(population, data, how.get("loss"), how.get("objective"))
    derivatives = Derivatives(population, part.inputs, part.labels, goal, compile=False, batch_size=5)
    losses, _ = derivatives.gradient(population.points, {})
    table = ms.evaluate(population, data, ["loss"], batch_size=5, **how)
    assert np.allclose(losses, table["loss"], rtol=1e-12)
    vectors = normal(*population.points.shape)
    step = 1e-6
    sides = [derivatives.gradient(population.points + sign * step * vectors, {})[1] for sign in (1, -1)]
    product = derivatives.product(population.points, {}, vectors)
    assert relative_error(product, (sides[0] - sides[1]) / (2 * step)) <= 1e-7


class Spectral(nn.Module):
    """Complex coordinates, real outputs."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, dtype=torch.complex128) / 2)

    def forward(self, x):
        return (x.to(self.weight.dtype) @ self.weight).abs().square()


@pytest.mark.parametrize("operator", ["hessian", "gauss-newton"])
def test_complex_coordinates_are_pairs_of_real_ones(operator):
    space = ms.ModelSpace(Spectral, input_shape=(4,))
    population = space.sample(seeds=2)
    inputs, labels = normal(9, 4), torch.arange(9) % 3
    derivatives = Derivatives(population, inputs, labels, CROSS_ENTROPY, operator=operator, compile=False)
    vectors = normal(2, 12, dtype=torch.complex128)
    product = derivatives.product(population.points, {}, vectors)

    def outputs(pairs):
        return (inputs.to(torch.complex128) @ torch.view_as_complex(pairs.view(4, 3, 2))).abs().square()

    for k in range(2):
        pairs = torch.view_as_real(population.points[k]).reshape(-1)
        whole = explicit(operator, outputs, pairs, labels)
        expected = whole @ torch.view_as_real(vectors[k]).reshape(-1)
        assert relative_error(torch.view_as_real(product[k]).view(1, -1), expected[None]) <= 1e-10


def test_parameters_without_part_have_zero_rows():
    population, *_, derivatives = of_case(named("unused parameter"))
    product = derivatives.product(population.points, {}, torch.ones_like(population.points))
    ghost = [b.name.startswith("ghost") for b in population.space.layout for _ in range(b.size)]
    assert (product[:, ghost] == 0).all()
    assert (product[:, ~np.array(ghost)] != 0).any()


def test_nothing_that_is_given_changes():
    population, _, _, _, derivatives = of_case(named("residual BatchNorm"))
    before, vectors = population.copy(), normal(*population.points.shape)
    derivatives.product(population.points, population.buffers, vectors)
    assert torch.equal(population.points, before.points)
    assert all(torch.equal(population.buffers[name], value) for name, value in before.buffers.items())


def weighed(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"operator": "ggn"}, "unknown operator 'ggn'"),
        (
            {"operator": "gauss-newton", "loss": ms.losses.objective_of(weighed)},
            "objective 'weighed' is a function",
        ),
        (
            {"operator": "fisher", "loss": ms.losses.resolve(lambda z, y: z.mean())},
            "not known to be a mean over",
        ),
        ({"samples": 0}, "3 members and 0 samples: there is nothing to differentiate"),
        ({"shape": (5,), "make": lambda: nn.Sequential(nn.Linear(6, 3))}, r"received \[2, 5\]"),
    ],
)
def test_what_can_t_be_is_said_in_one_line(settings, text):
    settings = {"make": mlp, "loss": CROSS_ENTROPY, **settings}
    population = ms.ModelSpace(settings.pop("make"), dtype=torch.float64).sample(seeds=3)
    inputs = normal(settings.pop("samples", 6), *settings.pop("shape", (6,)))
    labels = torch.zeros(len(inputs), dtype=torch.long)
    with pytest.raises(ms.ModelspaceError, match=text) as said:
        Derivatives(population, inputs, labels, **settings)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("name", ["LSTM", *sampled(["fused attention", "packed RNN", "checkpointed"], 9)])
def test_one_after_the_other_takes_kernels_with_second_derivatives(name, monkeypatch):
    case = named(name)
    *_, exact = of_case(case)
    population = case.space().sample(seeds=3)
    data, vectors = case.data(), normal(*population.points.shape)
    expected = exact.product(population.points.double(), population.buffers, vectors)
    monkeypatch.setattr(sys.modules[Derivatives.__module__], "_HANDFUL", 10**9)
    single = Derivatives(population, data.train.inputs, data.train.labels, CROSS_ENTROPY)
    assert (single.fallback, single.finite) == ("a member alone fills the processor", None)
    product = single.product(population.points, population.buffers, vectors.float())
    assert relative_error(product, expected) <= 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "operator"),
    [
        *((name, "hessian") for name in ("MLP tanh", "LSTM", "fused attention", "residual BatchNorm", "CNN")),
        ("MLP tanh", "fisher"),
        ("CNN", "gauss-newton"),
    ],
)
def test_compiled_is_eager(name, operator, compilations):
    population, inputs, labels, goal, eager = of_case(named(name), operator=operator)
    vectors = normal(*population.points.shape)
    given = population.points, population.buffers, vectors
    for _ in range(2):
        program = Derivatives(population, inputs, labels, goal, operator=operator, compile=True)
        assert relative_error(program.product(*given), eager.product(*given)) <= 1e-9
        assert len(compilations) == 1
