"""Our counts of whole models against what their authors published: a few in every run, all in the slow tests."""

import csv
import sys
import warnings

import pytest
import torch
from space.truth.tables import (
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
    torchvision_model,
    torchvision_weights,
    traced,
)

from modelspace.space.anatomy import MetaBuild, Spec, anatomy, counts

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


def explained(found, row, held):
    """Why a figure of timm's table is near, or what its table counts otherwise; None where nothing explains it."""
    if near(found.gmacs, row):
        return "products alone"
    if near(found.fvcore, row):
        return "as its counter counts"
    if abs(parameters_of_table()[row.model, row.size] - held / 1e6) > 0.0051:
        fused = traced(timm_fused(row.model), 3, row.size, row.size)
        return "of the model fused for inference" if near(fused.fvcore, row) else None
    return None


def parameters_of_table():
    with (FOLDER / "timm_gmacs.csv").open(newline="") as lines:
        return {(r["model"], int(r["size"])): float(r["millions"]) for r in csv.DictReader(lines)}


@pytest.mark.slow
def test_every_gmac_of_timm(packages, capsys):
    first = {row.model: row for row in timm_gmacs()}.values()
    reasons, lost = {}, []
    for row in first:
        model = timm_model(row.model, row.size)
        try:
            found = traced(model, 3, row.size, row.size)
        except ValueError as error:
            lost.append((str(row), str(error)[:80]))
            continue
        why = explained(found, row, parameters(model))
        reasons.setdefault(why, []).append((str(row), row.value, found))
    with capsys.disabled():
        for why, models in reasons.items():
            print(f"\ntimm: {why or 'unexplained'}: {len(models)} of {len(first)}")
        print(reasons.get(None, []), lost)
    assert sum(len(models) for why, models in reasons.items() if why) >= 0.97 * len(first)


@pytest.mark.slow
def test_fused_models_are_what_the_table_measured(packages):
    row = next(r for r in timm_gmacs() if r.model == "repvgg_b1g4")
    model = timm_model(row.model)
    found = traced(model, 3, row.size, row.size)
    assert not near(found.fvcore, row)
    assert explained(found, row, parameters(model)) == "of the model fused for inference"


def test_the_explanation_tells_apart():
    row = next(r for r in timm_gmacs() if r.model == "fbnetc_100")
    held = parameters_of_table()[row.model, row.size] * 1e6
    assert explained(Found(row.value, 0.0), row, held) == "products alone"
    assert explained(Found(0.95 * row.value, 0.05 * row.value), row, held) == "as its counter counts"
    assert explained(Found(0.5 * row.value, 0.0), row, held) is None


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
