"""Architectures of other packages: by name or by configuration, never with their weights, never with others' code."""

import json
import os
import sys

import pytest
import torch
from support.commands import printed
from support.zoo import without_torchvision_s_library

from modelspace.cost import built
from modelspace.errors import ModelspaceError
from modelspace.loading import load_object

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


STUB = """
import types
import sys
from huggingface_hub import constants, get

class PreTrainedModel:
    pass

class AutoConfig:
    @staticmethod
    def for_model(kind, **entries):
        return types.SimpleNamespace(model_type=kind, **entries)

class AutoModel:
    @staticmethod
    def from_config(config, trust_remote_code):
        from torch import nn
        if getattr(config, "backbone", None):
            get(config.backbone)
        return nn.Linear(2, constants.HF_HUB_OFFLINE + 1)

models = types.SimpleNamespace(auto=types.SimpleNamespace(configuration_auto=types.SimpleNamespace(
    CONFIG_MAPPING_NAMES={"detr": "DetrConfig"})))
"""
HUB = """
import os
import socket
from . import constants

class OfflineModeIsEnabled(ConnectionError):
    pass

def get(name):
    cached = os.path.join(constants.HF_HUB_CACHE, name)
    if os.path.exists(cached):
        raise SystemExit("the cache was read")
    if constants.HF_HUB_OFFLINE and os.environ["HF_HUB_OFFLINE"] == "1":
        raise OfflineModeIsEnabled(f"Cannot reach https://huggingface.co/api/models/{name}: offline mode is enabled.")
    socket.create_connection(("127.0.0.1", 9))
"""


@pytest.fixture
def stubs(tmp_path, monkeypatch):
    """Stand-ins for the two libraries, with the hub's switch; ``bb`` lies in its cache."""
    (tmp_path / "huggingface_hub").mkdir()
    (tmp_path / "huggingface_hub" / "__init__.py").write_text(HUB)
    (tmp_path / "huggingface_hub" / "constants.py").write_text(
        f"HF_HUB_OFFLINE = False\nHF_HUB_CACHE = {str(tmp_path)!r}\n"
    )
    (tmp_path / "transformers.py").write_text(STUB)
    (tmp_path / "bb").touch()
    for name in ("transformers", "huggingface_hub", "huggingface_hub.constants"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    def target(**entries):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "detr", **entries}))
        return f"hf:{tmp_path / 'config.json'}"

    yield target
    for name in ("transformers", "huggingface_hub", "huggingface_hub.constants"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("backbone", ["facebook/convnext", "bb"])
def test_what_a_configuration_asks_the_hub_for_is_refused(stubs, no_network, backbone):
    make = load_object(stubs(backbone=backbone))
    message = (
        f"asks for https://huggingface.co/api/models/{backbone}, and nothing is downloaded: give the whole"
    )
    with pytest.raises(ModelspaceError, match=message):
        make()
    with pytest.raises(ModelspaceError, match=message):
        built(make, {})


def test_the_switches_are_on_while_it_is_built_and_as_they_were_after(stubs, tmp_path, monkeypatch):
    make = load_object(stubs())
    constants = sys.modules["huggingface_hub.constants"]
    before = dict(os.environ), torch.hub._hub_dir, torch.hub.download_url_to_file
    assert make().out_features == 2
    assert (False, str(tmp_path)) == (constants.HF_HUB_OFFLINE, constants.HF_HUB_CACHE)
    with pytest.raises(ModelspaceError, match="nothing is downloaded"):
        load_object(stubs(backbone="bb"))()
    assert (False, str(tmp_path)) == (constants.HF_HUB_OFFLINE, constants.HF_HUB_CACHE)
    assert before == (dict(os.environ), torch.hub._hub_dir, torch.hub.download_url_to_file)


def test_torch_hub_fetches_nothing_either(no_network):
    def fetched():
        return torch.hub.load_state_dict_from_url("http://127.0.0.1:9/weights.pt")

    from modelspace.loading.published import offline

    with pytest.raises(ModelspaceError, match=r"net asks for http://127\.0\.0\.1"), offline("net"):
        fetched()
    with pytest.raises(ZeroDivisionError), offline("net"):
        _ = 1 / 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "entries",
    [
        {"model_type": "detr", "use_timm_backbone": False, "backbone": "microsoft/resnet-50"},
        {"model_type": "upernet", "backbone": "facebook/convnext-tiny-224"},
    ],
)
def test_the_real_libraries_ask_nobody(configured, no_network, entries):
    with pytest.raises(
        ModelspaceError, match=r"asks for https://huggingface\.co/.*, and nothing is downloaded"
    ):
        load_object(configured(**entries))()
