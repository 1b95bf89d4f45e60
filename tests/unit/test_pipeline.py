"""The pipeline's contract: an answer to every uplink, and none before the commit that held it."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import pytest

from devices.batch import Batch, Committed, QuarantineRecord
from devices.codecs.senml import encode_json
from devices.errors import UnavailableError
from devices.model import SECOND, Device, DeviceStatus, Measurement, Reason, Transport, Uplink
from devices.profile import shipped_profiles
from ingest.outcome import STORED, Outcome, Verdict
from ingest.pipeline import Limits, Pipeline
from ingest.translate import translate

NOW = 1_790_000_000 * SECOND
PROFILES = shipped_profiles()
DEVICES = {
    "urn:dev:imei:1": Device("urn:dev:imei:1", "centrifugal-pump"),
    "urn:dev:imei:2": Device("urn:dev:imei:2", "control-valve"),
    "urn:dev:imei:3": Device("urn:dev:imei:3", "centrifugal-pump", status=DeviceStatus.RETIRED),
    "urn:dev:imei:4": Device("urn:dev:imei:4", "no-such-profile"),
}


def resolve(identities: Iterable[str]) -> Mapping[str, Device]:
    return {identity: DEVICES[identity] for identity in identities if identity in DEVICES}


def uplink(
    payload: bytes | None = None, *, identity: str | None = "urn:dev:imei:1", content_format: int | None = None
) -> Uplink:
    if payload is None:
        payload = b'[{"n":"pressure","u":"bar","v":4.2}]'
    return Uplink(Transport.COAP, payload, NOW, identity, content_format)


class Store:
    """A commit port whose availability and pace a test decides."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.available = True
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def commit(self, batch: Batch) -> Committed:
        self.entered.set()
        assert self.gate.wait(10)
        if not self.available:
            raise UnavailableError("away")
        self.batches.append(batch)
        return Committed(stored=sum(len(record.readings) for record in batch.uplinks))


class Answers:
    """Collects answers from the pipeline's thread."""

    def __init__(self) -> None:
        self.given: list[Outcome] = []
        self._changed = threading.Condition()

    def __call__(self, outcome: Outcome) -> None:
        with self._changed:
            self.given.append(outcome)
            self._changed.notify_all()

    def wait(self, count: int) -> list[Outcome]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.given) >= count, 10), f"{len(self.given)} of {count} answers"
        return self.given


Start = Callable[..., Pipeline]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def start(store: Store) -> Iterator[Start]:
    running: list[Pipeline] = []

    def begin(limits: Limits | None = None) -> Pipeline:
        pipeline = Pipeline(store.commit, resolve, PROFILES, lambda *_: None, time.monotonic, limits)
        pipeline.start()
        running.append(pipeline)
        return pipeline

    yield begin
    store.gate.set()
    for pipeline in running:
        pipeline.close(5)


def test_no_answer_leaves_before_the_commit(store: Store, start: Start) -> None:
    answers = Answers()
    store.gate.clear()
    pipeline = start()
    pipeline.submit(uplink(), answers, patient=False)
    assert store.entered.wait(10)
    assert answers.given == []
    store.gate.set()
    assert answers.wait(1) == [STORED]
    assert [record.readings[0].value for record in store.batches[0].uplinks] == [4.2]


def test_uplinks_that_wait_share_a_commit(store: Store, start: Start) -> None:
    answers = Answers()
    store.gate.clear()
    pipeline = start(Limits(group_seconds=0))
    pipeline.submit(uplink(), answers, patient=False)
    assert store.entered.wait(10)
    for _ in range(50):
        pipeline.submit(uplink(), answers, patient=False)
    store.gate.set()
    answers.wait(51)
    assert [len(batch.uplinks) for batch in store.batches] == [1, 50]


def test_while_the_store_is_away_the_impatient_are_refused_and_the_patient_kept(store: Store, start: Start) -> None:
    coap, mqtt = Answers(), Answers()
    store.available = False
    pipeline = start(Limits(retry_seconds=0.05))
    pipeline.submit(uplink(), mqtt, patient=True)
    pipeline.submit(uplink(), coap, patient=False)
    assert coap.wait(1)[0].verdict is Verdict.UNAVAILABLE
    assert coap.given[0].retry_after > 0
    assert mqtt.given == []
    store.available = True
    assert mqtt.wait(1) == [STORED]


def test_patient_uplinks_keep_their_order_through_an_outage(store: Store, start: Start) -> None:
    answers = Answers()
    store.available = False
    pipeline = start(Limits(retry_seconds=0.02, batch_uplinks=3))
    for number in range(10):
        pipeline.submit(uplink(f'[{{"n":"flow","v":{number}}}]'.encode()), answers, patient=True)
    assert store.entered.wait(10)
    store.available = True
    answers.wait(10)
    assert [r.readings[0].value for batch in store.batches for r in batch.uplinks] == [float(n) for n in range(10)]


def test_a_full_queue_refuses_with_a_time_to_come_back(store: Store, start: Start) -> None:
    answers = Answers()
    store.gate.clear()
    pipeline = start(Limits(queue_uplinks=5, group_seconds=0, retry_after=7))
    pipeline.submit(uplink(), answers, patient=False)
    assert store.entered.wait(10)
    for _ in range(6):
        pipeline.submit(uplink(), answers, patient=False)
    [refused] = answers.wait(1)
    assert (refused.verdict, refused.retry_after) == (Verdict.UNAVAILABLE, 7)
    store.gate.set()
    answers.wait(7)


def test_an_oversized_queue_in_bytes_refuses_too(store: Store, start: Start) -> None:
    answers = Answers()
    store.gate.clear()
    pipeline = start(Limits(queue_bytes=100, group_seconds=0))
    pipeline.submit(uplink(), answers, patient=False)
    assert store.entered.wait(10)
    pipeline.submit(uplink(b"x" * 100), answers, patient=False)
    pipeline.submit(uplink(), answers, patient=False)
    assert answers.wait(1)[0].verdict is Verdict.UNAVAILABLE
    store.gate.set()
    answers.wait(3)


def test_closing_commits_what_is_queued_and_refuses_what_comes_later(store: Store, start: Start) -> None:
    answers, late = Answers(), Answers()
    pipeline = start(Limits(group_seconds=5))
    pipeline.submit(uplink(), answers, patient=False)
    pipeline.close(5)
    assert answers.given == [STORED]
    pipeline.submit(uplink(), late, patient=True)
    assert late.given[0].verdict is Verdict.UNAVAILABLE


def test_a_defect_answers_nobody_with_success_and_the_pipeline_lives_on(store: Store, start: Start) -> None:
    answers = Answers()

    def broken(_: Outcome) -> None:
        raise RuntimeError("a gateway's defect")

    pipeline = start()
    pipeline.submit(uplink(), broken, patient=False)
    pipeline.submit(uplink(), answers, patient=False)
    assert answers.wait(1) == [STORED]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (uplink(b"\x00garbage"), Reason.MALFORMED),
        (uplink(b""), Reason.MALFORMED),
        (uplink(content_format=50), Reason.UNSUPPORTED_FORMAT),
        (uplink(identity="urn:dev:imei:9"), Reason.UNKNOWN_DEVICE),
        (uplink(identity=None), Reason.UNKNOWN_DEVICE),
        (uplink(identity="urn:dev:imei:3"), Reason.UNKNOWN_DEVICE),
        (uplink(identity="urn:dev:imei:4"), Reason.UNKNOWN_PROFILE),
        (uplink(b'[{"bn":"urn:dev:imei:2:","n":"pressure","v":1}]'), Reason.IDENTITY_MISMATCH),
        (uplink(b'[{"n":"pressure","u":"Cel","v":1}]'), Reason.UNIT_MISMATCH),
        (uplink(b'[{"n":"pressure","v":1,"bt":1}]'), None),
        (uplink(b'[{"n":"pressure","v":1,"bt":300000000}]'), Reason.TIME_OUT_OF_RANGE),
        (uplink(b'[{"n":"pressure","vs":"high"}]'), Reason.NOT_A_NUMBER),
    ],
)
def test_what_cannot_be_stored_goes_to_quarantine_with_its_reason_and_bytes(
    message: Uplink, reason: Reason | None
) -> None:
    batch, [outcome] = translate([message], resolve, PROFILES)
    assert outcome.reason is reason
    if reason is None:
        assert outcome is STORED
    else:
        assert [(record.reason, record.uplink.payload) for record in batch.quarantine] == [(reason, message.payload)]
        assert outcome.verdict is Verdict.REJECTED


def test_a_pack_with_one_bad_record_is_stored_and_the_bad_one_kept() -> None:
    message = uplink(
        b'[{"n":"pressure","v":1},{"n":"flow","u":"Cel","v":1},{"n":"flow","u":"V","v":1},{"n":"nope","v":1}]'
    )
    batch, [outcome] = translate([message], resolve, PROFILES)
    assert outcome is STORED
    assert [len(record.readings) for record in batch.uplinks] == [1]
    assert [record.reason for record in batch.quarantine] == [Reason.UNIT_MISMATCH, Reason.UNKNOWN_METRIC]
    assert "and 1 more records" in batch.quarantine[0].detail


def test_a_device_that_names_itself_in_the_payload_needs_no_address() -> None:
    payload = encode_json("urn:dev:imei:2", [Measurement("travel", "%", 55.0, NOW)], 9)
    batch, [outcome] = translate([uplink(payload, identity=None)], resolve, PROFILES)
    assert outcome is STORED
    [record] = batch.uplinks
    assert (record.device, record.sequence, record.readings[0].metric) == ("urn:dev:imei:2", 9, "position")


def test_what_the_writer_puts_into_quarantine_is_told_to_its_sender() -> None:
    answers = Answers()

    def commit(batch: Batch) -> Committed:
        refused = QuarantineRecord(batch.uplinks[0].uplink, Reason.CONFLICTING_VALUE, "1 of 1", "urn:dev:imei:1", 1)
        return Committed(refused=(refused,))

    pipeline = Pipeline(commit, resolve, PROFILES, lambda *_: None, time.monotonic)
    pipeline.start()
    pipeline.submit(uplink(), answers, patient=False)
    [outcome] = answers.wait(1)
    pipeline.close(5)
    assert (outcome.verdict, outcome.reason) == (Verdict.REJECTED, Reason.CONFLICTING_VALUE)
