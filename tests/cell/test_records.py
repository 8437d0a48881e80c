"""The vocabulary: strict, immutable, and the same on both sides of the wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cell import digest, errors
from cell.defects import ReviewDecision, ReviewVerb
from cell.events import EVENT, ResultReady, StateChanged
from cell.models import RateBound
from cell.recipes import Channel, DefectClass, Recipe, Rect
from cell.verdicts import Outcome, Verdict
from cell.wire.messages import parse_command, parse_reply, request_id_of

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def _recipe(**changes: object) -> Recipe:
    values: dict[str, object] = {
        "recipe_id": "plate",
        "product": "plate",
        "height": 64,
        "width": 96,
        "channels": (Channel(name="left", exposure_us=100.0, lights={"l1": 1.0}),),
        "defect_classes": (DefectClass(name="scratch"),),
    }
    return Recipe.model_validate(values | changes)


def test_a_recipe_refuses_what_can_not_be_inspected() -> None:
    channel = Channel(name="left", exposure_us=100.0, lights={"l1": 1.0})
    for changes in (
        {"roi": Rect(x=90, y=0, width=10, height=10)},
        {"exclusions": (Rect(x=0, y=60, width=10, height=10),)},
        {"channels": (channel, channel)},
        {"defect_classes": (DefectClass(name="pit"), DefectClass(name="pit"))},
        {"channels": ()},
        {"speed": 3},
    ):
        with pytest.raises(ValidationError):
            _recipe(**changes)


def test_records_are_immutable_and_named_by_their_content() -> None:
    one, two = _recipe(), _recipe(version=2)
    with pytest.raises(ValidationError):
        one.version = 5
    assert one.record_digest() == _recipe().record_digest() != two.record_digest()
    assert Recipe.model_validate_json(one.model_dump_json()) == one


def test_events_are_told_apart_by_their_name() -> None:
    verdict = Verdict(
        job_id="j1",
        part_id="p1",
        recipe_id="plate",
        recipe_version=1,
        outcome=Outcome.NG,
        score=0.9,
        reasons=("scratch",),
        emulated=True,
        created_at=NOW,
    )
    for event in (ResultReady(at=NOW, verdict=verdict), StateChanged(at=NOW, state="Ready", previous="Initialized")):
        assert EVENT.validate_json(EVENT.dump_json(event)) == event
    with pytest.raises(ValidationError):
        EVENT.validate_python({"event": "Unheard", "at": NOW})


def test_a_decision_needs_its_display_before_it_and_a_reason_to_reject() -> None:
    values = {
        "sequence": 1,
        "candidate_id": "c1",
        "image_digest": "0" * 64,
        "verb": ReviewVerb.ACCEPT,
        "reviewer": "A. Person",
        "is_person": True,
        "displayed_at": NOW,
        "decided_at": NOW + timedelta(seconds=1),
    }
    ReviewDecision.model_validate(values)
    with pytest.raises(ValidationError, match="older"):
        ReviewDecision.model_validate(values | {"decided_at": NOW - timedelta(seconds=1)})
    with pytest.raises(ValidationError, match="reason"):
        ReviewDecision.model_validate(values | {"verb": ReviewVerb.REJECT})


def test_every_error_has_its_own_wire_code_and_a_failing_exit_code() -> None:
    tree = [errors.InspectdError]
    for cls in tree:
        tree.extend(cls.__subclasses__())
    shipped = [cls for cls in tree if cls.__module__.split(".")[0] != "tests"]
    assert {cls.__module__ for cls in shipped} == {"cell.errors"}, "there is one exception tree"
    codes = [cls.code for cls in shipped if cls is not errors.HardwareError]
    assert len(set(codes)) == len(codes)
    assert all(cls.code < 0 and cls.exit_code > 0 for cls in shipped)


def test_a_reshaped_or_retyped_picture_is_another_picture() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    digests = {digest.of_array(a) for a in (pixels, pixels.reshape(1, 4, 3), pixels.astype(np.uint16))}
    assert len(digests) == 3
    assert digest.of_array(pixels.astype(">u2")) == digest.of_array(pixels.astype("<u2"))


@given(st.binary(max_size=300))
def test_no_bytes_on_the_wire_raise_anything_but_a_protocol_error(data: bytes) -> None:
    for parse in (parse_command, parse_reply):
        try:
            parse(data)
        except errors.ProtocolError as error:
            assert "\n" not in str(error)  # noqa: PT017
    assert isinstance(request_id_of(data), str)


def test_a_deeply_nested_message_is_refused_not_fatal() -> None:
    with pytest.raises(errors.ProtocolError):
        parse_command(b"[" * 100_000)


def test_a_rate_that_was_stored_under_its_former_name_is_read() -> None:
    stored = '{"errors": 1, "parts": 4, "rate": 0.25, "lower_95": 0.01, "upper_95": 0.75}'
    rate = RateBound.model_validate_json(stored)
    assert rate.count == 1
    assert RateBound.model_validate_json(rate.model_dump_json()) == rate
    with pytest.raises(ValidationError):
        RateBound.model_validate_json(stored.replace("{", '{"count": 1, '))
