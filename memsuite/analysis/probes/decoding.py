"""What a linear reader finds in a memory: the remembered item, decoded from the state at every step of an episode."""

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
    """What was decoded, at ``K`` steps of an episode.

    Attributes:
        steps: ``[K]``, from 0: the state after that step was read.
        accuracy: ``[K]`` share of held-out episodes whose item is named rightly, in [0, 1].
        prior: share of the most frequent item: what naming it always would reach.
        shuffled: ``[K]`` mean accuracy of readers trained on labels dealt out at random, with the same code.
        shuffled_high: ``[K]`` the highest of them: beyond it is evidence.
        units: ``[K, S]`` length of the reader's weights at each number of the state: where the item lies.
        asked: mean step at which the item is asked for.
        episodes: how many were drawn.
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
    """A linear reader (Alain & Bengio 2016, arXiv 1610.01644), and how it is tested.

    Ridge regression onto one-hot labels, the largest output named, cross-validated over episodes. Its chance level is
    twofold: the share of the most frequent item, and the same reader on shuffled labels (a control task, Hewitt & Liang
    2019, arXiv 1909.03368).

    A state that differs between items in its seventh digit could be read perfectly by a reader without noise, and by no
    policy. So each number of the state is read with Gaussian noise of ``noise`` times the root mean square of that
    step's states, whose ridge penalty is the one this noise amounts to (Bishop 1995).

    Attributes:
        folds: parts of the cross-validation, at least 2.
        shuffles: readers on shuffled labels, at least 1.
        noise: of the reading, relative to the size of the state; 0 for none.
        seed: of noise, folds and shuffles.
    """

    folds: int = 5
    shuffles: int = 20
    noise: float = 0.01
    seed: int = 0

    def deal(self, labels: Tensor) -> tuple[Tensor, Tensor, torch.Generator]:
        """Return the labels and their shuffles ``[1 + shuffles, B]``, each episode's fold ``[B]``, the noise's source.

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
    """Decode the item that one decision asks for from the state at every ``every``-th step, by linear reading.

    Args:
        controller: the memory, trained or not.
        task: a scripted one; the item is the target of a scored decision.
        decision: which of an episode's; negative counts from the last.
        every: steps from one reading to the next.
        episodes: to draw.
        read: ``state`` or ``features``.
        layer: of a stack, whose state; None for all.
        reader: how it is read.
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
    """Fit the linear reader on all episodes.

    Args:
        states: ``[B, S]``.
        labels: ``[B]`` int64.
        noise: sets the penalty, ``B noise^2`` times the mean square of the states, as in :class:`Reader`.

    Returns:
        Weights ``[S, C]`` and the outputs' bias ``[C]``; C is the largest label + 1. The dual form (a system of B
        equations) where the state has more numbers than there are episodes.
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
    """Return the held-out accuracy of a reader for each row of ``labels`` ``[R, B]``: ``[R]``.

    Whatever the size of the state, all its products with itself are made once, and every reader solves them.
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
    """Return the products of the training rows, and of the test rows with them, less the training rows' mean."""
    within, across = gram[train][:, train], gram[test][:, train]
    rows = within.mean(0)
    return within - rows - rows.unsqueeze(1) + rows.mean(), across - across.mean(1, keepdim=True) - rows + rows.mean()
