"""One side of a fault: its model, its loss, and a batch that fits both."""

import torch

from modelspace.losses import resolve

# What a loss wants for labels, by the name it has in the catalogue or in torch.nn.
_LABELS = {
    "cross_entropy": "classes",
    "CrossEntropyLoss": "classes",
    "nll_loss": "classes",
    "NLLLoss": "classes",
    "multi_margin_loss": "classes",
    "BCELoss": "probabilities",
    "binary_cross_entropy": "probabilities",
    "BCEWithLogitsLoss": "bits",
    "binary_cross_entropy_with_logits": "bits",
    "logistic": "signs",
    "hinge": "signs",
    "SoftMarginLoss": "signs",
    "HingeEmbeddingLoss": "signs",
    "PoissonNLLLoss": "counts",
}


class Side:
    def __init__(self, fault, make, loss, data, optimizer):
        self.make, self.twin, self.loss, self.data = make, fault.corrected, loss, data
        self.shape, self.tokens = fault.shape, fault.tokens
        self.classes, self.formula = fault.classes, fault.formula
        self.optimizer = optimizer

    @property
    def name(self):
        return resolve(self.loss).name

    @property
    def wants(self):
        return _LABELS.get(self.name, "reals")

    def model(self, seed=0):
        torch.default_generator.manual_seed(seed)
        return self.make()

    def inputs(self, samples, seed=1, shape=None):
        generator = torch.Generator().manual_seed(seed)
        shape = (samples, *(self.shape if shape is None else shape))
        if self.tokens:
            return torch.randint(self.tokens, shape, generator=generator)
        return torch.randn(shape, generator=generator)

    def batch(self, samples=8, chance=False):
        """Inputs and labels: from the data, else drawn for the outputs of the sound twin.

        Dense labels come from the twin at another point, for a small network can't learn noise by heart;
        with ``chance`` they are drawn too.
        """
        if self.data is not None:
            train = self.data().train
            return train.inputs[:samples], train.labels[:samples]
        inputs = self.inputs(samples)
        torch.default_generator.manual_seed(7)
        with torch.no_grad():
            outputs = self.twin()(inputs)
        generator = torch.Generator().manual_seed(2)
        if self.wants == "classes":
            if outputs.ndim > 2 and not chance:
                return inputs, outputs.argmax(1)
            shape = outputs.shape[:1] + outputs.shape[2:]
            return inputs, torch.randint(outputs.shape[1], shape, generator=generator)
        if self.wants == "reals" and outputs.ndim > 2:
            return inputs, (outputs - outputs.mean()) / outputs.std()
        if self.wants == "reals":
            return inputs, torch.randn(outputs.shape, generator=generator)
        bits = torch.randint(2, outputs.shape, generator=generator).float()
        return inputs, 2 * bits - 1 if self.wants == "signs" else bits

    def value(self, outputs, labels):
        return resolve(self.loss)(outputs, labels)


def faulty(fault):
    return Side(fault, fault.faulty, fault.loss, fault.data, fault.optimizer)


def corrected(fault):
    loss = fault.loss if fault.corrected_loss is None else fault.corrected_loss
    data = fault.data if fault.corrected_data is None else fault.corrected_data
    return Side(fault, fault.corrected, loss, data, fault.corrected_optimizer)


def shaken(side, seed=0):
    """The model at a point far from the origin, where bounded outputs show their bounds."""
    model = side.model(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(30 * parameter + torch.randn_like(parameter))
    return model.train()


def learns(side, steps=60, lr=0.02):
    """Whether a short training on one batch of eight halves the loss."""
    inputs, labels = side.batch(8)
    model = side.model().train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=lr)
    first = None
    for _ in range(steps):
        optimizer.zero_grad()
        loss = side.value(model(inputs), labels)
        first = loss.item() if first is None else first
        if loss.item() < first - abs(first) / 2:
            return True
        loss.backward()
        optimizer.step()
    return False
