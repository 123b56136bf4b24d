"""Our counts of whole models against what their authors published: a few in every run, all in the slow tests."""

import csv
import sys
import warnings

import pytest
import torch
from cost.truth.classics import CLASSICS
from cost.truth.tables import (
    FOLDER,
    Found,
    Row,
    near,
    parameters,
    quietly,
    timm_fused,
    timm_gmacs,
    timm_model,
    timm_parameters,
    timm_then,
    timm_written_out,
    torchvision_model,
    torchvision_weights,
    traced,
)

from modelspace.cost import MetaBuild, Spec, anatomy, counts

# Their figures state no size of the input, or their course depends on values.
NOT_TRACED = ("detection", "optical_flow")
# In a fast run.
FEW = ("resnet18", "mobilenet_v3_small", "vit_b_16", "regnet_y_400mf", "squeezenet1_0")
FEW_TIMM = ("vit_tiny_patch16_224", "mobilenetv3_small_050", "convnext_atto", "resnet18d", "mixer_b16_224")


@pytest.fixture
def packages():
    """They take seconds to import: only where they are needed."""
    for package in ("torchvision", "timm"):
        pytest.importorskip(package)


def sample_of(name, weights, module):
    """The input on which torchvision's figure was measured."""
    crop = weights.transforms()
    side = getattr(crop, "crop_size", None) or crop.resize_size
    side = side[-1] if isinstance(side, list | tuple) else side
    if "segmentation" in module:
        return 3, 520, 520
    return (3, 16, side, side) if "video" in module else (3, side, side)


def torchvision_found(name, weights):
    """Parameters, and GMAC where they can be compared."""
    model = torchvision_model(name, weights)
    module = type(model).__module__
    if any(family in module for family in NOT_TRACED):
        return parameters(model), None
    return parameters(model), traced(model, *sample_of(name, weights, module)).gmacs


def published(weights):
    return Row(str(weights), weights.meta["_ops"], 3)


@pytest.mark.parametrize("classic", CLASSICS, ids=str)
def test_networks_written_from_their_papers(classic):
    """With neither package: our own code of what they publish, so nothing that is counted is theirs."""
    model = quietly(classic.make)
    assert parameters(model) == classic.parameters
    assert round(traced(model, 3, 224, 224).gmacs, 3) == classic.gmacs


def test_the_figures_beside_them_are_torchvision_s(packages):
    from torchvision import models

    for classic in CLASSICS:
        meta = next(iter(models.get_model_weights(classic.name))).meta
        assert (classic.parameters, classic.gmacs) == (meta["num_params"], meta["_ops"])


@pytest.mark.parametrize("name", FEW)
def test_torchvision_s_figures(packages, name):
    from torchvision import models

    for weights in list(models.get_model_weights(name))[:1]:
        held, macs = torchvision_found(name, weights)
        assert held == weights.meta["num_params"]
        assert near(macs, published(weights))


@pytest.mark.parametrize("name", FEW_TIMM)
def test_timm_s_figures(packages, name):
    row = next(r for r in timm_gmacs() if r.model == name)
    model = timm_model(name, row.size)
    found = traced(model, 3, row.size, row.size)
    assert near(found.gmacs, row) or near(found.fvcore, row)
    millions = [r.value for r in timm_parameters() if r.model.split(".")[0] == name]
    assert all(round(parameters(model) / 1e6, 2) == value for value in millions)


def test_near_is_neither_blind_nor_blinding():
    row = Row("net", 2.0, 2)
    assert near(2.039, row)
    assert not near(2.041, row)
    assert near(0.014, Row("small", 0.01, 2))
    assert not near(0.016, Row("small", 0.01, 2))


@pytest.mark.slow
def test_every_figure_of_torchvision(packages, capsys):
    wrong, compared, off = [], 0, []
    everything = torchvision_weights()
    for name, weights in everything:
        held, macs = torchvision_found(name, weights)
        if held != weights.meta["num_params"]:
            wrong.append((str(weights), held, weights.meta["num_params"]))
        if macs is not None:
            compared += 1
            if not near(macs, published(weights)):
                off.append((str(weights), macs, weights.meta["_ops"]))
    with capsys.disabled():
        print(f"\ntorchvision: parameters equal {len(everything) - len(wrong)} of {len(everything)};")
        print(f"GMAC within 2 % {compared - len(off)} of {compared}; off: {off or 'none'}")
    assert wrong == []
    assert off == []


@pytest.mark.slow
def test_every_parameter_count_of_timm(packages, capsys):
    rows = timm_parameters()
    wrong = []
    for row in rows:
        found = parameters(timm_model(row.model))
        if abs(found / 1e6 - row.value) > 0.0051:
            wrong.append((row.model, found, row.value))
    with capsys.disabled():
        print(f"\ntimm: parameters equal {len(rows) - len(wrong)} of {len(rows)}; others: {wrong or 'none'}")
    assert wrong == []


def explained(found, row, instead=()):
    """Why a figure of timm's table is near, or what its table counts or measured otherwise; None where nothing is.

    Args:
        found: Our count of the model as it is today.
        row: The table's.
        instead: What the table may have measured instead: reasons with parameters and counts. One counts only
            with the parameters that the table gives.
    """
    if near(found.gmacs, row):
        return "products alone"
    if near(found.fvcore, row):
        return "as its counter counts, without recurrences" if found.recurrent else "as its counter counts"
    for why, held, other in instead:
        if same_parameters(held, row) and near(other.fvcore, row):
            return why
    return None


def same_parameters(held, row):
    return abs(parameters_of_table()[row.model, row.size] - held / 1e6) <= 0.0051


def measured_instead(row):
    """What ``explained`` may hold against the table in place of the model as it is, each made when asked for."""
    for why, make in (
        ("of the model with its attention written out", lambda: timm_written_out(row.model, row.size)),
        ("of the model as it was registered", lambda: timm_then(row.model, row.size)),
        ("of the model fused for inference", lambda: timm_fused(row.model)),
    ):
        if (model := make()) is not None:
            yield why, parameters(model), traced(model, 3, row.size, row.size)


def parameters_of_table():
    with (FOLDER / "timm_gmacs.csv").open(newline="") as lines:
        return {(r["model"], int(r["size"])): float(r["millions"]) for r in csv.DictReader(lines)}


@pytest.mark.slow
def test_every_gmac_of_timm(packages, capsys):
    one_each = {row.model: row for row in timm_gmacs()}.values()
    reasons, lost = {}, []
    for row in one_each:
        try:
            found = traced(timm_model(row.model, row.size), 3, row.size, row.size)
        except ValueError as error:
            lost.append((str(row), str(error)[:80]))
            continue
        why = explained(found, row, measured_instead(row))
        reasons.setdefault(why, []).append((str(row), row.value, found))
    with capsys.disabled():
        for why, models in reasons.items():
            print(f"\ntimm: {why or 'unexplained'}: {len(models)} of {len(one_each)}")
    assert reasons.get(None, []) == []
    assert lost == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("repvgg_b1g4", "of the model fused for inference"),
        # Fused, and only near with its counter's elements of enlarged images.
        ("ghostnetv3_130", "of the model fused for inference"),
        # Differential attention: fused it multiplies two maps by the values, written out their difference.
        ("vit_dwee_patch16_reg1_gap_256", "of the model with its attention written out"),
        ("vit_dpwee_patch16_reg1_gap_256", "of the model with its attention written out"),
        ("vit_dlittle_patch16_reg1_gap_256", "of the model with its attention written out"),
        ("ecaresnext50t_32x4d", "of the model as it was registered"),
        # LSTM along the rows and columns.
        ("sequencer2d_s", "as its counter counts, without recurrences"),
        ("sequencer2d_m", "as its counter counts, without recurrences"),
        ("sequencer2d_l", "as its counter counts, without recurrences"),
    ],
)
def test_what_the_table_measured_otherwise(packages, name, why):
    row = next(r for r in timm_gmacs() if r.model == name)
    found = traced(timm_model(row.model, row.size), 3, row.size, row.size)
    assert not near(found.gmacs, row)
    assert explained(found, row, measured_instead(row)) == why


def test_the_explanation_tells_apart():
    row = next(r for r in timm_gmacs() if r.model == "fbnetc_100")
    value, held = row.value, parameters_of_table()[row.model, row.size] * 1e6
    far = Found(0.5 * value, 0.0)
    assert explained(Found(value, 0.0), row) == "products alone"
    assert explained(Found(0.95 * value, 0.05 * value), row) == "as its counter counts"
    assert explained(Found(1.1 * value, 0.0, same=0.1 * value), row) == "as its counter counts"
    recurrent = Found(1.5 * value, 0.0, recurrent=0.5 * value)
    assert explained(recurrent, row) == "as its counter counts, without recurrences"
    assert explained(far, row) is None
    # Another model counts where both its figures are the table's, and the first that does.
    near_by = Found(0.95 * value, 0.05 * value)
    instead = [("far", held, far), ("fused", held, near_by), ("last", held, near_by)]
    assert explained(far, row, instead) == "fused"
    assert explained(far, row, [("far", held, far), ("of other parameters", 2 * held, near_by)]) is None


def test_the_counter_s_convention_on_small_layers():
    """What fvcore adds and leaves out, by hand: 4 channels of 8×8, enlarged to 16×16 twice."""
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding="same", bias=False),
        torch.nn.BatchNorm2d(4),
        torch.nn.Upsample(scale_factor=2),
        torch.nn.Upsample(scale_factor=1.0, mode="bilinear"),
        torch.nn.GroupNorm(2, 4),
        torch.nn.Flatten(2),
        torch.nn.LSTM(256, 5, batch_first=True, bias=False),
    ).eval()
    found = traced(net, 3, 8, 8)
    convolution, lstm = 8 * 8 * 4 * 3 * 9, 4 * 4 * 5 * (256 + 5)
    assert found.gmacs == pytest.approx((convolution + lstm) / 1e9)
    assert found.elements == pytest.approx(4 * (2 * 64 + 256 + 4 * 256 + 5 * 256) / 1e9)
    assert (found.same, found.recurrent) == pytest.approx((convolution / 1e9, lstm / 1e9))
    assert found.fvcore == pytest.approx(found.elements)


@pytest.fixture
def transformers(monkeypatch):
    # It imports torchvision where there is one, for models that are not asked for here.
    monkeypatch.setitem(sys.modules, "torchvision", None)
    return pytest.importorskip("transformers")


@pytest.mark.slow
def test_transformers_models_after_ties(transformers, capsys):
    """Each default configuration's base model: ours equals the sum over parameters, each tensor once."""
    auto = transformers.models.auto
    transformers.logging.set_verbosity_error()
    equal, wrong, unbuilt = 0, [], []
    for kind, name in auto.configuration_auto.CONFIG_MAPPING_NAMES.items():
        try:
            config = transformers.AutoConfig.for_model(kind)
            # Not in memory, whatever fails: some defaults are of 10¹¹ parameters.
            with warnings.catch_warnings(), MetaBuild():
                warnings.simplefilter("ignore")
                model = transformers.AutoModel.from_config(config)
        except Exception as error:
            unbuilt.append((name, type(error).__name__))
            continue
        once = {id(p): p.numel() for p in model.parameters()}
        if counts(model).parameters == sum(once.values()):
            equal += 1
        else:
            wrong.append(name)
    with capsys.disabled():
        print(
            f"\ntransformers: equal {equal} of {equal + len(wrong)}; {len(unbuilt)} have no default to build"
        )
    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "config", "held", "flops"),
    [
        # 12 layers of 12·768² a token, 128 tokens, their attention, and the head on 50,257 tokens.
        ("GPT2LMHeadModel", "GPT2Config", 124_439_808,
         2 * 128 * (12 * 12 * 768**2 + 50257 * 768) + 12 * 4 * 128**2 * 768),
        # The published 109,482,240 of BERT base with its pooler, which sees one token.
        ("BertModel", "BertConfig", 109_482_240,
         2 * 128 * 12 * 12 * 768**2 + 12 * 4 * 128**2 * 768 + 2 * 768**2),
    ],
)  # fmt: skip
def test_transformers_figures_by_hand(transformers, model, config, held, flops):
    net = quietly(lambda: getattr(transformers, model)(getattr(transformers, config)()))
    record = anatomy(net, inputs=Spec((1, 128), torch.long), backward=False)
    assert record.counts.parameters == held
    assert record.forward_flops == flops
