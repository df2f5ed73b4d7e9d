"""Probes of a memory: its content and where it is stored, its drift, the reach of gradients, gates, attention.

Every probe reads a controller, trained or not, and episodes of a scripted task. ``module = memsuite.load(path)``
provides both: ``module.model.controller`` and ``module.task``.
"""

from memsuite.analysis.probes.decoding import Decoding, Reader, decode, fit_reader
from memsuite.analysis.probes.episodes import cue_then_blanks, draw, layers_of, question
from memsuite.analysis.probes.gates import attention_map, gates, quantiles
from memsuite.analysis.probes.gradients import gradient_reach
from memsuite.analysis.probes.states import Drift, drift, states_over_time

__all__ = [
    "Decoding",
    "Drift",
    "Reader",
    "attention_map",
    "cue_then_blanks",
    "decode",
    "draw",
    "drift",
    "fit_reader",
    "gates",
    "gradient_reach",
    "layers_of",
    "quantiles",
    "question",
    "states_over_time",
]
