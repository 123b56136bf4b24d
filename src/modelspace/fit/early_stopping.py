"""Early stopping, member by member."""

from dataclasses import dataclass

from modelspace.errors import ModelspaceError


@dataclass(frozen=True)
class EarlyStopping:
    """Stop a member whose monitored score has not improved for ``patience`` epochs; the others go on.

    Attributes:
        patience: Epochs without improvement that are tolerated, at least 1.
        monitor: A column of the history measured on the validation split: ``"validation_loss"``,
            ``"validation_accuracy"``.
        min_delta: The least change that counts as an improvement, at least 0.
        restore_best: Keep the point of the best epoch instead of the last one.

    Raises:
        ModelspaceError: patience below 1 or a negative ``min_delta``.
    """

    patience: int = 5
    monitor: str = "validation_loss"
    min_delta: float = 0.0
    restore_best: bool = False

    def __post_init__(self) -> None:
        if self.patience < 1 or self.min_delta < 0:
            raise ModelspaceError(
                f"early stopping needs patience ≥ 1 and min_delta ≥ 0; received {self.patience}, {self.min_delta}"
            )
