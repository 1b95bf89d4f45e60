"""Replaying recordings: mappings with line numbers, honest accounts of what could not be read, and resuming."""

from __future__ import annotations

import asyncio
import csv
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from devices.document import DocumentError, load_document
from devices.model import MINUTE, SECOND
from devices.profile import shipped_profiles
from simulators.mapping import Mapping, load_mapping
from simulators.parquet_rows import parquet_rows
from simulators.recording import (
    Checkpoint,
    Findings,
    batches,
    count_rows,
    fingerprint,
    load_checkpoint,
    rows,
    save_checkpoint,
)
from simulators.records import acknowledged_keys, read_ledger
from simulators.replay import Replayed, ReplayError, Way, replay
from tests.unit.simulators.hurry import hurried
from tests.unit.simulators.peer import FORBIDDEN, UNAVAILABLE, UNPROCESSABLE, Manners, Peer, Request, honest, serving

DATA = Path(__file__).parents[4] / "shared" / "data"
DEVICE = "urn:dev:ser:r1"
MAP = f"""\
time_column: time
devices: [{{identity: "{DEVICE}", profile: centrifugal-pump}}]
columns:
  temperature: {{metric: temperature, unit: degF}}
  flow: {{metric: flow, unit: L/min, scale: 2}}
batch: 10
"""


def mapping(text: str = MAP) -> Mapping:
    return load_document(text, "map.yaml", Mapping)


def recording(tmp_path: Path, *lines: str, header: str = "time,temperature,flow") -> Path:
    path = tmp_path / "recording.csv"
    path.write_text("\n".join([header, *lines, ""]), "utf-8")
    return path


def minutes(count: int) -> list[str]:
    return [f"2026-03-02T{m // 60:02d}:{m % 60:02d}:00+00:00,{50 + m % 7},{m}" for m in range(count)]


def play(
    path: Path,
    tmp_path: Path,
    manners: Manners = honest,
    *,
    text: str = MAP,
    report: Callable[[Replayed, asyncio.Event], None] = lambda *_: None,
    ledger: Path | None = None,
    speed: float = 0.0,
) -> tuple[Replayed, Peer]:
    """Replay by CoAP to a peer of this test's own; nobody waits for the pauses."""

    async def main() -> tuple[Replayed, Peer]:
        async with serving(manners) as peer:
            stop = asyncio.Event()
            done = await replay(
                path,
                mapping(text),
                Way(coap=("127.0.0.1", peer.port)),
                tmp_path / "checkpoint.json",
                speed=speed,
                ledger=ledger,
                report=lambda state: report(state, stop),
                stop=stop,
            )
            return done, peer

    return hurried(main())


def test_every_value_arrives_with_its_time_unit_and_scale(tmp_path: Path) -> None:
    path = recording(tmp_path, *minutes(25))
    done, peer = play(path, tmp_path, ledger=tmp_path / "ledger.jsonl")
    assert (done.complete, done.rows, done.total_rows, done.acknowledged) == (True, 25, 25, 50)
    by_name = {(name, at): value for _, name, at, value in peer.taken}
    start = min(at for _, at in by_name)
    assert start == 1_772_409_600 * SECOND
    assert by_name["flow", start + 7 * MINUTE] == 14.0
    assert by_name["temperature", start + 7 * MINUTE] == 50.0
    promised = list(acknowledged_keys(tmp_path / "ledger.jsonl"))
    assert Counter(promised) == Counter((DEVICE, name, at) for name, at in by_name)
    assert [entry["sequence"] for entry in read_ledger(tmp_path / "ledger.jsonl")] == [1, 2, 3]
    assert not (tmp_path / "checkpoint.json").exists()


def test_rows_that_cannot_be_read_are_told_with_file_and_line_and_the_rest_is_sent(tmp_path: Path) -> None:
    path = recording(
        tmp_path,
        "2026-03-02T00:00:00,1,1",
        "yesterday,1,1",
        "2026-03-02T00:01:00,warm,1",
        "2026-03-02T00:02:00,1",
        "2026-03-02T00:03:00,nan,1",
        "2026-03-02T00:04:00,,3",
        "",
        "2026-03-02T00:05:00,2,2",
    )
    done, peer = play(path, tmp_path)
    assert [problem.removeprefix(str(path)) for problem in done.skipped] == [
        ":3: Invalid isoformat string: 'yesterday'",
        ":4: ‘temperature’ is 'warm', not a number",
        ":5: 2 fields, but the header has 3",
        ":6: ‘temperature’ is 'nan', not a number",
    ]
    assert done.empty_cells == 1
    assert len(peer.taken) == 5
    assert done.complete


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty; a header line with the column names is needed"),
        ("tme,temperature,flow\n", "recording.csv:1: there is no column ‘time’, did you mean ‘tme’? It has: tme"),
        ("time;temperature;flow\n", "Is its separator really ‘,’?"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_before_anything_is_sent(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "recording.csv"
    path.write_text(content)
    with pytest.raises(ReplayError) as caught:
        play(path, tmp_path)
    assert message in str(caught.value)


def test_columns_that_nobody_mentioned_are_named(tmp_path: Path) -> None:
    path = recording(tmp_path, "2026-03-02T00:00:00,1,1,0", header="time,temperature,flow,anomaly")
    assert play(path, tmp_path)[0].unmapped == ("anomaly",)
    assert play(path, tmp_path, text=MAP + "ignore: [anomaly]\n")[0].unmapped == ()


def test_a_stopped_replay_goes_on_where_it_was_answered(tmp_path: Path) -> None:
    path = recording(tmp_path, *minutes(200))

    def stop_soon(state: Replayed, stop: asyncio.Event) -> None:
        if state.rows >= 60:
            stop.set()

    async def both() -> tuple[Replayed, Replayed, Peer, int]:
        async with serving() as peer:
            way, checkpoint = Way(coap=("127.0.0.1", peer.port)), tmp_path / "checkpoint.json"
            stop = asyncio.Event()
            first = await replay(path, mapping(), way, checkpoint, report=lambda s: stop_soon(s, stop), stop=stop)
            before = len(peer.requests)
            second = await replay(path, mapping(), way, checkpoint)
            return first, second, peer, before

    first, second, peer, before = asyncio.run(both())
    assert not first.complete
    assert 60 <= first.rows < 200
    assert second.complete
    assert second.rows == 200
    assert len({key[:3] for key in peer.taken}) == 400
    again = len(peer.requests) - before
    assert again == (200 - first.rows) // 10, "what was answered is not sent again"


def test_a_checkpoint_is_of_one_file_mapping_and_place_and_a_broken_one_is_none(tmp_path: Path) -> None:
    path, checkpoint = recording(tmp_path, *minutes(3)), tmp_path / "deep" / "checkpoint.json"
    other = mapping(MAP + "ignore: [x]\n").model_dump_json()
    of = fingerprint(path, mapping().model_dump_json(), "coap://here:1")
    save_checkpoint(checkpoint, of, Checkpoint(2, 1))
    assert load_checkpoint(checkpoint, of) == Checkpoint(2, 1)
    assert load_checkpoint(checkpoint, fingerprint(path, mapping().model_dump_json(), "coap://there:1")) == Checkpoint()
    assert load_checkpoint(checkpoint, fingerprint(path, other, "coap://here:1")) == Checkpoint()
    path.write_text(path.read_text() + "2026-03-02T05:00:00,1,1\n")
    assert load_checkpoint(checkpoint, fingerprint(path, mapping().model_dump_json(), "coap://here:1")) == Checkpoint()
    checkpoint.write_text("{")
    assert load_checkpoint(checkpoint, of) == Checkpoint()


def test_rejected_uplinks_are_counted_told_and_passed_over(tmp_path: Path) -> None:
    def picky(peer: Peer, request: Request) -> None:
        if len(peer.requests) == 2:
            peer.piggyback(request, UNPROCESSABLE, b"", b"conflicting_value: 20 of 20")
        else:
            peer.take(request)

    done, _ = play(recording(tmp_path, *minutes(40)), tmp_path, picky, ledger=tmp_path / "ledger.jsonl")
    assert (done.complete, done.uplinks, done.rejected_uplinks, done.acknowledged) == (True, 4, 1, 60)
    [told] = done.rejections
    assert "4.22 conflicting_value: 20 of 20" in told
    codes = Counter(entry["code"] for entry in read_ledger(tmp_path / "ledger.jsonl"))
    assert codes == {"2.04": 3, "4.22": 1}


def test_a_device_that_nobody_knows_ends_the_replay_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match=f"headworks devices add {DEVICE}"):
        play(recording(tmp_path, *minutes(40)), tmp_path, lambda peer, request: peer.piggyback(request, FORBIDDEN))


def test_a_platform_that_is_busy_is_waited_for(tmp_path: Path) -> None:
    def busy_at_first(peer: Peer, request: Request) -> None:
        if len(peer.requests) <= 2:
            peer.piggyback(request, UNAVAILABLE, b"\xd1\x01\x00")  # Max-Age 0
        else:
            peer.take(request)

    done, peer = play(recording(tmp_path, *minutes(20)), tmp_path, busy_at_first)
    assert done.complete
    assert done.acknowledged == len(peer.taken) == 40


def test_speed_is_kept_and_a_clock_that_jumps_back_is_not_waited_for(tmp_path: Path) -> None:
    lines = minutes(30)
    path = recording(tmp_path, *lines[:20], *lines[10:])
    loop_times: list[float] = []

    def stamp(_: Replayed, __: asyncio.Event) -> None:
        loop_times.append(asyncio.get_running_loop().time())

    done, peer = play(path, tmp_path, speed=0.1, report=stamp)
    assert done.complete
    assert len(peer.requests) == 4, "a batch ends where the clock jumps"
    # From the end of the first batch on: 10 minutes, nothing for the jump, 9 and 10 minutes, at a tenth of real time.
    assert loop_times[-1] - loop_times[0] == pytest.approx(10 * 29 * 60, abs=1)


def test_devices_may_be_named_in_a_column(tmp_path: Path) -> None:
    text = """\
separator: ";"
decimal: ","
time_column: t
time_format: unix
device_column: {column: station, prefix: "urn:dev:ser:"}
columns: {p: {metric: pressure, unit: kPa}}
"""
    path = recording(tmp_path, "1772409600;A;401,5", "1772409600.25;B;1", "1772409660;;1", header="t;station;p")
    done, peer = play(path, tmp_path, text=text)
    start = 1_772_409_600 * SECOND
    assert sorted(peer.taken) == [
        ("urn:dev:ser:A", "pressure", start, 401.5),
        ("urn:dev:ser:B", "pressure", start + SECOND // 4, 1.0),
    ]
    assert done.skipped == [f"{path}:4: no device in column ‘station’"]


def test_a_report_ends_after_its_interval(tmp_path: Path) -> None:
    path = recording(tmp_path, *minutes(30))
    short = mapping(MAP + "batch_interval: 4m\n")
    sizes = [len(batch) for batch in batches(rows(path, short, Findings()), short)]
    assert sizes == [4] * 7 + [2]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("metric: flow", "metric: flw"), "map.yaml:5:18: columns.flow.metric: unknown metric ‘flw’, did you mean ‘fl"),
        (("unit: degF", "unit: degX"), "map.yaml:4:16: columns.temperature: 'degX' is no unit of ‘temperature’"),
        (("batch: 10", "batsch: 10"), "map.yaml:6:1: unknown key ‘batsch’, did you mean ‘batch’?"),
        (("batch: 10", "batch: 0"), "map.yaml:6:8: batch:"),
        (("batch: 10", "time_zone: Mars/Base"), "map.yaml:6:12: time_zone: 'Mars/Base' is no time zone"),
        (("scale: 2", "device: 1"), "column ‘flow’ is of device 1, but there are 1"),
        (("metric: flow, unit: L/min", "metric: temperature"), "‘temperature’ and ‘flow’ are the same metric"),
        (("devices:", "ignore: [] #"), "name either ‘devices’, or a ‘device_column’"),
    ],
)  # fmt: skip
def test_a_mapping_error_says_where_it_is(change: tuple[str, str], problem: str) -> None:
    assert change[0] in MAP
    with pytest.raises(DocumentError) as caught:
        mapping(MAP.replace(*change))
    assert problem in str(caught.value)


@pytest.mark.parametrize("name", ["skab", "nab"])
def test_the_shipped_maps_fit_their_profiles(name: str) -> None:
    profiles = shipped_profiles()
    shipped = load_mapping(Path(name))
    for column in shipped.columns.values():
        assert column.metric in profiles[shipped.devices[column.device].profile].metrics


def data(*names: str) -> Path:
    path = DATA.joinpath(*names)
    if not path.is_file():
        pytest.skip(f"the recording {path.name} is not beside the checkout (../shared/data)")
    return path


def test_each_distinct_time_of_a_machine_whose_clock_jumps_back_arrives(tmp_path: Path) -> None:
    path = data("nab", "machine_temperature_system_failure.csv")
    done, peer = play(path, tmp_path, text=_shipped("nab"))
    with path.open(newline="") as file:
        expected = {row["timestamp"] for row in csv.DictReader(file)}
    assert len({(name, at) for _, name, at, _ in peer.taken}) == len(expected) == 22_683
    assert done.acknowledged == done.rows == count_rows(path) == 22_695
    assert not done.skipped


def test_a_pump_loop_with_gaps_arrives_whole(tmp_path: Path) -> None:
    path = data("skab", "valve1", "0.csv")
    done, peer = play(path, tmp_path, text=_shipped("skab"))
    with path.open(newline="") as file:
        times = {row["datetime"] for row in csv.DictReader(file, delimiter=";")}
    assert len({key[:3] for key in peer.taken}) == len(times) * 8
    assert done.unmapped == ()
    assert done.complete


def _shipped(name: str) -> str:
    return (Path(__file__).parents[3] / "simulators" / "maps" / f"{name}.yaml").read_text("utf-8")


def test_a_replay_needs_one_way_and_prints_no_password() -> None:
    with pytest.raises(ValueError, match="name one"):
        Way()
    assert Way(mqtt_url="mqtt://me:secret@host:1883").target == "mqtt://host:1883"


def test_a_parquet_table_is_read_by_the_same_map(tmp_path: Path) -> None:
    text = """\
time_column: t
time_zone: Asia/Shanghai
device_column: {column: station, prefix: "urn:dev:ser:"}
columns: {p: {metric: pressure, unit: kPa, scale: 2}, f: {metric: flow, unit: L/min}}
"""
    path = tmp_path / "table.parquet"
    local = [datetime(2026, 3, 2, 8, minute) for minute in range(4)]  # noqa: DTZ001 - as the file has it
    columns = {
        "t": [*local, None], "station": ["A", "B", "A", None, "A"], "p": [200.25, None, float("nan"), 1.0, 1.0],
        "f": [1, 2, 3, 4, 5], "remark": ["x"] * 5,
    }  # fmt: skip
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=2)
    done, peer = play(path, tmp_path, text=text)
    start = 1_772_409_600 * SECOND
    assert sorted(peer.taken) == [
        ("urn:dev:ser:A", "flow", start, 1.0),
        ("urn:dev:ser:A", "flow", start + 2 * MINUTE, 3.0),
        ("urn:dev:ser:A", "pressure", start, 400.5),
        ("urn:dev:ser:B", "flow", start + MINUTE, 2.0),
    ]
    assert done.skipped == [f"{path}: row 4: no device in column ‘station’", f"{path}: row 5: no time in column ‘t’"]
    assert (done.empty_cells, done.unmapped, done.total_rows) == (2, ("remark",), 5)
    rest = list(parquet_rows(path, mapping(text), Findings(), after=2))
    assert [row.number for row in rest] == [3]
    with pytest.raises(ReplayError, match="there is no column ‘q’"):
        list(parquet_rows(path, mapping(text.replace("{p:", "{q:")), Findings()))
    (tmp_path / "broken.parquet").write_bytes(path.read_bytes()[:200])
    with pytest.raises(ReplayError, match="no Parquet file that can be read"):
        list(parquet_rows(tmp_path / "broken.parquet", mapping(text), Findings()))
