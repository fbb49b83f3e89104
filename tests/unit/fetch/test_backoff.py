"""How long a source is left alone."""

from __future__ import annotations

import pytest

from thinfs.fetch.backoff import FIRST_WAIT_S, LONGEST_WAIT_S, wait_s


@pytest.mark.parametrize("failures", [1, 2, 3, 10, 100_000])
def test_waits_double_up_to_a_longest_one_and_are_jittered(failures: int) -> None:
    longest = min(FIRST_WAIT_S * 2 ** min(failures - 1, 20), LONGEST_WAIT_S)
    assert wait_s(failures, 0.0) == pytest.approx(longest / 2)
    assert wait_s(failures, 1.0) == pytest.approx(longest)
    assert wait_s(failures, 0.0) < wait_s(failures, 0.5) < wait_s(failures, 1.0)
