"""Models of transformers as they are: keyword inputs, padding masks, labels, and the loss that they compute."""

import pytest
import torch
from support.plain import relative_error

import modelspace as ms
from modelspace.data import Data, Split, epoch_indices

transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
G = torch.Generator().manual_seed(0)
COUNT, LENGTH = 24, 9
IDS = torch.randint(2, 60, (COUNT, LENGTH), generator=G)
MASK = (torch.arange(LENGTH)[None] < torch.randint(4, LENGTH + 1, (COUNT, 1), generator=G)).long()
NEXT = IDS.masked_fill(MASK == 0, -100)
STILL = {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}


def bert():
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    return transformers.BertForSequenceClassification(
        transformers.BertConfig(vocab_size=60, max_position_embeddings=16, num_labels=3, **size, **STILL)
    )


def gpt2():
    none = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0}
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=60, n_positions=16, n_embd=16, n_layer=1, n_head=2, **none)
    )


def t5():
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=60, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0,
            decoder_start_token_id=0, pad_token_id=0,
        )
    )  # fmt: skip


WORKS = {"bert": (bert, torch.randint(3, (COUNT,), generator=G)), "gpt2": (gpt2, NEXT), "t5": (t5, NEXT)}


@pytest.mark.parametrize("lowering", ["vmap", "loop"])
@pytest.mark.parametrize("name", WORKS)
def test_a_model_that_says_its_own_loss_is_trained_as_a_bare_loop_trains_it(name, lowering):
    make, labels = WORKS[name]
    batch = {"input_ids": IDS, "attention_mask": MASK, "labels": labels}
    part = Split({key: value for key, value in batch.items() if key != "labels"}, labels, "dict:labels")
    data, space = (
        Data(name, part, part.take(slice(6)), part.take(slice(6))),
        ms.ModelSpace(make, dtype=torch.float64),
    )
    plan = {"lowering": lowering, "compile": False, "shard": 3, "threads": 1, "workers": 1}
    run = ms.fit(
        space.sample(seeds=3, lr=[0.05]),
        data,
        objective="model",
        optimizer="sgd",
        epochs=2,
        batch_size=6,
        plan=plan,
    )
    for k in range(2):
        net = space.sample(seeds=[k]).module(0).train()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
        for epoch in range(2):
            for rows in epoch_indices(COUNT, 6, 0, epoch):
                optimizer.zero_grad()
                net(**{key: value[rows] for key, value in batch.items()}).loss.backward()
                optimizer.step()
        assert relative_error(run.population.points[k][None], space.point(net)[None]) < 1e-9


def test_a_loss_and_metrics_are_taken_of_the_logits():
    part = Split({"input_ids": IDS, "attention_mask": MASK}, WORKS["bert"][1])
    data = Data("texts", part, part, part)
    run = ms.fit(ms.ModelSpace(bert).sample(seeds=2, lr=[1e-2]), data, epochs=1, batch_size=6)
    scores = ms.evaluate(run.population, data)
    for k, module in enumerate(run.population.modules()):
        with torch.no_grad():
            logits = module.eval()(**part.inputs).logits
        assert scores["accuracy"][k] == (logits.argmax(1) == part.labels).double().mean()
