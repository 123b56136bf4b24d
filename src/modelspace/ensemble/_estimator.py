"""Ensembles as scikit-learn's estimators: ``fit``, ``predict``, ``score``, in pipelines and grid searches."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from modelspace.data import Data, Split
from modelspace.ensemble._combine import uncertainty_of
from modelspace.ensemble._module import Ensemble
from modelspace.errors import ModelspaceError
from modelspace.fit import fit
from modelspace.losses import LocationScaleLoss, resolve
from modelspace.space import ModelSpace

_AT_ONCE = 32  # members


def mlp(n_features: int, n_outputs: int, hidden: tuple[int, ...] = (64, 64)) -> nn.Sequential:
    """Make linear layers with ReLU between them."""
    layers = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise([n_features, *hidden])]
    return nn.Sequential(*layers, nn.Linear([n_features, *hidden][-1], n_outputs))


class _Estimator(BaseEstimator):
    """What both have in common: the parameters, the training, the outputs."""

    def __init__(
        self,
        architecture: Callable[..., nn.Module] | None = None,
        *,
        arguments: Mapping[str, Any] | None = None,
        n_members: int = 8,
        columns: Mapping[str, Any] | None = None,
        loss: Any = None,
        optimizer: Any = "adam",
        lr: float = 0.01,
        epochs: int = 100,
        batch_size: int = 32,
        standardise: bool = True,
        random_state: Any = None,
    ):
        self.architecture = architecture
        self.arguments = arguments
        self.n_members = n_members
        self.columns = columns
        self.loss = loss
        self.optimizer = optimizer
        self.lr = lr
        self.epochs = epochs
        self.batch_size = batch_size
        self.standardise = standardise
        self.random_state = random_state

    def _trained(self, x: Any, labels: Tensor, n_outputs: int, loss: Any) -> None:
        """Train the members on all samples; none is set aside."""
        self.mean_, self.scale_ = self._scaling(x)
        inputs = self._inputs(x).float()
        make = partial(self.architecture or mlp, x.shape[1], n_outputs, **(self.arguments or {}))
        first = int(check_random_state(self.random_state).randint(2**31 - 1))
        seeds, columns = range(first, first + self.n_members), {"lr": self.lr, **(self.columns or {})}
        population = ModelSpace(make, input_shape=(x.shape[1],)).sample(seeds, **columns)
        train, none = Split(inputs, labels), Split(inputs[:0], labels[:0])
        run = fit(
            population,
            Data(type(self).__name__, train, none, none),
            loss=loss,
            optimizer=self.optimizer,
            epochs=self.epochs,
            batch_size=self.batch_size,
            data_seed=first,
            metrics=[],
            # Nothing is measured, so that the same seeds give the same numbers.
            plan={
                "lowering": "vmap",
                "shard": min(len(population), _AT_ONCE),
                "compile": False,
                "threads": torch.get_num_threads(),
                "workers": 1,
            },
        )
        # In double precision a prediction is the same, to 1e-12, whatever samples are beside it.
        self.ensemble_ = Ensemble(run, loss=loss).double()

    def _scaling(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is taken off each column, and what it is divided by."""
        mean, sd = values.mean(0), values.std(0)
        if not self.standardise:
            return np.zeros_like(mean), np.ones_like(sd)
        return mean, np.where(sd > 10 * np.finfo(float).eps * np.abs(mean), sd, 1.0)

    def _inputs(self, x: np.ndarray) -> Tensor:
        return torch.from_numpy((x - self.mean_) / self.scale_)

    def _outputs(self, x: Any) -> Tensor:
        """The members' outputs for samples as they come."""
        check_is_fitted(self)
        valid: Any = validate_data(self, x, dtype=np.float64, reset=False)
        return self.ensemble_.over(self._inputs(valid))


class ModelspaceClassifier(ClassifierMixin, _Estimator):
    """An ensemble of networks as a classifier of scikit-learn: mean probabilities of members of several seeds.

    All members are trained at once, on all samples. Its parameters are tuned as any estimator's, with
    ``GridSearchCV``; what differs from member to member, with ``columns``.

    Args:
        architecture: A class or function of (n_features, n_outputs) that makes a network; an MLP where None.
        arguments: Further ones by name; of the MLP ``hidden``, (64, 64) where not given.
        n_members: Seeds. With ``columns`` there are as many of each setting.
        columns: What differs between members, ``{"lr": [1e-3, 1e-2]}``, or another than ``lr`` for all.
        loss: A loss of logits and classes; cross-entropy where None.
        optimizer: As ``modelspace.fit`` takes it.
        lr: The learning rate.
        epochs: Passes over the samples.
        batch_size: Samples a step.
        standardise: Whether features are standardised first, by the training samples.
        random_state: Of the members' seeds and the order of samples: a number, a ``RandomState``, or None.

    Attributes:
        classes_: The labels, in the order of the probabilities' columns.
        ensemble_: The ``Ensemble``, of standardised inputs.
        mean_: What is taken off each feature.
        scale_: What it is divided by then.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(60, 2))
        >>> model = ModelspaceClassifier(n_members=2, epochs=20, random_state=0).fit(x, x[:, 0] > 0)
        >>> model.predict_proba(x).shape, bool(model.score(x, x[:, 0] > 0) > 0.9)
        ((60, 2), True)
    """

    def fit(self, X: Any, y: Any) -> "ModelspaceClassifier":
        """Train the members on ``X``, ``[n_samples, n_features]``, and a label a sample, of at least two classes."""
        x, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"samples of at least 2 classes are needed; there is one class: {self.classes_[0]!r}"
            )
        loss = "cross_entropy" if self.loss is None else self.loss
        self._trained(x, torch.from_numpy(labels.astype(np.int64)), len(self.classes_), loss)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the mean probability of each class, ``[n_samples, n_classes]``."""
        outputs = self._outputs(X)
        return self.ensemble_.combined(outputs).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """Return the likeliest class of each sample."""
        likeliest = self.predict_proba(X).argmax(1)
        return self.classes_[likeliest]


class ModelspaceRegressor(RegressorMixin, _Estimator):
    """An ensemble of networks as a regressor of scikit-learn: the mean of members of several seeds.

    Its parameters are those of ``ModelspaceClassifier``. ``loss`` is one of values, the squared error where None;
    with ``"gaussian"`` or ``"laplace"`` a network has two outputs, a location and a log-scale. Targets are
    standardised with the features; there may be several.

    Attributes:
        ensemble_: The ``Ensemble``, of standardised inputs and targets.
        mean_: What is taken off each feature.
        scale_: What it is divided by then.
        target_mean_: What is taken off each target.
        target_scale_: What it is divided by then.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(60, 2))
        >>> model = ModelspaceRegressor(n_members=2, epochs=20, random_state=0).fit(x, x[:, 0])
        >>> [part.shape for part in model.predict(x, return_std=True)], bool(model.score(x, x[:, 0]) > 0.9)
        ([(60,), (60,)], True)
    """

    def fit(self, X: Any, y: Any) -> "ModelspaceRegressor":
        """Train the members on ``X``, ``[n_samples, n_features]``, and ``y``, ``[n_samples]`` or with targets."""
        x, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        targets = np.asarray(y, dtype=np.float64).reshape(len(y), -1)
        loss = resolve("least_squares" if self.loss is None else self.loss)
        located = isinstance(loss, LocationScaleLoss)
        if located and targets.shape[1] > 1:
            raise ModelspaceError(f"loss '{loss.name}' is of one target; received {targets.shape[1]}")
        self._ndim = np.ndim(y)
        self.target_mean_, self.target_scale_ = self._scaling(targets)
        labels = torch.from_numpy((targets - self.target_mean_) / self.target_scale_).float()
        self._trained(x, labels[:, 0] if located else labels, 2 if located else labels.shape[1], loss)
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Return the mean prediction of each sample, of the shape that ``y`` had.

        Args:
            X: ``[n_samples, n_features]``.
            return_std: Whether the standard deviation is returned beside it: the mixture's, of a loss with a scale;
                else that of the members' predictions, which is no width of an interval by itself.
        """
        outputs = self._outputs(X)
        ensemble = self.ensemble_
        mean, sure = ensemble.combined(outputs), uncertainty_of(ensemble.loss, outputs, ensemble.weights)
        variance = sure.epistemic
        if sure.total is not None:
            mean, variance = mean[:, :1], sure.total[:, None]
        found = (
            mean.numpy() * self.target_scale_ + self.target_mean_,
            variance.sqrt().numpy() * self.target_scale_,
        )
        mean, std = (part[:, 0] if self._ndim == 1 else part for part in found)
        return (mean, std) if return_std else mean

    def __sklearn_tags__(self) -> Any:
        """Say that there may be several targets."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
