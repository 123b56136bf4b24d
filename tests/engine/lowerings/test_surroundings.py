"""Normalisation in all its modes against plain modules; and BatchNorm's cumulative average, batched."""

import pytest
import torch
from engine.members import MEMBERS, STEP, assert_close, assert_members, each_its_own, population_of, together
from torch import nn
from torch.nn.utils import parametrizations

from modelspace.engine import Function
from modelspace.engine.lowerings.surroundings import cumulative_norms


class Scaled(nn.Module):
    """A layer after a parameter: its input is the member's own, and a gradient passes through it."""

    def __init__(self, layer):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3, dtype=torch.float64))
        self.layer = layer

    def forward(self, x):
        return self.layer(x * self.scale.view(1, 3, *[1] * (x.dim() - 2)))


class Uncounted(nn.BatchNorm1d):
    """As some old checkpoints are: without a count."""

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.num_batches_tracked = None


class Doubled(nn.BatchNorm1d):
    """A forward of its own, which calls the inherited one."""

    def forward(self, x):
        return 2 * super().forward(x)


MODES = [
    {},
    {"momentum": None},
    {"momentum": None, "affine": False},
    {"momentum": 0.3, "affine": False},
    {"momentum": 1.0, "eps": 0.1},
    {"momentum": 0.0},
    {"track_running_stats": False},
    {"track_running_stats": False, "momentum": None},
    {"bias": False, "momentum": None},
]
KINDS = [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, Uncounted]
SHAPES = {nn.BatchNorm2d: (4, 3, 5, 2), nn.BatchNorm3d: (4, 3, 2, 2, 3), nn.SyncBatchNorm: (4, 3, 2)}


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("settings", MODES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_batchnorm(kind, settings, training):
    x = torch.randn(SHAPES.get(kind, (4, 3)), dtype=torch.float64)
    assert assert_members(lambda: Scaled(kind(3, **settings)), x, training) == ()
    if settings.get("affine", True):
        assert assert_members(lambda: kind(3, **settings), each_its_own(x), training, own=True) == ()


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("tracked", [True, False])
@pytest.mark.parametrize(
    ("kind", "shape"),
    [(nn.InstanceNorm1d, (4, 3, 8)), (nn.InstanceNorm2d, (4, 3, 5, 2)), (nn.InstanceNorm3d, (4, 3, 2, 2, 3))],
)
def test_instancenorm(kind, shape, tracked, momentum, training):
    x = torch.randn(shape, dtype=torch.float64)
    settings = {"momentum": momentum, "affine": True, "track_running_stats": tracked}
    assert assert_members(lambda: Scaled(kind(3, **settings)), x, training) == ()


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.SyncBatchNorm])
def test_the_cumulative_average_over_several_batches(kind):
    population = population_of(lambda: kind(3, momentum=None))
    function, buffers = Function(population.space), population.buffers
    views = population.space.layout.views(population.points)
    plain = population.modules()

    def one(parameters, buffers, x):
        settings = {"training": True, "seed": torch.tensor(0), "step": torch.tensor(STEP)}
        return function(parameters, buffers, x, **settings)

    for size in (4, 2, 7):
        x = torch.randn(size, 3, dtype=torch.float64)
        outputs, buffers = torch.vmap(one, (0, 0, None))(views, buffers, x)
        for k, module in enumerate(plain):
            assert_close(outputs[k], module(x), 1e-11)
    for k, module in enumerate(plain):
        for name, buffer in module.named_buffers():
            assert_close(buffers[name][k], buffer, 1e-11)
    assert buffers["num_batches_tracked"].tolist() == [3] * MEMBERS


def test_a_wrong_input_is_refused_as_by_pytorch():
    population = population_of(lambda: nn.BatchNorm1d(3, momentum=None))
    function, x = Function(population.space), torch.zeros(2, 3, 4, 4, dtype=torch.float64)
    with pytest.raises(ValueError, match="expected 2D or 3D input"):
        together(population, function, x, training=True, own=False)


def test_a_layer_with_a_forward_of_its_own_is_left_to_it():
    assert cumulative_norms(Doubled(3, momentum=None)) == []


def test_the_module_has_its_own_forward_afterwards():
    space = population_of(lambda: Scaled(nn.BatchNorm1d(3, momentum=None))).space
    function = Function(space)
    population = space.sample(seeds=2)
    views = space.layout.views(population.points)

    x = torch.randn(4, 3, dtype=torch.float64)
    torch.vmap(lambda p, b: function(p, b, x, training=True)[0])(views, population.buffers)
    layer = function._module.module.layer
    assert "forward" not in vars(layer)
    assert "forward" not in vars(space.template.layer)


# Weights


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize(
    "make", [lambda: nn.Linear(3, 4), lambda: nn.Conv2d(3, 4, 2)], ids=["linear", "convolution"]
)
def test_weight_norm(make, dim):
    x = torch.randn((5, 3, 4, 4)[: 2 if isinstance(make(), nn.Linear) else 4], dtype=torch.float64)
    for norm in (parametrizations.weight_norm, nn.utils.weight_norm):
        assert assert_members(lambda norm=norm: norm(make(), dim=dim), x, training=True) == ()


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("norm", [parametrizations.spectral_norm, nn.utils.spectral_norm])
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.spectral_norm` is deprecated")
def test_spectral_norm_s_power_iteration_moves_its_buffers(norm, training):
    x = torch.randn(5, 3, 4, 4, dtype=torch.float64)
    assert assert_members(lambda: norm(nn.Conv2d(3, 4, 2), n_power_iterations=2), x, training) == ()


@pytest.mark.parametrize("map", ["matrix_exp", "cayley", "householder"])
def test_orthogonal_weights(map):
    x = torch.randn(5, 3, dtype=torch.float64)
    assert (
        assert_members(lambda: parametrizations.orthogonal(nn.Linear(3, 3), orthogonal_map=map), x, True)
        == ()
    )
