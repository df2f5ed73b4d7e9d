"""The progress display: what a line says of the last rollout."""

import pytest

from memsuite.callbacks.progress import achieved

NAN = float("nan")


@pytest.mark.parametrize(
    ("success", "mean_return", "text"),
    [
        (0.934, 12.0, "success 0.93"),
        (0.0, NAN, "success 0.00"),
        (NAN, -1203.06, "return -1203.1"),
        (NAN, NAN, "no decision and no end of an episode"),
    ],
)
def test_what_a_rollout_achieved(success, mean_return, text):
    assert achieved({"success": success, "return": mean_return}) == text
