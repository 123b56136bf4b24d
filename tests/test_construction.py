import pytest
import torch
from support.cases import Tied
from torch import nn

from modelspace import ModelSpace
from modelspace.construction import copied, seeded
from modelspace.errors import ModelspaceError


class Needy(nn.Module):
    def __init__(self, width, depth=1, *, rate):
        super().__init__()
        self.layers = nn.Sequential(*[nn.Linear(width, width) for _ in range(depth)])

    def forward(self, x):
        return self.layers(x)


def test_missing_and_unknown_arguments_are_listed_together():
    expected = (
        r"Needy needs width, rate: give width=… and rate=…; "
        r"it has no argument widht \(it takes: width, depth, rate\)"
    )
    with pytest.raises(ModelspaceError, match=expected):
        ModelSpace(Needy, widht=3)


def test_arguments_make_another_space():
    assert ModelSpace(Needy, width=3, rate=0).dimension == 12
    assert ModelSpace(Needy, width=3, depth=2, rate=0).dimension == 24
    assert ModelSpace(Needy, width=3, rate=0).title == "Needy(width=3, rate=0)"


def test_a_constructor_that_fails_is_told_with_its_arguments():
    def broken(width):
        raise ValueError("width must be even")

    with pytest.raises(
        ModelspaceError, match=r"broken\(width=3\) can't be built: ValueError: width must be even"
    ):
        ModelSpace(broken, width=3)


def test_a_factory_must_make_a_module():
    with pytest.raises(ModelspaceError, match=r"made a dict, not an nn\.Module"):
        ModelSpace(dict)
    with pytest.raises(ModelspaceError, match="received a int"):
        ModelSpace(3)


def test_a_built_module_takes_no_arguments():
    with pytest.raises(ModelspaceError, match=r"already built.*give its class"):
        ModelSpace(nn.Linear(2, 2), bias=False)


def test_building_a_space_allocates_nothing():
    space = ModelSpace(nn.Linear, in_features=10**6, out_features=10**6)
    assert space.dimension == 10**12 + 10**6


def test_a_constructor_that_reads_values_is_built_in_memory():
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            rates = [r.item() for r in torch.linspace(0, 0.5, 3)]
            self.layers = nn.Sequential(*[nn.Sequential(nn.Linear(2, 2), nn.Dropout(r)) for r in rates])

    space = ModelSpace(Reads)
    assert space.dimension == 18
    assert space.template.layers[2][1].p == 0.5


def test_lazy_layers_need_the_input_shape():
    with pytest.raises(ModelspaceError, match=r"lazy layers.*give input_shape"):
        ModelSpace(lambda: nn.LazyLinear(3))
    space = ModelSpace(lambda: nn.LazyLinear(3), input_shape=(5,))
    assert space.dimension == 18
    assert type(space.draw(0)) is nn.Linear


def test_points_of_a_built_module_are_drawn_by_reset_parameters():
    given = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    given[1].running_mean += 5
    before = torch.cat([p.detach().reshape(-1) for p in given.parameters()])
    space = ModelSpace(given)
    population = space.sample(seeds=[3])
    with seeded(3):
        twin = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    assert torch.equal(population.points[0], space.point(twin))
    assert (population.buffers["1.running_mean"] == 0).all()
    assert torch.equal(torch.cat([p.detach().reshape(-1) for p in given.parameters()]), before)
    assert torch.equal(space.point(space.template), before)


def test_a_built_module_that_cannot_be_drawn_anew_says_which_layer():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

    with pytest.raises(ModelspaceError, match=r"layer 1 \(Own\) has no reset_parameters"):
        ModelSpace(nn.Sequential(nn.Linear(2, 2), Own())).sample(seeds=1).points


def test_the_type_is_cast_for_classes_and_for_built_modules():
    for source in (lambda: nn.Linear(2, 2), nn.Linear(2, 2)):
        space = ModelSpace(source, dtype=torch.float64)
        assert space.dtype is torch.float64
        assert space.sample(seeds=1).points.dtype is torch.float64
        assert space.template.weight.dtype is torch.float64


def test_seeded_leaves_the_callers_stream_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with seeded(1):
        first = torch.rand(2)
    assert torch.equal(torch.rand(3), expected)
    with seeded(1):
        assert torch.equal(torch.rand(2), first)


def test_several_values_of_an_argument_are_a_family():
    expected = (
        r"Needy\(width=\(3, 4\), .* can't be built: .*; one value of width makes one space, several a family"
    )
    with pytest.raises(ModelspaceError, match=expected):
        ModelSpace(Needy, width=(3, 4), rate=1)


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_ties_stay_ties_and_the_original_stays(device):
    module = Tied()
    before = module.embedding.weight.detach().clone()
    copy = copied(module, device)
    assert copy.output.weight is copy.embedding.weight
    assert copy.output.weight.device.type == device
    assert module.output.weight is module.embedding.weight
    assert torch.equal(module.embedding.weight, before)


def test_plain_tensor_attributes_move_too():
    module = nn.Linear(2, 2)
    module.mask = torch.ones(3)
    assert copied(module, "meta").mask.is_meta


def test_what_refuses_to_be_copied_is_named():
    class Stubborn(nn.Linear):
        def __deepcopy__(self, memo):
            raise RuntimeError("no copies")

    with pytest.raises(ModelspaceError, match="Stubborn can't be copied: no copies"):
        copied(Stubborn(2, 2), "meta")


class Wide(nn.Module):
    def __init__(self, width=4, depth=1):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))

    def forward(self, x):
        return self.layers[0](x)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"width": 2**22}, r"Wide\(width=4194304\) is too large .* 17,592,186,044,416 numbers, 65,536.0 GiB"),
        ({"depth": 60}, r"Wide\(depth=60\) makes more than 100 tensors"),
    ],
)
def test_what_fits_into_no_machine_is_refused_before_it_is_built(arguments, said, monkeypatch):
    monkeypatch.setattr("modelspace.construction._MOST_TENSORS", 100)
    space = ModelSpace(Wide, input_shape=(4,), **arguments)
    with pytest.raises(ModelspaceError, match=said):
        space.draw(0)


def test_points_that_memory_has_no_room_for_are_refused():
    with pytest.raises(
        ModelspaceError, match=r"2 points of 17,592,190,238,720 numbers take 128 TiB.* fewer seeds"
    ):
        _ = ModelSpace(Wide, input_shape=(4,), width=2**22).sample(seeds=2).points
