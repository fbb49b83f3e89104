from __future__ import annotations

from thinfs.bench.network import netem
from thinfs.bench.outside import rules
from thinfs.bench.scratch import MAX_SLOTS, name_of, node_device, outside_device
from thinfs.bench.values import parse_link

IFNAMSIZ = 16


def test_netem_gets_half_of_the_round_trip_at_each_end() -> None:
    words = netem(parse_link("100mbit,10ms"))
    assert words[words.index("delay") + 1] == "5000us"
    assert words[words.index("rate") + 1] == "100000000bit"


def test_what_a_slot_is_called_fits_the_kernel() -> None:
    for slot in (1, MAX_SLOTS):
        names = {outside_device(slot), node_device(slot)}
        assert all(len(name) < IFNAMSIZ for name in names)
        assert len(names) == 2
        assert str(slot) in name_of(slot)


def test_address_translation_is_for_one_node_alone() -> None:
    for table, chain, *match in rules("tfb7o", "198.18.7.2"):
        assert (table, chain) in {("nat", "POSTROUTING"), ("filter", "FORWARD")}
        assert "tfb7o" in match
