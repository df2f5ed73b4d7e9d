"""A linear classifier on a memory: it decodes the remembered item from the state at every step of an episode."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from memsuite.analysis.probes.episodes import draw, question
from memsuite.analysis.probes.states import Read, states_over_time
from memsuite.controllers import Controller
from memsuite.errors import UsageError
from memsuite.tasks import Task


@dataclass(frozen=True)
class Decoding:
    """The result of decoding at ``K`` steps of an episode.

    Attributes:
        steps: ``[K]``, from 0; the state was read after that step.
        accuracy: ``[K]`` share of held-out episodes whose item is named correctly, in [0, 1].
        prior: share of the most frequent item, which is the accuracy of always naming it.
        shuffled: ``[K]`` mean accuracy of classifiers trained with the same code on randomly permuted labels.
        shuffled_high: ``[K]`` the highest of these accuracies; a higher accuracy is evidence.
        units: ``[K, S]`` length of the weights at each number of the state, which shows where the item is stored.
        asked: mean step at which the item is asked for.
        episodes: number of episodes.
    """

    steps: Tensor
    accuracy: Tensor
    prior: float
    shuffled: Tensor
    shuffled_high: Tensor
    units: Tensor
    asked: float
    episodes: int


@dataclass(frozen=True)
class Reader:
    """The settings of a linear classifier (Alain & Bengio 2016, arXiv 1610.01644) and of its test.

    The classifier is a ridge regression onto one-hot labels, cross-validated over episodes; the largest output names
    the item. It has two chance levels: the share of the most frequent item, and its accuracy on shuffled labels (a
    control task, Hewitt & Liang 2019, arXiv 1909.03368).

    A classifier without noise could perfectly read a state that differs between items only in its seventh digit, which
    no policy could use. Therefore Gaussian noise is added to each number of the state, with ``noise`` times the root
    mean square of that step's states as its standard deviation. The ridge penalty is the one that this noise is
    equivalent to (Bishop 1995).

    Attributes:
        folds: number of parts of the cross-validation, at least 2.
        shuffles: number of classifiers on shuffled labels, at least 1.
        noise: noise on the state, relative to the state's size; 0 for none.
        seed: seed of noise, folds and shuffles.
    """

    folds: int = 5
    shuffles: int = 20
    noise: float = 0.01
    seed: int = 0

    def deal(self, labels: Tensor) -> tuple[Tensor, Tensor, torch.Generator]:
        """Return the labels and their shuffles ``[1 + shuffles, B]``, each episode's fold ``[B]``, and a generator.

        Raises:
            UsageError: a number is out of range, or there are more folds than episodes.
        """
        if not 2 <= self.folds <= len(labels) or self.shuffles < 1 or self.noise < 0:
            raise UsageError(f"a reader needs 2 to {len(labels)} folds, 1 shuffle or more, noise of 0 or more")
        generator = torch.Generator().manual_seed(self.seed + 1)
        orders = [torch.randperm(len(labels), generator=generator) for _ in range(self.shuffles)]
        fold = torch.randperm(len(labels), generator=generator) % self.folds
        return torch.stack([labels, *(labels[order] for order in orders)]), fold, generator


READER = Reader()


def decode(
    controller: Controller,
    task: Task,
    *,
    decision: int = -1,
    every: int = 1,
    episodes: int = 512,
    read: Read = "state",
    layer: int | None = None,
    reader: Reader = READER,
) -> Decoding:
    """Decode the item that one decision asks for from the state at every ``every``-th step, by a linear classifier.

    Args:
        controller: the memory, trained or not.
        task: a scripted task; the item is the target of a scored decision.
        decision: index of the decision among an episode's scored decisions; negative counts from the last.
        every: number of steps between two readings.
        episodes: number of episodes to draw.
        read: ``state`` or ``features``.
        layer: the layer of a stack whose state is read; None for all.
        reader: settings of the classifier.
    """
    script = draw(task, episodes, reader.seed)
    labels, asked = question(script, decision)
    dealt, fold, generator = reader.deal(labels)
    steps, scores, units = [], [], []
    for step, state in states_over_time(controller, script.observations, every, read, layer):
        seen = _read_with_noise(state, reader.noise, generator)
        steps.append(step)
        scores.append(_cross_validate(seen, dealt, fold, reader.noise))
        units.append(fit_reader(seen, labels, reader.noise)[0].norm(dim=1))
    accuracy, control = torch.stack(scores).tensor_split([1], dim=1)
    prior, mean_step = float(labels.bincount().max()) / episodes, float(asked.double().mean())
    shuffled = control.mean(1), control.amax(1)
    return Decoding(torch.tensor(steps), accuracy[:, 0], prior, *shuffled, torch.stack(units), mean_step, episodes)


def fit_reader(states: Tensor, labels: Tensor, noise: float = 0.01) -> tuple[Tensor, Tensor]:
    """Fit the linear classifier on all episodes.

    Args:
        states: ``[B, S]``.
        labels: ``[B]`` int64.
        noise: sets the penalty, ``B noise^2`` times the mean square of the states, as in :class:`Reader`.

    Returns:
        Weights ``[S, C]`` and the bias ``[C]`` of the outputs; C is the largest label + 1. If the state has more
        numbers than there are episodes, the dual form is solved (a system of B equations).
    """
    states, targets = states.double(), one_hot(labels).double()
    mean, share = states.mean(0), targets.mean(0)
    x, y = states - mean, targets - share
    penalty = _penalty(states, noise)
    if x.shape[1] > x.shape[0]:
        weights = x.t() @ _solve(x @ x.t(), y, penalty)
    else:
        weights = _solve(x.t() @ x, x.t() @ y, penalty)
    return weights, share - mean @ weights


def _read_with_noise(state: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    state = state.double().cpu()
    size = state.square().mean().sqrt()
    return state + noise * size * torch.randn(state.shape, generator=generator, dtype=state.dtype)


def _penalty(states: Tensor, noise: float) -> float:
    size = float(states.square().mean())
    return len(states) * max(noise, 1e-6) ** 2 * size if size > 0 else 1.0


def _solve(gram: Tensor, right: Tensor, penalty: float) -> Tensor:
    solution: Tensor = torch.linalg.solve(gram + penalty * torch.eye(len(gram), dtype=gram.dtype), right)
    return solution


def _cross_validate(states: Tensor, labels: Tensor, fold: Tensor, noise: float) -> Tensor:
    """Return the held-out accuracy ``[R]`` of a classifier for each row of ``labels`` ``[R, B]``.

    The products of the states with each other are computed once and shared by all classifiers.
    """
    targets = one_hot(labels).double()
    rows, episodes, classes = targets.shape
    by_episode = targets.transpose(0, 1).reshape(episodes, rows * classes)
    wide = states.shape[1] > episodes
    gram, penalty = states @ states.t() if wide else torch.empty(0), _penalty(states, noise)
    right = torch.zeros(rows, dtype=torch.float64)
    for part in range(int(fold.max()) + 1):
        train, test = fold != part, fold == part
        share = by_episode[train].mean(0)
        y = by_episode[train] - share
        if wide:
            within, across = _centred(gram, train, test)
            outputs = across @ _solve(within, y, penalty)
        else:
            x, held = states[train] - states[train].mean(0), states[test] - states[train].mean(0)
            outputs = held @ _solve(x.t() @ x, x.t() @ y, penalty)
        named = (outputs + share).view(-1, rows, classes).argmax(-1)
        right += (named.t() == labels[:, test]).sum(1)
    return right / episodes


def _centred(gram: Tensor, train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Return the products of the training rows with each other and with the test rows, centred on the training mean."""
    within, across = gram[train][:, train], gram[test][:, train]
    rows = within.mean(0)
    return within - rows - rows.unsqueeze(1) + rows.mean(), across - across.mean(1, keepdim=True) - rows + rows.mean()
