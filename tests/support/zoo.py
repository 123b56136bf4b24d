"""Real architectures from other packages, made small: timm's test models, Hugging Face's from tiny configurations."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

TOKENS = 50
LENGTH = 6
CLASSES = 4


@dataclass(frozen=True)
class Entry:
    """One architecture.

    Attributes:
        name: Its name in the tests.
        make: What makes it.
        shape: One sample's shape.
        tokens: Samples are integers below this; numbers where None.
    """

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    tokens: int | None = None

    def __str__(self):
        return self.name


class Scores(nn.Module):
    """A Hugging Face model as a module of one input and one output.

    Args:
        model: The model.
        read: Of what the model returns, the tensor to be compared with labels.
        argument: The name under which the input goes in.
        **others: Further arguments, or functions of the input to them.
    """

    def __init__(self, model, read, argument="input_ids", **others):
        super().__init__()
        self.model, self.read, self.argument, self.others = model, read, argument, others

    def forward(self, x):
        given = {name: value(x) if callable(value) else value for name, value in self.others.items()}
        return self.read(self.model(**{self.argument: x}, **given))


def logits(outputs):
    return outputs.logits


def last(outputs):
    return outputs.logits[:, -1]


def without_torchvision_s_library():
    """torchvision's wheels need another build of torch than a CPU one for two operations that nobody here calls."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def timm_models():
    import timm

    def entry(name):
        def make():
            return timm.create_model(name, num_classes=CLASSES)

        return Entry(name, make, timm.get_pretrained_cfg(name).input_size)

    return [entry(name) for name in timm.list_models("test_*")]


def hugging_face():
    import transformers as hf

    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    text = {**small, "vocab_size": TOKENS, "max_position_embeddings": 32}
    eager = {"attn_implementation": "eager"}
    causal = {"use_cache": False}
    image = {"image_size": 16, "patch_size": 8, "num_channels": 3, "num_labels": CLASSES}

    def model(kind, config, read, argument="input_ids", **others):
        return lambda: Scores(getattr(hf, kind)(config), read, argument, **others)

    t5 = hf.T5Config(
        vocab_size=TOKENS, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    whisper = hf.WhisperConfig(
        vocab_size=TOKENS,
        num_mel_bins=8,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        d_model=16,
        max_source_positions=8,
        max_target_positions=8,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        decoder_start_token_id=0,
    )
    gpt2 = hf.GPT2Config(vocab_size=TOKENS, n_positions=32, n_embd=16, n_layer=2, n_head=2, **eager)
    mixtral = hf.MixtralConfig(
        **text,
        num_key_value_heads=1,
        num_local_experts=3,
        num_experts_per_tok=2,
        experts_implementation="batched_mm",
    )
    mamba = hf.MambaConfig(vocab_size=TOKENS, hidden_size=16, num_hidden_layers=2, state_size=4)
    words = (LENGTH,)
    return [
        Entry(
            "BERT",
            model("BertForSequenceClassification", hf.BertConfig(**text, num_labels=CLASSES), logits),
            words,
            TOKENS,
        ),
        Entry("GPT-2", model("GPT2LMHeadModel", gpt2, last, **causal), words, TOKENS),
        Entry(
            "Llama",
            model("LlamaForCausalLM", hf.LlamaConfig(**text, num_key_value_heads=1), last, **causal),
            words,
            TOKENS,
        ),
        Entry("Mixtral", model("MixtralForCausalLM", mixtral, last, **causal), words, TOKENS),
        Entry(
            "T5",
            model("T5ForConditionalGeneration", t5, last, decoder_input_ids=lambda x: x, **causal),
            words,
            TOKENS,
        ),
        Entry(
            "ViT",
            model("ViTForImageClassification", hf.ViTConfig(**small, **image), logits, "pixel_values"),
            (3, 16, 16),
        ),
        Entry("Mamba", model("MambaForCausalLM", mamba, last, **causal), words, TOKENS),
        Entry(
            "Whisper",
            model(
                "WhisperForConditionalGeneration",
                whisper,
                last,
                "input_features",
                decoder_input_ids=lambda x: torch.zeros(len(x), 3, dtype=torch.long),
                **causal,
            ),
            (8, 16),
        ),
    ]


def adapted():
    """A GPT-2 whose own parameters are frozen, with PEFT's LoRA adapters."""
    import peft
    import transformers as hf

    config = hf.GPT2Config(vocab_size=TOKENS, n_positions=32, n_embd=16, n_layer=2, n_head=2)
    lora = peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False)

    base = hf.GPT2LMHeadModel(config)  # one for all, as a pretrained one is

    def make():
        return Scores(peft.get_peft_model(copy.deepcopy(base), lora), last, use_cache=False)

    return Entry("GPT-2 with LoRA", make, (LENGTH,), TOKENS)
