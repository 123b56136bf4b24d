"""Slices of a space, against formulas and plain interpolation of state dicts."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import modelspace as ms
from modelspace.errors import ModelspaceError
from modelspace.geometry import slices


class Mixed(nn.Module):
    """Filters of every kind: plain, grouped, transposed, recurrent, tables; and norms of several dimensions."""

    def __init__(self, channels=4):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, groups=1)
        self.norm = nn.BatchNorm2d(channels)
        self.up = nn.ConvTranspose2d(channels, 6, 3, groups=2)
        self.wide = nn.LayerNorm((6, 7, 7))
        self.head = nn.Linear(6 * 49, 10)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.scale * self.head(self.wide(self.up(self.norm(self.conv(x)))).flatten(1))


SPACE = ms.ModelSpace(Mixed, dtype=torch.float64)
POINTS = SPACE.sample(seeds=4).copy()
A, B, C = (POINTS[[k]] for k in range(3))
SINGLE = ms.ModelSpace(nn.Linear, in_features=3, out_features=2)


def filters(name, value):
    """A weight as [filter, number]."""
    if name != "up.weight":
        return value.reshape(len(value), -1)
    grouped = value.view(2, 2, 3, -1)  # of two groups, two inputs each, three outputs each
    return grouped.transpose(1, 2).reshape(6, -1)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**40), biases=st.booleans(), member=st.integers(0, 3))
def test_each_filter_s_direction_has_its_filter_s_norm(seed, biases, member):
    found = slices.random(POINTS[[member]], seed=seed, biases=biases)
    views = SPACE.layout.views(found.controls)
    for name, (own, *directions) in views.items():
        for direction in directions:
            if own.dim() > 1 and name != "wide.weight" and name != "wide.bias":
                norms = filters(name, own).norm(dim=1), filters(name, direction).norm(dim=1)
                torch.testing.assert_close(*norms, rtol=1e-12, atol=0)
            else:
                assert float(direction.norm()) == pytest.approx(float(own.norm()) if biases else 0)
    assert ("left as they are" in found.notes[0]) is not biases
    _, u, v = found.controls
    assert abs(float(u @ v / u.norm() / v.norm())) < 0.2
    assert torch.equal(found.controls, slices.random(POINTS[[member]], seed=seed, biases=biases).controls)


def test_random_directions_are_the_same_draws_for_every_point_and_number_of_axes():
    one, two = slices.random(A, dims=1), slices.random(A, dims=3)
    assert torch.equal(one.controls, two.controls[:2])
    assert two.axes == ("x", "y", "z")
    mine, other = (slices.random(p).controls[1] for p in (A, B))
    assert torch.equal(mine.sign(), other.sign())


def through(kind):
    if kind == "principal":
        return slices.principal(POINTS, dims=3), POINTS
    if kind == "polychain":
        return slices.polychain(POINTS), POINTS
    if kind == "bezier":
        return slices.bezier([A, C, B]), POINTS[[0, 1]]
    return (slices.line(A, B), POINTS[:2]) if kind == "line" else (slices.plane(A, B, C), POINTS[:3])


@pytest.mark.parametrize("kind", ["line", "plane", "principal", "bezier", "polychain"])
def test_marks_are_the_points_and_coordinates_come_back(kind):
    found, points = through(kind)
    at = found.marks[list(found.axes)].to_numpy()
    torch.testing.assert_close(found.points(at), points.points, rtol=0, atol=1e-12)
    buffers = found.population(at).buffers["norm.running_var"]
    torch.testing.assert_close(buffers, points.buffers["norm.running_var"], rtol=0, atol=1e-12)
    inside = np.random.default_rng(0).uniform(0.1, 0.9, (5, len(found.axes)))
    given = found.population(inside)
    coordinates, distance = found.coordinates(given)
    np.testing.assert_allclose(coordinates, inside, atol=1e-6)
    assert distance.max() < 1e-5
    assert given.space is SPACE
    assert list(given.table) == list(found.axes)
    assert found.between
    assert kind in repr(found)


def test_the_coordinates_of_a_plane_are_lengths():
    found, n = slices.plane(A, B, C), SPACE.dimension
    p, q = found.points([[0.3, 2.0], [1.3, 1.0]])
    assert float((p - q).norm()) == pytest.approx(2**0.5, rel=1e-12)
    away = torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    others = ms.Population(SPACE, A.points + away, A.buffers, A.table)
    at, distance = found.coordinates(others)
    assert distance[0] == pytest.approx(float((A.points[0] + away - found.points(at)[0]).norm()))
    _, u, v = slices.subspace(A, dims=2, seed=1).controls
    torch.testing.assert_close(torch.stack([u, v]) @ torch.stack([u, v]).T, torch.eye(2).double())


def test_principal_axes_are_those_of_the_singular_values():
    found = slices.principal(POINTS)
    centred = (POINTS.points - POINTS.points.mean(0)).numpy()
    _, s, axes = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(found.explained[:3], (s**2 / (s**2).sum())[:3], rtol=1e-10)
    np.testing.assert_allclose(np.abs(found.controls[1:].numpy() @ axes[:2].T), np.eye(2), atol=1e-10)
    at, distance = found.coordinates(POINTS)
    np.testing.assert_allclose((at**2).sum(1) + distance**2, (centred**2).sum(1), rtol=1e-10)


def test_curves_are_their_formulas():
    t = 0.3
    point = slices.bezier([A, B, C]).points([t])[0]
    p, q, r = (x.points[0] for x in (A, B, C))
    torch.testing.assert_close(point, (1 - t) ** 2 * p + 2 * t * (1 - t) * q + t**2 * r)
    chain = slices.polychain(POINTS[:3])
    torch.testing.assert_close(chain.points([0.75])[0], 0.5 * q + 0.5 * r)


def test_a_line_is_interpolated_state_dicts_buffers_too_and_the_same_in_any_company():
    a, b = A.module(0), B.module(0)
    b(torch.randn(9, 3, 7, 7, dtype=torch.float64))
    for found in (slices.line(a, b), slices.line(A, b.state_dict()), slices.line(a, b.state_dict())):
        grid = found.grid([0.25, 0.5])
        mixed = grid.module(0).state_dict()
        for name, value in a.state_dict().items():
            other = b.state_dict()[name]
            wanted = 0.75 * value + 0.25 * other if value.is_floating_point() else value
            torch.testing.assert_close(mixed[name], wanted, rtol=1e-12, atol=1e-14)
    whole = found.grid(np.linspace(0, 1, 40))
    assert torch.equal(whole[[7]].points[0], whole.points[7])
    assert torch.equal(
        slices.random(A).population([[1, 2]]).buffers["norm.running_mean"], A.buffers["norm.running_mean"]
    )


def zeroed(value):
    return ms.Population(SINGLE, torch.full((1, 8), value), {}, SINGLE.sample(1).table)


ONE, OTHER = SINGLE.sample(2)[[0]].copy(), SINGLE.sample(2)[[1]].copy()
U = torch.ones(8)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: slices.line(ONE, A), r"b is of another space, Mixed.*, than the other points, of Linear"),
        (lambda: slices.line(nn.Sequential(nn.Tanh()).append(nn.Linear(3, 2)), ONE), "b is of another space"),
        (lambda: slices.line(ONE, nn.Linear(4, 2)), r"b is of another space.*weight is \(2, 4\)"),
        (lambda: slices.line(ONE, OTHER.state_dict(0) | {"more": U}), "more is unknown here"),
        (lambda: slices.line(ONE.state_dict(0), OTHER.state_dict(0)), "state dicts alone"),
        (lambda: slices.line(ONE, 3), "b is a point.*received int"),
        (
            lambda: slices.line(ONE, SINGLE.sample(2)),
            r"b is one point, population\[\[k\]\]; received 2 members",
        ),
        (lambda: slices.line(ONE, zeroed(torch.nan)), r"NaN or infinite coordinates \(label b\)"),
        (lambda: slices.line(ONE, ONE), "a and b are the same: its direction is zero"),
        (lambda: slices.plane(ONE, OTHER, OTHER), "not on one line; a, b and c are"),
        (lambda: slices.plane(ONE, ONE, OTHER), "a and b are the same"),
        (lambda: slices.plane(ONE, OTHER), "through three points, a, b and c"),
        (lambda: slices.plane(ONE, OTHER, directions=[U, U]), "not both"),
        (lambda: slices.plane(ONE, directions=[U, 0 * U]), "direction 2 of 2 is zero"),
        (lambda: slices.plane(ONE, directions=[U, U * torch.inf]), "direction 2 of 2 has NaN or infinite"),
        (lambda: slices.plane(ONE, directions=[U, -2 * U]), "directions are parallel"),
        (lambda: slices.plane(ONE, directions=[U, U[:3]]), r"8 numbers; received \(3,\)"),
        (lambda: slices.plane(ONE, directions=[U]), "two directions; received 1"),
        (lambda: slices.random(zeroed(0.0)), "direction 1 of 2 is zero"),
        (lambda: slices.subspace(ONE, dims=9), "dims is 1 to n = 8; received 9"),
        (lambda: slices.principal(SINGLE.sample(2)), "at least 3 points are needed; received 2"),
        (
            lambda: slices.principal(SINGLE.sample(2)[[0, 1, 0]]),
            "these 3 points lie in fewer than 2 dimensions",
        ),
        (lambda: slices.bezier([ONE]), "at least 2 points"),
        (lambda: slices.line(ONE, OTHER).points([[0.0, np.nan]]), r"\[points, 1\] \(t\); received shape"),
        (lambda: slices.line(ONE, OTHER).population([0.0, np.nan]), "must be finite; row 1 is"),
        (lambda: slices.line(ONE, OTHER).grid([0.0], [1.0]), "values for t; received 2 axes"),
        (lambda: slices.line(ONE, OTHER).coordinates(POINTS), "the population is of another space"),
    ],
)
def test_what_makes_no_slice_is_said_in_one_line(make, said):
    with pytest.raises(ModelspaceError, match=said) as error:
        make()
    assert "\n" not in str(error.value)
