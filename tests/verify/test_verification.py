import json
from functools import cache

import pytest
import torch
from support.cases import ARCHITECTURES, WORKS, DummyNet, named
from support.sampled import sampled
from torch import nn

import modelspace as ms
from modelspace.cli import main
from modelspace.errors import ModelspaceError
from modelspace.verify import Errors
from modelspace.verify.sides import relative_error

NETS = "dummynet.py"
STEPS = 3
SMALL = ["MLP tanh", "residual BatchNorm", "dropout", "tied embedding", "frozen backbone", "replaced buffer"]


@cache
def verified(name, **settings):
    case = named(name)
    kind = {"tokens": case.tokens} if case.tokens else {}
    return ms.verify(case.space(), **kind, **{"steps": STEPS, **settings})


@pytest.mark.parametrize("name", sampled(SMALL, 2))
def test_a_population_is_the_plain_loop(name):
    found = verified(name)
    assert found.equivalent
    assert found.lowering == "vmap"
    assert found.fallbacks == ()
    assert [(each.dtype, each.optimizer) for each in found.errors] == [
        ("float64", "SGD"),
        ("float64", "Adam"),
        ("float32", "SGD"),
        ("float32", "Adam"),
    ]
    assert found.ways == ("vmap", "vmap in shards of 2", "loop")
    assert all(len(each.points) == len(each.losses) == STEPS for each in found.errors)
    assert found.loop_seconds > 0
    assert found.population_seconds > 0


WORKED = [
    "VAE",
    "PINN by autograd",
    "two heads",
]


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=str(c), marks=[] if c.name in WORKED else pytest.mark.slow) for c in WORKS],
)
def test_an_objective_or_a_nest_is_the_plain_loop_s(case):
    found = ms.verify(case.space(), case.data(), **case.goal, steps=STEPS, batch_size=5)
    assert found.equivalent, str(found)
    own = "packed series"  # whose batches are shared here
    assert found.lowering == ("vmap" if case.fallback is None or case.name == own else "loop")
    assert all(each.largest <= 1e-9 for each in found.errors if each.dtype == "float64")
    assert found.left_out == {}


def test_an_objective_that_keeps_state_is_found():
    calls = []

    def counting(model, batch):
        calls.append(1)
        return nn.functional.cross_entropy(model(batch[0]), batch[1]) * (1 + 0.1 * len(calls))

    case = named("MLP tanh")
    found = ms.verify(case.space(), case.data(), objective=counting, steps=2)
    assert not found.equivalent
    assert "objective 'counting' depends on something that it keeps itself" in found.refused
    with pytest.raises(ModelspaceError, match="both a loss and an objective are given"):
        ms.verify(case.space(), case.data(), objective=counting, loss="mse", steps=2)


class Drifting(nn.Module):
    """Its output depends on how often it was called, which no parameter or buffer holds."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 3)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.net(x) * self.calls


def test_what_differs_is_found():
    found = ms.verify(ms.ModelSpace(Drifting, input_shape=(4,)), steps=3)
    assert not found.equivalent
    assert found.max_relative_error > 1e-4
    assert "the sides part first at mul (line" in repr(found)
    assert "its forward depends on what it keeps in calls" in repr(found)
    assert "NOT EQUIVALENT" in repr(found)


def test_what_cannot_be_batched_is_named():
    found = verified("data-dependent branch")
    assert found.equivalent
    assert found.lowering == "loop"
    assert "data-dependent control flow" in found.fallbacks[0]
    assert all(max(each.points) == 0.0 for each in found.errors if each.dtype == "float32")


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, g):
        return 2 * g


class Custom(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 3)

    def forward(self, x):
        return Doubled.apply(self.net(x))


def test_what_is_computed_member_by_member_is_named():
    found = ms.verify(ms.ModelSpace(Custom, input_shape=(4,)), steps=3)
    assert found.equivalent
    assert found.lowering == "vmap"
    assert found.fallbacks == ("Doubled: member by member",)
    assert found.operations["Doubled"] == "member by member"
    assert found.operations["linear"] == "lowering: linear"


def test_the_page_says_it_all():
    page = repr(verified("dropout"))
    for part in (
        "float64",
        "float32",
        "allowed",
        "lowering: convolution",
        "numbers of the member's own",
        "×",
    ):
        assert part in page
    assert page.splitlines()[-1].startswith("EQUIVALENT: the population and the plain loop agree to ")


@pytest.mark.slow
def test_the_compiled_step_is_verified_too():
    found = verified("MLP dropout", compile=True)
    assert found.compiled
    assert found.equivalent


def test_a_type_that_the_architecture_refuses_is_left_out():
    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(4, 3)

        def forward(self, x):
            return self.net(x.float())

    found = ms.verify(ms.ModelSpace(Single, input_shape=(4,)), steps=2)
    assert {each.dtype for each in found.errors} == {"float32"}
    assert "float64" in found.left_out
    assert found.equivalent
    assert "left out" in repr(found)


def test_what_fails_in_plain_pytorch_is_the_network_s_own_message():
    space = ms.ModelSpace(lambda: nn.Linear(5, 3), input_shape=(4,))
    with pytest.raises(ModelspaceError, match="expects the last dimension to be 5"):
        ms.verify(space)
    with pytest.raises(ModelspaceError, match="one sample's shape"):
        ms.verify(ms.ModelSpace(lambda: nn.Linear(5, 3)))
    with pytest.raises(ModelspaceError, match="at least 1; received 3, 0, 8"):
        ms.verify(space, steps=0)


def test_an_error_that_is_not_a_number_is_not_within():
    def errors(*values, growth=None):
        return Errors("float64", "SGD", values, (0.0,), 0.0, 0.0, 1e-9, growth)

    assert not errors(float("nan")).within
    assert errors(1e-10).within
    assert not errors(1e-8).within
    assert errors(1e-10, 1e-8, growth=(1e-16, 1e-8, 0.0, 0.0)).within
    assert not errors(1e-8, 1e-8, growth=(1e-16, 1e-8, 0.0, 0.0)).within
    assert relative_error(torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 5.0]])) == pytest.approx(
        1 / 34**0.5
    )


def test_the_command_line_tells_by_its_status(tmp_path, capsys):
    file = tmp_path / "nets.py"
    file.write_text(
        "import torch\nfrom torch import nn\n\n"
        "def good():\n    return nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 3))\n\n"
        "class Bad(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.net, self.calls = nn.Linear(4, 3), 0\n\n"
        "    def forward(self, x):\n        self.calls += 1\n        return self.net(x) * self.calls\n"
    )
    assert main(["verify", f"{file}:good", "--input", "3", "--tokens", "9", "--steps", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"equivalent", "max_relative_error", "lowering", "fallbacks", "steps", "members"} <= set(found)
    assert found["equivalent"] is True
    assert (found["steps"], found["members"], found["lowering"]) == (2, 3, "vmap")
    assert main(["verify", f"{file}:Bad", "--input", "4", "--steps", "2"]) == 1
    assert "NOT EQUIVALENT" in capsys.readouterr().out
    assert main(["verify", f"{file}:good"]) == 2
    assert "--input" in capsys.readouterr().err


def test_with_the_user_s_data():
    found = ms.verify(
        ms.ModelSpace(DummyNet, input_shape=(3, 7, 7)), "digits-7x7", loss="cross_entropy", steps=2
    )
    assert found.data == "digits-7x7"
    assert found.equivalent


def test_every_case_has_a_shape_to_make_samples_of():
    assert all(case.shape for case in ARCHITECTURES)


def test_a_network_that_computes_in_another_type_inside_is_judged_by_that():
    class Inside(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(4, 3)

        def forward(self, x):
            return self.net(x) * x.float().var(1, keepdim=True).to(x.dtype)

    found = ms.verify(ms.ModelSpace(Inside, input_shape=(4,)), steps=3)
    assert found.equivalent
    assert found.errors[0].tolerance == 1e-4
    assert "it computes in torch.float32 here and there" in repr(found)


def test_a_hidden_difference_is_found_whichever_way_has_it():
    """A forward that goes wrong under vmap alone, as a defect of a lowering would."""

    class Wrong(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(4, 3)

        def forward(self, x):
            z = self.net(x)
            return 1.001 * z if torch._C._functorch.is_batchedtensor(z) else z

    found = ms.verify(ms.ModelSpace(Wrong, input_shape=(4,)), steps=3)
    assert found.lowering == "loop"  # fit does not take vmap here, and says why
    assert "under vmap" in found.fallbacks[0]
    assert found.equivalent


def test_growth_of_rounding_is_no_difference():
    class Amplifying(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Linear(4, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.head(torch.sin(1000 * self.first(x)))

    found = ms.verify(ms.ModelSpace(Amplifying, input_shape=(4,)), steps=10)
    assert found.equivalent, repr(found)
    assert any(each.growth is not None and max(each.points) > each.tolerance for each in found.errors)
    assert "the network itself grows rounding to this" in repr(found)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"objective": {"a": len, "b": len}}, "one at a time: objective=a or objective=b"),
        ({"optimizer": "muon"}, "Muon takes matrices alone.*give another optimizer"),
        ({"optimizer": "lbfgs"}, "LBFGS steps by a closure"),
        ({"optimizer": "lion"}, "torch.optim has no Lion"),
    ],
)
def test_what_has_no_plain_loop_is_said(given, says):
    with pytest.raises(ms.ModelspaceError, match=says):
        ms.verify(ms.ModelSpace(nn.Linear, in_features=3, out_features=2, input_shape=(3,)), **given)


def test_members_are_verify_s_own():
    space = ms.ModelSpace(nn.Linear, in_features=3, out_features=2, input_shape=(3,))
    with pytest.raises(ms.ModelspaceError, match=r"give their space, population\.space"):
        ms.verify(space.sample(seeds=2))
