"""Architectures of other packages: by name or by configuration, never with their weights, never with others' code."""

import json
import sys

import pytest
from commands import printed
from zoo import without_torchvision_s_library

from modelspace.errors import ModelspaceError
from modelspace.loading import load_object
from modelspace.space.inspection.build import built

LIBRARY = without_torchvision_s_library()


@pytest.fixture
def no_network(monkeypatch):
    import socket

    def refuse(*given, **more):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_torchvision_by_name(no_network):
    pytest.importorskip("torchvision")
    net = built(load_object("torchvision:resnet18"), {"num_classes": 7})
    assert net.fc.weight.shape == (7, 512)
    assert net.fc.weight.is_meta


def test_a_backbone_is_not_fetched_either(no_network):
    pytest.importorskip("torchvision")
    net = load_object("torchvision:lraspp_mobilenet_v3_large")(num_classes=2)
    assert sum(p.numel() for p in net.parameters()) > 10**6


def test_timm_by_name(no_network):
    pytest.importorskip("timm")
    make = load_object("timm:test_vit.r160_in1k")
    assert make.__name__ == "test_vit"
    assert built(make, {"num_classes": 3}).num_classes == 3


@pytest.mark.parametrize(
    ("package", "target", "expected"),
    [
        (
            "torchvision",
            "torchvision:resnet19",
            "torchvision architecture 'resnet19': did you mean 'resnet18'",
        ),
        ("timm", "timm:vit_tiny_patch16_225", "did you mean 'vit_tiny_patch16_224'"),
    ],
)
def test_an_unknown_name_gets_the_nearest(package, target, expected):
    pytest.importorskip(package)
    with pytest.raises(ModelspaceError, match=expected):
        load_object(target)


@pytest.mark.parametrize(
    ("target", "argument"),
    [("torchvision:resnet18", {"weights": "DEFAULT"}), ("timm:test_vit", {"pretrained": True})],
)
def test_trained_weights_are_refused(target, argument):
    pytest.importorskip(target.partition(":")[0])
    with pytest.raises(ModelspaceError, match="random weights and nothing is downloaded"):
        load_object(target)(**argument)


@pytest.mark.parametrize(
    ("package", "target"), [("torchvision.models", "torchvision:resnet18"), ("timm", "timm:test_vit")]
)
def test_a_missing_package_is_named(monkeypatch, package, target):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelspaceError, match=r"this target needs t.*pip install t"):
        load_object(target)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "no configuration"),
        ("{", "is not JSON"),
        ("[1]", "no model's configuration"),
        ('{"model_type": 3}', "no model's configuration"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path, text, expected):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelspaceError, match=expected):
        load_object(f"hf:{tmp_path / 'config.json'}")


@pytest.fixture
def configured(tmp_path, monkeypatch):
    # It imports torchvision where there is one, for models that are not asked for here.
    monkeypatch.setitem(sys.modules, "torchvision", None)
    pytest.importorskip("transformers")

    def write(**entries):
        path = tmp_path / "config.json"
        small = {"n_embd": 8, "n_layer": 2, "n_head": 2, "vocab_size": 11, "n_positions": 16}
        path.write_text(json.dumps({"model_type": "gpt2", **small, **entries}))
        return f"hf:{path}"

    return write


def gpt2(depth, d=8, vocabulary=11, positions=16):
    """Parameters by hand, the head tied."""
    return vocabulary * d + positions * d + depth * (12 * d * d + 13 * d) + 2 * d


@pytest.mark.slow
def test_a_configuration_s_own_class_or_the_bare_model(configured, no_network, capsys):
    head = configured(architectures=["GPT2LMHeadModel"])
    found = json.loads(printed(capsys, "inspect", head, "--json"))
    assert found["parameters"] == gpt2(2)
    assert found["tied"] == {"lm_head.weight": "transformer.wte.weight"}
    assert found["input_shape"] == [16]
    assert found["layers"][-1]["output_shape"] == [1, 16, 11]
    net = built(load_object(head), {"n_layer": 3})
    assert sum(p.numel() for p in net.parameters()) == gpt2(3)
    assert type(built(load_object(configured()))).__name__ == "GPT2Model"


@pytest.mark.slow
def test_code_that_a_configuration_points_to_is_never_run(configured, tmp_path, no_network):
    (tmp_path / "evil.py").write_text("raise SystemExit('run')\n")
    target = configured(auto_map={"AutoModel": "evil.Net", "AutoConfig": "evil.Config"}, architectures=["os"])
    assert type(load_object(target)()).__name__ == "GPT2Model"
    with pytest.raises(ModelspaceError, match="random weights"):
        load_object(target)(weights="x")
    with pytest.raises(
        ModelspaceError, match=r"unknown model_type 'gpt3': did you mean .*'gpt2'.*lists them"
    ):
        load_object(configured(model_type="gpt3"))
