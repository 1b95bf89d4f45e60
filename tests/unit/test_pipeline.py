"""The pipeline's contract: an answer to every uplink, and none before the commit that held it."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from devices.batch import Batch, Committed, QuarantineRecord
from devices.codecs.senml import encode_json
from devices.errors import UnavailableError
from devices.model import SECOND, Device, DeviceStatus, Measurement, Reason, Transport, Uplink
from devices.profile import shipped_profiles
from ingest.outcome import STORED, Outcome, Verdict
from ingest.pipeline import Limits, Pipeline
from ingest.translate import translate
from storage.spool import Spool

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
        self.defect: float | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def commit(self, batch: Batch) -> Committed:
        self.entered.set()
        assert self.gate.wait(60)
        if not self.available:
            raise UnavailableError("away")
        if any(record.readings[0].value == self.defect for record in batch.uplinks):
            raise ZeroDivisionError
        self.batches.append(batch)
        return Committed(stored=sum(len(record.readings) for record in batch.uplinks))

    def drained(self, _: str) -> int:
        if not self.available:
            raise UnavailableError("away")
        return max((batch.drained.position for batch in self.batches if batch.drained), default=0)

    def readings(self) -> int:
        return sum(len(record.readings) for batch in self.batches for record in batch.uplinks)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.005)


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
            assert self._changed.wait_for(lambda: len(self.given) >= count, 60), f"{len(self.given)} of {count} answers"
        return self.given


Start = Callable[..., Pipeline]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def start(store: Store) -> Iterator[Start]:
    running: list[Pipeline] = []

    def begin(limits: Limits | None = None, spool: Spool | None = None) -> Pipeline:
        pipeline = Pipeline(store.commit, resolve, PROFILES, lambda *_: None, time.monotonic, limits, spool)
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
    assert store.entered.wait(60)
    assert answers.given == []
    store.gate.set()
    assert answers.wait(1) == [STORED]
    assert [record.readings[0].value for record in store.batches[0].uplinks] == [4.2]


def test_uplinks_that_wait_share_a_commit(store: Store, start: Start) -> None:
    answers = Answers()
    store.gate.clear()
    pipeline = start(Limits(group_seconds=0))
    pipeline.submit(uplink(), answers, patient=False)
    assert store.entered.wait(60)
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
    assert store.entered.wait(60)
    store.available = True
    answers.wait(10)
    assert [r.readings[0].value for batch in store.batches for r in batch.uplinks] == [float(n) for n in range(10)]


def test_a_full_queue_refuses_with_a_time_to_come_back(store: Store, start: Start) -> None:
    answers = Answers()
    store.gate.clear()
    pipeline = start(Limits(queue_uplinks=5, group_seconds=0, retry_after=7))
    pipeline.submit(uplink(), answers, patient=False)
    assert store.entered.wait(60)
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
    assert store.entered.wait(60)
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
        (uplink(b'[{"n":"pressure","v":1,"bt":9000000000}]'), Reason.FUTURE_TIME),
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


@pytest.fixture
def spool(store: Store, tmp_path: Path) -> Iterator[Spool]:
    opened = Spool(tmp_path / "spool.db", 1_000_000, store.drained)
    yield opened
    opened.close()


def test_while_the_store_is_away_the_spool_answers(store: Store, spool: Spool, start: Start) -> None:
    answers = Answers()
    store.available = False
    pipeline = start(Limits(retry_seconds=0.05), spool)
    for patient in (True, False):
        pipeline.submit(uplink(), answers, patient=patient)
    assert answers.wait(2) == [STORED, STORED]
    assert store.batches == []
    assert not pipeline.available
    assert pipeline.spooled == 2
    store.available = True
    store.until(lambda: store.readings() == 2)
    assert answers.given == [STORED, STORED]
    later = Answers()
    pipeline.submit(uplink(), later, patient=False)
    assert later.wait(1) == [STORED]
    assert pipeline.available


def test_a_hanging_commit_does_not_keep_the_others_waiting(store: Store, spool: Spool, start: Start) -> None:
    hanging, others = Answers(), Answers()
    store.gate.clear()
    pipeline = start(Limits(takeover_seconds=0.05), spool)
    pipeline.submit(uplink(), hanging, patient=False)
    assert store.entered.wait(60)
    for _ in range(3):
        pipeline.submit(uplink(), others, patient=False)
    assert others.wait(3) == [STORED] * 3
    assert hanging.given == []
    store.gate.set()
    assert hanging.wait(1) == [STORED]
    store.until(lambda: store.readings() == 4)


def test_when_the_spool_is_full_the_impatient_are_refused_and_the_patient_wait(
    store: Store, tmp_path: Path, start: Start
) -> None:
    coap, mqtt = Answers(), Answers()
    store.available = False
    full = Spool(tmp_path / "full.db", 1, store.drained)
    pipeline = start(Limits(retry_seconds=0.05), full)
    pipeline.submit(uplink(), mqtt, patient=True)
    pipeline.submit(uplink(), coap, patient=False)
    assert coap.wait(1)[0].verdict is Verdict.UNAVAILABLE
    assert mqtt.given == []
    store.available = True
    assert mqtt.wait(1) == [STORED]
    pipeline.close(5)
    full.close()


def test_an_end_while_the_store_is_away_leaves_nothing_unkept(store: Store, spool: Spool, start: Start) -> None:
    answers = Answers()
    store.available = False
    pipeline = start(Limits(retry_seconds=60, takeover_seconds=60), spool)
    pipeline.submit(uplink(), answers, patient=False)
    assert store.entered.wait(60)
    pipeline.submit(uplink(), answers, patient=True)
    pipeline.close(5)
    verdicts = [outcome.verdict for outcome in answers.wait(2)]
    assert verdicts.count(Verdict.STORED) == spool.waiting


def test_fresh_uplinks_and_the_backlog_take_turns(store: Store, spool: Spool, start: Start) -> None:
    for number in range(6):
        spool.append([uplink(f'[{{"n":"flow","v":{number}}}]'.encode())])
    fresh = Answers()
    store.gate.clear()
    pipeline = start(Limits(drain_uplinks=2, batch_uplinks=1, group_seconds=0), spool)
    assert store.entered.wait(60)
    pipeline.submit(uplink(b'[{"n":"pressure","v":1}]'), fresh, patient=False)
    store.gate.set()
    assert fresh.wait(1) == [STORED]
    store.until(lambda: store.readings() == 7)
    assert [len(batch.uplinks) for batch in store.batches] == [2, 1, 2, 2]


def test_a_defect_costs_only_the_uplink_that_meets_it(store: Store, start: Start) -> None:
    answers = Answers()
    store.gate.clear()
    store.defect = 13.0
    pipeline = start(Limits(group_seconds=0))
    pipeline.submit(uplink(), Answers(), patient=True)
    assert store.entered.wait(60)
    for number in range(10, 20):
        pipeline.submit(uplink(f'[{{"n":"flow","v":{number}}}]'.encode()), answers, patient=True)
    store.gate.set()
    verdicts = [outcome.verdict for outcome in answers.wait(10)]
    assert verdicts == [Verdict.STORED] * 3 + [Verdict.REJECTED] + [Verdict.STORED] * 6
    [kept] = [record for batch in store.batches for record in batch.quarantine]
    assert (kept.reason, kept.uplink.payload) == (Reason.INTERNAL_ERROR, b'[{"n":"flow","v":13}]')
