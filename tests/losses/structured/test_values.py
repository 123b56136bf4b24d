import pytest
import torch
import torch.nn.functional as F
from losses.structured.formulas import CASES, Case, flat, grouped, jaccard_loss, lovasz
from torch.autograd import gradcheck
from torch.func import grad, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from modelspace.errors import ModelspaceError
from modelspace.losses import (
    Coral,
    Dice,
    Distillation,
    FocalTversky,
    InfoNCE,
    LovaszHinge,
    LovaszSoftmax,
    MultilabelLogistic,
    MultilabelRanking,
    Triplet,
    Tversky,
)

every_case = pytest.mark.parametrize("case", CASES, ids=str)


@every_case
def test_equals_the_loops_in_python(case):
    for _ in range(5):
        outputs, labels = case.batch()
        exact = case.formula(case.loss, outputs.tolist(), labels.tolist())
        counted = [value for value in flat(exact) if value is not None]
        values = case.loss(outputs, labels, reduction="none")
        assert values.flatten().tolist() == pytest.approx([v or 0 for v in flat(exact)], rel=1e-9, abs=1e-12)
        assert case.loss(outputs, labels).item() == pytest.approx(sum(counted) / len(counted), rel=1e-9)
        assert case.loss(outputs, labels, reduction="sum").item() == pytest.approx(sum(counted), rel=1e-9)


@every_case
def test_gradient_equals_finite_differences(case):
    outputs, labels = case.batch()
    assert gradcheck(lambda z: case.loss(z, labels, reduction="none"), outputs.requires_grad_())


@every_case
def test_members_with_their_own_parameters_equal_the_loop(case):
    loss, members = case.loss, 3
    batches = [case.batch(torch.float32) for _ in range(members)]
    outputs, labels = (torch.stack(parts) for parts in zip(*batches, strict=True))
    columns = {name: torch.tensor([0.2, 0.7, 1.6]) for name in loss.hyperparameters()}

    def score(z, y, values):
        return loss.at(values)(z, y)

    batched = vmap(grad(score))
    found = batched(outputs, labels, columns)
    traced = make_fx(batched)(outputs, labels, columns)(outputs, labels, columns)
    for k in range(members):
        alone = loss.at({name: values[k].item() for name, values in columns.items()})
        expected = grad(alone.__call__)(outputs[k], labels[k])
        torch.testing.assert_close(found[k], expected)
        torch.testing.assert_close(traced[k], expected)


EXTREMES = {torch.float16: 1e3, torch.bfloat16: 1e3, torch.float32: 1e4, torch.float64: 1e4}


@pytest.mark.parametrize("dtype", EXTREMES, ids=str)
@every_case
def test_extreme_scores_leave_value_and_gradient_finite(case, dtype):
    far = EXTREMES[dtype]
    levels = torch.tensor([-far, -1.0, 0.0, 1.0, far])
    for trial in range(12):
        drawn, labels = case.batch(dtype)
        outputs = levels[torch.randint(5, drawn.shape)].to(dtype)
        outputs = (torch.full_like(outputs, levels[trial].item()) if trial < 5 else outputs).requires_grad_()
        if labels.dtype.is_floating_point:
            labels = levels[torch.randint(5, labels.shape)].to(dtype)
        values = case.loss(outputs, labels, reduction="none")
        assert values.isfinite().all()
        (gradient,) = torch.autograd.grad(case.loss(outputs, labels), outputs)
        assert gradient.dtype is dtype
        assert gradient.isfinite().all()


@every_case
def test_no_step_of_the_gradient_is_nan_even_where_it_is_masked(case):
    outputs, labels = case.batch()
    outputs = torch.cat([outputs[:-1], 0 * outputs[-1:]]).requires_grad_()
    with torch.autograd.set_detect_anomaly(True):
        torch.autograd.grad(case.loss(outputs, labels), outputs)


def test_torch_s_triplets_of_equal_embeddings_have_no_gradient_and_ours_have_0():
    z = torch.ones(3, 2)
    assert grad(lambda x: (x[0] - x[1]).square().sum().sqrt())(z).isnan().any()
    assert (grad(lambda x: Triplet()(x, torch.tensor([0, 0, 1])))(z) == 0).all()


def test_an_embedding_of_nothing_has_no_direction():
    z = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    labels = torch.tensor([0, 0, 1])
    values = InfoNCE(1.0)(z, labels, reduction="none")
    torch.testing.assert_close(values, torch.tensor([2.0, 2.0, 1.0]).log())
    assert (grad(lambda x: InfoNCE(1.0)(x, labels))(z)[0] == 0).all()


@pytest.mark.parametrize("loss", [InfoNCE(), Triplet()], ids=str)
def test_without_pairs_nothing_counts(loss):
    z = torch.randn(4, 3)
    assert loss(z, torch.arange(4)) == 0
    assert (grad(lambda x: loss(x, torch.arange(4)))(z) == 0).all()
    alone = z[:1].clone().requires_grad_()
    with torch.autograd.set_detect_anomaly(True):
        (gradient,) = torch.autograd.grad(loss(alone, torch.tensor([3])), alone)
    assert (gradient == 0).all()


def test_a_triplet_without_strangers_is_no_loss():
    assert Triplet()(torch.randn(4, 3), torch.zeros(4).long()) == 0


def test_equals_torch_where_torch_has_it():
    z, y = torch.randn(6, 4), torch.randint(2, (6, 4)).float()
    torch.testing.assert_close(MultilabelLogistic()(z, y), F.multilabel_soft_margin_loss(z, y))
    torch.testing.assert_close(
        MultilabelLogistic()(z, y, reduction="none"),
        F.binary_cross_entropy_with_logits(z, y, reduction="none"),
    )
    teacher, t = torch.randn(6, 4), 3.0
    both = (teacher / t).log_softmax(1), (z / t).log_softmax(1)
    divergence = t**2 * F.kl_div(both[1], both[0], log_target=True, reduction="batchmean")
    torch.testing.assert_close(Distillation(t)(z, teacher), divergence)


def test_the_hardest_triplets_are_torch_s_triplets():
    z, labels = torch.randn(7, 3), grouped()
    values = Triplet(0.5)(z, labels, reduction="none")
    all_triplets = {
        i: [
            F.triplet_margin_loss(z[i], z[j], z[k], margin=0.5, eps=0).item()
            for j in range(7)
            for k in range(7)
            if j != i and labels[j] == labels[i] != labels[k]
        ]
        for i in (0, 1, 3, 4, 5)
    }
    assert values[list(all_triplets)].tolist() == pytest.approx(
        [max(each) for each in all_triplets.values()], rel=1e-5
    )


def test_info_nce_is_a_cross_entropy_over_the_others():
    z, labels = torch.randn(6, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    unit = F.normalize(z)
    logits = (unit @ unit.T / 0.3).fill_diagonal_(-torch.inf)
    partner = torch.tensor([3, 4, 5, 0, 1, 2])
    torch.testing.assert_close(
        InfoNCE(0.3)(z, labels, reduction="none"), F.cross_entropy(logits, partner, reduction="none")
    )


def test_equals_optax_where_optax_has_it():
    losses = pytest.importorskip("optax").losses
    z, labels = torch.randn(8, 3), torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])
    # optax takes the sum over an anchor's partners, which is the mean where there is one.
    reference = losses.ntxent(z.numpy(), labels.numpy(), temperature=0.4)
    assert InfoNCE(0.4)(z, labels).item() == pytest.approx(float(reference), rel=1e-4)
    masks = torch.randint(2, (8, 3))
    found = {
        Dice(2.0): {"smooth": 1.0},
        Tversky(0.2, 0.9, 0.5): {"smooth": 0.5, "alpha": 0.2, "beta": 0.9},
    }
    for ours, named in found.items():
        theirs = losses.dice_loss(z.numpy()[..., None], masks.float().numpy()[..., None], **named)
        assert ours(z, masks, reduction="none").tolist() == pytest.approx(theirs.tolist(), rel=1e-4)
    scores, classes = torch.randn(4, 3, 5), torch.randint(3, (4, 5))
    last = scores.movedim(1, -1).numpy(), F.one_hot(classes, 3).float().numpy()
    assert Dice(2.0)(scores, classes).item() == pytest.approx(float(losses.dice_loss(*last).mean()), rel=1e-4)


def test_the_overlaps_are_one_another_s_special_cases():
    z, y = torch.randn(4, 9, dtype=torch.float64), torch.randint(2, (4, 9))
    torch.testing.assert_close(Tversky(0.5, 0.5, 0.7)(z, y), Dice(1.4)(z, y))
    torch.testing.assert_close(FocalTversky(0.3, 0.7, 0.7, 1.0)(z, y), Tversky(0.3, 0.7, 0.7)(z, y))


def test_certain_outputs_have_the_jaccard_and_the_dice_index_of_sets():
    y = torch.tensor([[1, 1, 1, 0, 0, 0]])
    found = torch.tensor([[1, 1, 0, 1, 0, 0]])
    z = 40.0 * (2 * found - 1)
    assert Tversky(1.0, 1.0, 1e-9)(z, y).item() == pytest.approx(1 - 2 / 4)
    assert Dice(1e-9)(z, y).item() == pytest.approx(1 - 4 / 6)
    both = torch.stack([-z, z], 1)
    wrong = LovaszSoftmax()(both, y).item()
    assert wrong == pytest.approx((1 - 2 / 4 + 1 - 2 / 4) / 2)
    small = 1.0 * (2 * found - 1)  # hinges of 2 where wrong, 0 where right
    assert LovaszHinge()(small, y).item() == pytest.approx(2 * (1 - 2 / 4))


def test_nothing_to_find_and_nothing_found_is_no_loss():
    z, y = torch.full((1, 6), -30.0), torch.zeros(1, 6).long()
    for loss in (Dice(), Tversky(), FocalTversky(), LovaszHinge()):
        assert loss(z, y).item() == pytest.approx(0, abs=1e-9)


def test_the_extension_of_the_loops_is_the_set_function_on_sets():
    for region in ({0, 2}, set(), {0, 1, 2, 3}):
        for wrong in ({1}, {0, 1}, {2, 3}, set()):
            errors = [float(i in wrong) for i in range(4)]
            assert lovasz(errors, region) == pytest.approx(jaccard_loss(wrong, region))


def test_masks_may_be_booleans_or_bytes():
    z, y = torch.randn(3, 5), torch.randint(2, (3, 5))
    maps = torch.randn(3, 2, 5)
    for kind in (torch.bool, torch.uint8, torch.float64):
        for loss in (Dice(), Tversky(), LovaszHinge()):
            loss.check(z, y.to(kind))
            assert loss(z, y.to(kind)) == loss(z, y)
        if kind is not torch.float64:
            assert Dice()(maps, y.to(kind)) == Dice()(maps, y)


def test_a_sample_s_region_is_its_own():
    z, y = torch.randn(3, 5), torch.randint(2, (3, 5))
    for loss in (Dice(), Tversky(), LovaszHinge()):
        alone = torch.cat([loss(a[None], b[None], reduction="none") for a, b in zip(z, y, strict=True)])
        torch.testing.assert_close(loss(z, y, reduction="none"), alone)


def test_coral_s_probabilities_are_those_of_the_ranks():
    p = torch.tensor([[0.1, 0.2, 0.4, 0.3], [0.7, 0.1, 0.1, 0.1]], dtype=torch.float64)
    z = Coral().minimiser(p)
    torch.testing.assert_close(torch.sigmoid(z[:, 0]), 1 - p[:, 0])
    torch.testing.assert_close(Coral().probability(z), p)
    contradicting = Coral().probability(torch.tensor([[0.0, 5.0, -1.0]]))
    assert (contradicting >= 0).all()
    torch.testing.assert_close(contradicting.sum(1), torch.ones(1))
    half, low = 0.5, torch.sigmoid(torch.tensor(-1.0)).item()
    assert contradicting[0].tolist() == pytest.approx([half, 0, half - low, low])


BREACHES: list[tuple[Case | object, torch.Tensor, torch.Tensor, str]] = [
    (
        MultilabelLogistic(),
        torch.zeros(4, 3),
        torch.zeros(4).long(),
        r"one_hot\(labels, 3\), or use 'cross_entropy'",
    ),
    (
        MultilabelLogistic(),
        torch.zeros(4, 3),
        -torch.ones(4, 3),
        r"labels 0 and 1: 12 of 12 .*\(labels \+ 1\) / 2",
    ),
    (MultilabelRanking(), torch.zeros(4, 3), torch.full((4, 3), 0.3), "cut probabilities at 1/2"),
    (MultilabelRanking(), torch.zeros(4, 3), torch.full((4, 3), 2), "the first is 2.*what belongs as 1"),
    (
        MultilabelRanking(),
        torch.zeros(4, 3, 2),
        torch.zeros(4, 3, 2),
        r"it expects \[N, C\], a score for each class",
    ),
    (MultilabelLogistic(), torch.zeros(4, 3), torch.zeros(4, 2), "make the two shapes equal"),
    (Dice(), torch.zeros(4, 5, 5), torch.full((4, 5, 5), 255), "labels / 255"),
    (Dice(), torch.zeros(4, 1, 5, 5), torch.zeros(4, 5, 5).long(), "does not broadcast"),
    (Tversky(), torch.zeros(4, 3, 5, 5), torch.full((4, 5, 5), 3), "100 of 100 labels are 3 or more"),
    (Tversky(), torch.zeros(4), torch.zeros(4), r"\[N, \.\.\.\] with at least one dimension of places"),
    (LovaszHinge(), torch.zeros(4, 5), -torch.ones(4, 5), r"\(labels \+ 1\) / 2"),
    (LovaszSoftmax(), torch.zeros(4, 3, 5), torch.full((4, 5), -1), "20 of 20 labels are negative"),
    (LovaszSoftmax(), torch.zeros(4, 1, 5), torch.zeros(4, 5).long(), "single column"),
    (
        Coral(),
        torch.zeros(4, 3),
        torch.tensor([0, 3, 4, 5]),
        "ranks from 0 to 3.*2 of 4 labels.*first is 4.*5 outputs",
    ),
    (Coral(), torch.zeros(4, 3), torch.tensor([-1, 0, 1, 2]), "number the ranks from 0"),
    (Coral(), torch.zeros(4, 3), torch.zeros(4), r"integer ranks \[N\]"),
    (InfoNCE(), torch.zeros(4, 3), torch.arange(4), "no two of them the same.*at least twice"),
    (Triplet(), torch.zeros(4, 3), torch.zeros(4, 1).long(), r"embeddings \[N, D\] and integer labels \[N\]"),
    (
        Distillation(),
        torch.zeros(4, 3),
        torch.zeros(4).long(),
        "teacher's logits.*'cross_entropy' for class labels",
    ),
    (
        Distillation(),
        torch.zeros(4, 3),
        torch.full((4, 3), 1 / 3),
        r"probabilities that sum to 1: give labels.log\(\)",
    ),
    (
        Distillation(),
        torch.zeros(4, 3),
        torch.full((4, 3), torch.inf),
        "finite logits of the teacher: 12 are not",
    ),
    (Distillation(), torch.zeros(4, 1), torch.zeros(4, 1), "single column"),
]


@pytest.mark.parametrize(("loss", "outputs", "labels", "message"), BREACHES)
def test_check_names_the_breach(loss, outputs, labels, message):
    with pytest.raises(ModelspaceError, match=message):
        loss.check(outputs, labels)


@every_case
def test_check_accepts_what_fits(case):
    case.loss.check(*case.batch())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dice(0.0), "smooth must be a positive number; received 0.0"),
        (lambda: Tversky(-1.0), "fp_weight must be a number of at least 0; received -1.0"),
        (lambda: FocalTversky(region_exponent=0.0), "region_exponent must be a positive number"),
        (lambda: InfoNCE(0.0), "temperature must be a positive number; received 0.0"),
        (lambda: Distillation(-1.0), "temperature must be a positive number; received -1.0"),
        (lambda: Triplet(-0.1), "margin must be a number of at least 0"),
    ],
)
def test_parameters_out_of_range_are_refused(make, message):
    with pytest.raises(ModelspaceError, match=message):
        make()
