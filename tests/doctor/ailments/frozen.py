"""Parameters frozen by mistake."""

import torch.nn.functional as F
from doctor.ailments.fault import Fault, under
from torch import nn


class Transfer(nn.Module):
    """Freezes what it has, then, or before, puts a new head on."""

    def __init__(self, num_classes=3):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.fc = nn.Linear(32, 10)
        self.prepare(num_classes)

    def prepare(self, num_classes):
        self.fc = nn.Linear(32, num_classes)
        for param in self.parameters():
            param.requires_grad = False

    def forward(self, x):
        return self.fc(self.backbone(x))


class TransferHeadLast(Transfer):
    def prepare(self, num_classes):
        for param in self.parameters():
            param.requires_grad = False
        self.fc = nn.Linear(32, num_classes)


class TextTransfer(nn.Module):
    """The word in the name was the wrong one."""

    frozen = "classifier"

    def __init__(self):
        super().__init__()
        self.encoder = nn.GRU(4, 12, batch_first=True)
        self.classifier = nn.Linear(12, 4)
        for name, param in self.named_parameters():
            if name.startswith(self.frozen):
                param.requires_grad_(False)

    def forward(self, x):
        return self.classifier(self.encoder(x)[1][-1])


class TextTransferEncoderFrozen(TextTransfer):
    frozen = "encoder"


class Detector(nn.Module):
    """Two parts are frozen, and there are only two."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(6, 16), nn.ReLU())
        self.bbox_head = nn.Linear(16, 4)
        self.freeze()

    def freeze(self):
        self.backbone.requires_grad_(False)
        self.bbox_head.requires_grad_(False)

    def forward(self, x):
        return self.bbox_head(F.dropout(self.backbone(x), 0.1, self.training))


class DetectorBackboneFrozen(Detector):
    def freeze(self):
        self.backbone.requires_grad_(False)


FAULTS = (
    *under(
        "frozen-parameters",
        # element 0 of tensors does not require grad and does not have a grad_fn.
        Fault("new head frozen with the rest", Transfer, TransferHeadLast, (3, 8, 8)),
        # The encoder must fit a random head.
        Fault("classifier frozen in place of the encoder", TextTransfer, TextTransferEncoderFrozen, (5, 4)),
        # open-mmlab/mmdetection#3667: The backward raises: nothing requires a gradient.
        Fault("backbone and head frozen", Detector, DetectorBackboneFrozen, (6,), loss="smooth_l1_loss"),
    ),
)
