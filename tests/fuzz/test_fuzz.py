"""The short form of ``make fuzz``: the same inputs in every run."""

from __future__ import annotations

import pytest

from tests.fuzz.fuzzing import FAMILIES, fuzz

INPUTS = 400


@pytest.mark.expects_log(r"overlay xattrs left out")
@pytest.mark.filterwarnings("ignore:Possible:FutureWarning")  # a regular expression, by Python
@pytest.mark.parametrize("family", FAMILIES)
def test_whatever_comes_is_read_or_refused(family: str) -> None:
    tried, find = fuzz(family, 1, lambda count: count < INPUTS)
    assert find is None, f"{find.what}\n{find.data[:500]!r} with {find.options}"
    assert tried == INPUTS
