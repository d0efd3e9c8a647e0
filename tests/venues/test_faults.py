"""The fault script: explicit rules before chance, seeded chance, and messages lost, doubled or turned round."""

from __future__ import annotations

from tests.venues.faults import FaultScript, RequestFault, StreamFault, drop_reply, http, reject


def test_nothing_goes_wrong_unless_asked() -> None:
    script = FaultScript()
    assert script.request("create") is None
    assert script.message("quotes") is None
    assert script.asked == {"create": 1}


def test_a_rule_is_used_up_and_waits_its_turn() -> None:
    script = FaultScript()
    script.next("create", drop_reply(), count=2, after=1)
    faults = [script.request("create") for _ in range(4)]
    assert faults == [None, drop_reply(), drop_reply(), None]
    assert script.happened == [("create", drop_reply())] * 2


def test_any_stands_for_every_operation_but_not_for_messages() -> None:
    script = FaultScript()
    script.always("any", http(503))
    assert script.request("cancel") == RequestFault(is_executed=False, status=503)
    assert script.message("quotes") is None
    script.clear()
    assert script.request("cancel") is None


def test_chance_is_the_seeds() -> None:
    def draw(seed: int) -> list[bool]:
        script = FaultScript(seed)
        script.randomly("create", reject("halted"), 0.3)
        return [script.request("create") is not None for _ in range(50)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert 5 < sum(draw(1)) < 25


def test_a_script_can_be_put_to_rest() -> None:
    script = FaultScript()
    script.always("quotes", StreamFault.SKIP)
    assert script.message("quotes") is StreamFault.SKIP
    script.is_active = False
    assert script.message("quotes") is None
