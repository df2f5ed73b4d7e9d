"""Graph recall: the edges of a small graph in random order, then: where do two or three of them lead?"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from memsuite.errors import UsageError
from memsuite.tasks.base import Anchors, ScriptedTask, check_at_least
from memsuite.tasks.parts import blank, constant, integers, show_, uniform_numbers
from memsuite.tasks.second.parts import some_of
from memsuite.types import Script

HOPS = (2, 3)


class GraphRecall(ScriptedTask):
    """Follow remembered edges (multi-hop question answering over a graph in memory).

    The definition is ours. Nearest are the several-hop tasks of language models (k-hop induction, Sanford et al. 2024,
    arXiv 2402.09268) and bAbI's chains of two and three facts (Weston et al. 2015, arXiv 1502.05698).

    Shown: the edges of one directed cycle through ``num_nodes`` nodes, one edge a step, in random order; each shows the
    node it leaves and the node it reaches. The nodes are drawn from ``nodes`` labels. Then blanks. At the last step one
    node of the cycle, drawn at random, and a flag for two or for three hops.
    Asked: the node that so many edges lead to.

    Observation ``[2 * nodes + 2]``: the one-hots of the two nodes, the flags for two and for three hops. Actions:
    ``nodes``.
    Chance: ``1 / nodes`` at random; ``1 / (nodes - 1)`` without memory, because no answer is the asked node itself.
    To remember: the cycle, ``log2(nodes! / (nodes - num_nodes)! / num_nodes)`` bits, for ``horizon - 1`` steps.

    Args:
        horizon: length of an episode in steps, at least ``num_nodes + 1``.
        num_nodes: number of nodes of the cycle, 4 to ``nodes``.
        nodes: number of labels, the same at every difficulty.
    """

    memory_types = ("object", "spatial", "capacity")

    def __init__(self, horizon: int = 200, num_nodes: int = 8, nodes: int = 24) -> None:
        if not max(HOPS) < num_nodes <= nodes:
            raise UsageError(f"graph_recall: num_nodes {num_nodes} is outside {max(HOPS) + 1} to nodes = {nodes}")
        check_at_least("graph_recall", "horizon", horizon, num_nodes + 1)
        self._define(horizon, {"from": nodes, "to": nodes, "hops": len(HOPS)}, nodes)
        self.num_nodes, self.nodes = num_nodes, nodes

    def script(self, num_envs: int, generator: torch.Generator) -> Script:
        """Draw ``num_envs`` episodes."""
        count, device = self.num_nodes, generator.device
        cycle = some_of(count, self.nodes, num_envs, generator)
        order = some_of(count, count, num_envs, generator)
        asked, more = integers(count, (1, num_envs), generator), integers(len(HOPS), (1, num_envs), generator)
        observations, targets, scored = blank(self.horizon, num_envs, self.observation_dim, device)
        show_(observations[:count, :, : self.nodes], cycle.gather(0, order))
        show_(observations[:count, :, self.channel("to")], cycle.gather(0, (order + 1) % count))
        show_(observations[-1:, :, : self.nodes], cycle.gather(0, asked))
        show_(observations[-1:, :, self.channel("hops")], more)
        targets[-1:] = cycle.gather(0, (asked + more + HOPS[0]) % count)
        scored[-1] = True
        return Script(observations, targets, scored)

    def best_guess(self, window_KBD: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Follow the edges in the window; where one is missing, go on at another piece of the cycle."""
        now, num_envs = window_KBD[-1], window_KBD.shape[1]
        follows, precedes = self._edges(window_KBD[: max(0, self.num_nodes - step + len(window_KBD) - 1)], num_envs)
        asked = node = now[:, : self.nodes].argmax(-1)
        hops = constant(HOPS, now.device)[now[:, self.channel("hops")].argmax(-1)]
        begins = (follows >= 0) & (precedes < 0)  # the first nodes of the pieces, [B, nodes]
        for hop in range(max(HOPS)):
            following = follows.gather(1, node.unsqueeze(1))[:, 0]
            elsewhere = self._other_piece(node, asked, begins, precedes, generator)
            node = torch.where(hop < hops, torch.where(following >= 0, following, elsewhere), node)
        return node

    def _edges(self, shown: Tensor, num_envs: int) -> tuple[Tensor, Tensor]:
        """Return the successor and the predecessor of every node ``[B, nodes]``, -1 for one that is not known."""
        follows = torch.full((num_envs, self.nodes), -1, device=shown.device)
        precedes = follows.clone()
        source, target = shown[:, :, : self.nodes].argmax(-1), shown[:, :, self.channel("to")].argmax(-1)
        follows.scatter_(1, source.T, target.T)
        precedes.scatter_(1, target.T, source.T)
        return follows, precedes

    def _other_piece(
        self, node: Tensor, asked: Tensor, begins: Tensor, precedes: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Return where the missing edge of each node may lead: another piece, the own one if it is the only one.

        Never to the node that is asked for, because a path of at most three hops does not go around the cycle.
        """
        first = node
        for _ in range(self.num_nodes):
            before = precedes.gather(1, first.unsqueeze(1))[:, 0]
            first = torch.where(before >= 0, before, first)
        # Best the beginnings of other pieces, then of the own one, then labels that nothing is known of.
        rank = torch.where(begins, 4.0, torch.where(precedes >= 0, -1.0, 0.0))
        rank.scatter_(1, first.unsqueeze(1), 2.0)
        for never in (node, asked):
            rank.scatter_(1, never.unsqueeze(1), -1.0)
        return (rank + uniform_numbers(tuple(rank.shape), generator)).argmax(1)

    def anchors(self) -> Anchors:
        """Return the chance level over the labels, and over the labels other than the asked one."""
        return Anchors(random=1 / self.nodes, memoryless=1 / (self.nodes - 1))

    def window_anchor(self, steps: int) -> float:
        """Return the success of following the edges in the window.

        Exact for windows that contain all edges or none. In between an upper bound: with ``q`` edges unseen, a broken
        path goes on in each of the ``q - 1`` other pieces of the cycle with equal probability, so no node is the answer
        more often than once in ``q - 1``. With three or fewer unseen the path may lead around the cycle, and the bound
        is 1.
        """
        seen = min(max(0, self.num_nodes - self.horizon + steps), self.num_nodes)
        hidden = self.num_nodes - seen
        if not seen:
            return 1 / (self.nodes - 1)
        if hidden <= max(HOPS):
            return 1.0
        ways = math.comb(self.num_nodes, seen)
        whole = math.fsum(
            math.comb(self.num_nodes - hops, max(0, seen - hops)) * (seen >= hops) / ways for hops in HOPS
        )
        whole /= len(HOPS)
        return whole + (1 - whole) / (hidden - 1)

    def bits_to_remember(self) -> float:
        """Return the logarithm of the number of cycles."""
        return math.log2(math.perm(self.nodes, self.num_nodes) / self.num_nodes)

    def steps_to_remember(self) -> int:
        """Return ``horizon - 1``, from the first edge to the question."""
        return self.horizon - 1
