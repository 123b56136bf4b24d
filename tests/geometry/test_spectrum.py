"""Eigenvalues, densities and traces of dense matrices, whose own are known; error bars against their formulas."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_digits

from modelspace.geometry._spectrum import Drawn, extremes, krylov, quadrature
from modelspace.geometry._trace import traces

N = 40


def product_of(matrices):
    """Of a matrix a row; of one that was expanded, without as many copies."""
    if not matrices.stride(0):
        return lambda rows, vectors: vectors @ matrices[0]
    return lambda rows, vectors: torch.einsum("rij,rj->ri", matrices[rows], vectors)


def symmetric(*shape, seed=0):
    made = torch.randn(*shape, shape[-1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return made + made.mT


def spectrum(matrices, top, most=1000, tolerance=1e-9, members=None, **given):
    members = range(len(matrices)) if members is None else members
    start = Drawn(0, 0, members).vectors(matrices[:, 0], 0, min(top, matrices.shape[-1]))
    product = product_of(matrices)
    space = krylov(product, start, most, Drawn(0, 1, members), tolerance, **given)
    return space, extremes(product, space, top)


def digits_softmax():
    """The Hessian of softmax cross-entropy at zero, without bias, on digits/16."""
    x = torch.from_numpy(load_digits().data / 16)
    classes = torch.eye(10, dtype=torch.float64) / 10 - torch.full((10, 10), 0.01, dtype=torch.float64)
    return torch.kron(classes, x.T @ x / len(x)).expand(1, -1, -1)


def test_a_ninefold_eigenvalue_is_found_nine_times():
    space, found = spectrum(digits_softmax(), 10, tolerance=1e-5)
    expected = torch.tensor([[1.04552997] * 9 + [0.06988326]], dtype=torch.float64)
    torch.testing.assert_close(found["top"], expected, rtol=0, atol=6e-8)
    assert found["top_bound"].max() < 1e-5
    assert space.sizes.item() < 640
    whole, _ = spectrum(digits_softmax(), 10, tolerance=None)
    assert whole.trace.item() == pytest.approx(13.51277911, abs=1e-8)
    single = digits_softmax().float()
    np.testing.assert_allclose(spectrum(single, 10, tolerance=1e-3)[1]["top"], expected, atol=1e-6)


def test_members_of_every_kind_go_on_side_by_side():
    """Generic, repeated, of low rank, identity, zero, negative; one whose products are not finite is lost alone."""
    a = symmetric(3, N)
    low = a[0][:, :2] @ a[0][:, :2].T
    q = torch.linalg.eigh(a[0]).eigenvectors
    twice = q @ torch.diag(torch.arange(N, dtype=torch.float64) // 4) @ q.T
    eye, bad = torch.eye(N, dtype=torch.float64), torch.full((N, N), torch.nan, dtype=torch.float64)
    matrices = torch.stack([*a, low, twice, eye, 0 * eye, -3 * eye, bad])
    space, found = spectrum(matrices, 5)
    exact = torch.linalg.eigvalsh(matrices[:-1])
    for name, expected in (("top", exact.flip(1)[:, :5]), ("least", exact[:, 0])):
        torch.testing.assert_close(found[name][:-1], expected, rtol=0, atol=1e-8)
        assert found[name][-1].isnan().all()
        assert (found[f"{name}_bound"][:-1] < 1e-6).all()
    assert space.lost.tolist() == [False] * 8 + [True]
    alone, own = spectrum(matrices[1:2], 5, members=[1])
    torch.testing.assert_close(own["top"][0], found["top"][1], rtol=1e-12, atol=0)
    assert alone.sizes[0] == space.sizes[1]


def test_a_short_basis_says_how_far_its_eigenvalues_may_be_off():
    matrices = symmetric(20, 200)
    _, found = spectrum(matrices, 3, most=24)
    exact = torch.linalg.eigvalsh(matrices)
    nearest = (found["top"][..., None] - exact[:, None]).abs().amin(2)
    assert (nearest <= found["top_bound"]).all()
    assert found["top_bound"].median() > 0.1
    assert (spectrum(matrices[:1, :2, :2], 5)[1]["top"].isfinite().sum()) == 2  # of two coordinates, as many


def test_probes_are_a_function_of_seed_member_and_number_alone():
    like = torch.zeros(1, 9, dtype=torch.float64)
    for signs in (False, True):
        both = Drawn(3, 0, [5, 8], signs).vectors(like, 0, 4)
        assert torch.equal(both[1:, 2:], Drawn(3, 0, [8], signs).vectors(like, 2, 2))
        others = (Drawn(4, 0, [5], signs), Drawn(3, 1, [5], signs), Drawn(3, 0, [6], signs))
        assert not any(torch.equal(both[:1], other.vectors(like, 0, 4)) for other in others)
        many = Drawn(0, 0, range(200), signs).vectors(torch.zeros(1, 300, dtype=torch.float64), 0, 2)
        assert many.mean().abs() < 0.01
        assert many.square().mean().item() == pytest.approx(1, abs=0.02)


REPEATS = 400


def repeated(matrix, probes, signs=True, top=0, layer=None):
    matrices = matrix.expand(REPEATS, *matrix.shape)
    space = spectrum(matrices, top, most=3 * top, layer=layer)[0] if top else None
    drawn = Drawn(1, 2, range(REPEATS), signs).vectors(matrix, 0, probes)
    return traces(product_of(matrices), drawn, space, layer)


@pytest.mark.parametrize("signs", [True, False])
def test_hutchinson_s_variance_is_its_formula(signs):
    a = symmetric(N)
    norm, diagonal = a.square().sum(), a.diagonal().square().sum()
    variance = (2 * (norm - diagonal) if signs else 2 * norm).item()
    found = repeated(a, 5, signs)
    # The error of a variance of 2,000 normal numbers is 3.5 %, of 400 7 %.
    assert (5 * found["trace_se"].square()).mean().item() == pytest.approx(variance, rel=0.12)
    assert 5 * found["trace"].var().item() == pytest.approx(variance, rel=0.25)
    assert found["trace"].mean().item() == pytest.approx(a.trace().item(), abs=4 * (variance / 2000) ** 0.5)


def test_signs_give_a_diagonal_s_trace_without_error():
    a = torch.diag(torch.arange(N, dtype=torch.float64))
    found = repeated(a, 2)
    assert found["trace_se"].max() == 0
    assert (found["trace"] == a.trace()).all()
    assert repeated(a, 2, signs=False)["trace_se"].min() > 0


@pytest.mark.parametrize(("probes", "top"), [(5, 0), (10, 0), (5, 2), (10, 2)])
def test_intervals_cover(probes, top):
    """95 ± 3 % of 400 repetitions; of blocks of the diagonal and of the square, too."""
    b = symmetric(N)
    a = b @ b / N + b
    layer = torch.arange(N) * 3 // N
    found = repeated(a, probes, top=top, layer=layer)
    blocks = torch.zeros(3, dtype=torch.float64).index_add(0, layer, a.diagonal())
    reach = stats.t.ppf(0.975, probes - 1)
    for name, exact in (("trace", a.trace()), ("square", a.square().sum()), ("by_layer", blocks)):
        covered = ((found[name] - exact).abs() <= reach * found[f"{name}_se"]).double().mean(0)
        assert ((covered >= 0.92) & (covered <= 0.98)).all(), (name, covered)


def test_what_the_space_knows_is_out_of_the_error():
    b = torch.linalg.qr(symmetric(N)).Q
    a = b @ torch.diag(torch.cat([torch.full((4,), 50.0), torch.linspace(-1, 1, N - 4)]).double()) @ b.T
    plain, deflated = (repeated(a, 5, top=top) for top in (0, 4))
    assert deflated["trace_se"].mean() < plain["trace_se"].mean() / 10
    assert deflated["square_se"].mean() < plain["square_se"].mean() / 100


def test_what_a_space_couples_between_layers_is_no_bias():
    a, layer = symmetric(N) / 10, torch.arange(N) // 20
    a[0, 0] += 100  # of a vector that is half in each layer
    start = torch.zeros(REPEATS, 1, N, dtype=torch.float64)
    start[:, :, [0, 21]] = 1
    matrices = a.expand(REPEATS, N, N)
    space = krylov(product_of(matrices), start, 1, Drawn(0, 1, range(REPEATS)), layer=layer)
    drawn = Drawn(1, 2, range(REPEATS), True).vectors(a, 0, 10)
    whole = traces(product_of(matrices), drawn, space, layer)
    found = whole["by_layer"]
    torch.testing.assert_close(found.sum(1), whole["trace"])
    blocks = torch.zeros(2, dtype=torch.float64).index_add(0, layer, a.diagonal())
    assert ((found.mean(0) - blocks).abs() < 4 * found.std(0) / REPEATS**0.5).all()


def test_an_exhausted_direction_is_replaced_by_a_fresh_one():
    eye, start = torch.eye(6, dtype=torch.float64), torch.zeros(1, 1, 6, dtype=torch.float64)
    start[..., 0] = 1
    space = krylov(product_of(eye.expand(1, 6, 6)), start, 6, Drawn(0, 1, [0]))
    torch.testing.assert_close(space.basis[0] @ space.basis[0].T, eye)
    assert space.trace.item() == pytest.approx(6)


def densities(matrix, probes, nodes):
    matrices = matrix.expand(probes, *matrix.shape)
    start = Drawn(0, 3, range(probes), signs=True).vectors(matrix, 0, 1)
    return quadrature(krylov(product_of(matrices), start, nodes, Drawn(0, 1, range(probes))))


def test_the_density_of_gaussian_data_is_marchenko_and_pastur_s():
    count, n = 1600, 400
    x = torch.randn(count, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    nodes, weights = densities(x.T @ x / count, 80, 40)
    assert weights.sum(1).numpy() == pytest.approx(1)
    low, high = (1 - (n / count) ** 0.5) ** 2, (1 + (n / count) ** 0.5) ** 2
    grid = np.linspace(low, high, 2001)
    pdf = np.sqrt(np.maximum((high - grid) * (grid - low), 0)) / (2 * np.pi * n / count * grid)
    cdf = np.concatenate([[0], np.cumsum((pdf[1:] + pdf[:-1]) / 2 * np.diff(grid))])
    middles = (weights.cumsum(1) - weights / 2).numpy()  # of a node's weight, half is below it
    below = np.mean([np.interp(grid, *pair, 0, 1) for pair in zip(nodes.numpy(), middles, strict=True)], 0)
    distance = np.abs(below - cdf).max()
    print(f"Kolmogorov distance to Marchenko and Pastur's: {distance:.4f}")
    assert cdf[-1] == pytest.approx(1, abs=1e-4)
    assert distance < 0.02


def test_the_density_s_moments_are_the_matrix_s():
    a = symmetric(60)
    nodes, weights = densities(a, 400, 10)
    for power in (1, 2, 4, 8):
        each = (weights * nodes**power).sum(1)
        exact = torch.linalg.eigvalsh(a).pow(power).mean()
        assert (each.mean() - exact).abs() < 4 * each.std() / 20
    whole, shares = densities(a, 3, 100)  # more than there are
    np.testing.assert_allclose(whole, torch.linalg.eigvalsh(a).expand(3, -1), atol=1e-10)
    assert shares.sum(1).numpy() == pytest.approx(1)
