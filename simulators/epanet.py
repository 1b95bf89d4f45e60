"""Hydraulics of any water network by EPANET 2.3, step by step: an `.inp` file in, plain arrays out.

Between two steps pump speeds, valve losses, emitters (leaks), draws and the status of links may be changed; the file's
own patterns, controls and rules stay in force. What is measured of it, and what goes wrong, is elsewhere (`site_run`).

Units here are those of the metric catalogue, whatever the file's are: m³/h, bar (gauge), kW; heads and levels in m.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import tempfile
import warnings
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType

import numpy as np

from devices.model import SECOND, Instant
from simulators.curves import BAR_PER_METRE, loss_coefficient
from simulators.noise import Floats

try:
    from epanet import toolkit as en
except ImportError as error:  # pragma: no cover - depends on the installation
    raise ImportError(
        "sites need EPANET: install ‘headworks[sites]’ (owa-epanet has wheels for Python 3.11 and 3.12)"
    ) from error


class EpanetError(ValueError):
    """EPANET refuses a network or a step; one line for each problem, with file and line where the file is to blame."""


class LinkKind(StrEnum):
    """What a link is."""

    PIPE = "pipe"
    CHECK_PIPE = "pipe with check valve"
    PUMP = "pump"
    VALVE = "valve"


@dataclass(frozen=True, slots=True)
class Hydraulics:
    """A network at one instant, in the order of `Network.nodes` and `Network.links`."""

    pressure: Floats
    """bar gauge, of nodes; at a tank that of its floor, at a reservoir zero."""
    head: Floats
    """m, of nodes."""
    demand: Floats
    """m³/h that leave the network at a node, its leak too; negative where a source feeds."""
    leak: Floats
    """m³/h that leave through the emitter of a node."""
    flow: Floats
    """m³/h through a link, from its first node to its second."""
    loss: Floats
    """m of head that a link takes; of a pump the head that it adds."""
    power: Floats
    """kW electrical that a pump draws by the file's efficiencies; zero for other links."""
    closed: Floats
    """1 where a link is closed, else 0."""
    doubtful: bool
    """EPANET warned of this step: negative pressures, a pump beyond its curve, or a part that is cut off."""


_LINKS = {en.CVPIPE: LinkKind.CHECK_PIPE, en.PIPE: LinkKind.PIPE, en.PUMP: LinkKind.PUMP}
REQUIRED_HEAD = 15.0
"""m: below this pressure demands are no longer met in full, unless the file has a pressure-driven model of its own."""
_LEAST_LEAK = 1e-6
_CONSTANT = "hw-constant"
_LONGEST = 10 * 365 * 86_400


class _Values:
    """A buffer that EPANET writes one number a node or link into, seen as an array."""

    def __init__(self, count: int) -> None:
        self.buffer = en.doubleArray(max(count, 1))
        raw = (ctypes.c_double * count).from_address(int(self.buffer.this))
        self._view: Floats = np.ctypeslib.as_array(raw)

    def copy(self) -> Floats:
        return self._view.copy()


class Network:
    """An open network; use it as a context manager, or call `close`.

    `EpanetError` where the file is none that EPANET can run, `OSError` where there is no file.
    """

    def __init__(self, path: Path, *, step: Instant = 60 * SECOND, begins: Instant = 0) -> None:
        """`begins` is the time of day at the first step: where in its patterns the file begins."""
        self._folder = Path(tempfile.mkdtemp(prefix="hw-epanet-"))
        self._open = False
        self._project = en.createproject()
        try:
            self._load(path, step, begins)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the network's memory and files back; further calls do nothing."""
        if self._project is None:
            return
        if self._open:
            en.close(self._project)
            self._open = False
        en.deleteproject(self._project)
        self._project = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _load(self, path: Path, step: Instant, begins: Instant) -> None:
        text = path.read_bytes()
        report = self._folder / "report.txt"
        source = self._folder / "network.inp"
        source.write_bytes(text)
        if step < SECOND or step % SECOND:
            raise ValueError("a step is a whole number of seconds, one at the least")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                en.open(self._project, str(source), str(report), "")
            except Exception as error:
                _close_quietly(self._project)
                raise EpanetError(_problems(path, text, report, str(error))) from None
        self._open = True
        try:
            self._prepare(step // SECOND, begins // SECOND)
        except Exception as error:
            raise EpanetError(_problems(path, text, report, str(error))) from None

    def _prepare(self, seconds: int, begins: int) -> None:
        ph = self._project
        # Flow units decide all others; everything that was read is converted.
        en.setflowunits(ph, en.CMH)
        model, *_ = en.getdemandmodel(ph)
        if model == en.DDA:
            # Where pipes burst or are shut, demands that are met at any pressure would suck the network empty.
            en.setdemandmodel(ph, en.PDA, 0.0, REQUIRED_HEAD, 0.5)
        en.settimeparam(ph, en.DURATION, _LONGEST)
        en.settimeparam(ph, en.HYDSTEP, seconds)
        en.settimeparam(ph, en.REPORTSTEP, _LONGEST)
        en.settimeparam(ph, en.RULESTEP, min(seconds, max(1, en.gettimeparam(ph, en.RULESTEP))))
        en.settimeparam(ph, en.PATTERNSTART, en.gettimeparam(ph, en.PATTERNSTART) + begins)
        en.settimeparam(ph, en.STARTTIME, (en.gettimeparam(ph, en.STARTTIME) + begins) % 86_400)
        self._step = seconds
        self._describe()
        en.openH(ph)
        en.initH(ph, en.NOSAVE)
        self._due = 0

    def _describe(self) -> None:
        ph = self._project
        nodes = range(1, en.getcount(ph, en.NODECOUNT) + 1)
        links = range(1, en.getcount(ph, en.LINKCOUNT) + 1)
        self.nodes: tuple[str, ...] = tuple(en.getnodeid(ph, i) for i in nodes)
        self.links: tuple[str, ...] = tuple(en.getlinkid(ph, i) for i in links)
        self.node = {name: i for i, name in enumerate(self.nodes)}
        """Place of a node in the arrays, by its name."""
        self.link = {name: i for i, name in enumerate(self.links)}
        """Place of a link in the arrays, by its name."""
        self.kinds = tuple(_LINKS.get(en.getlinktype(ph, i), LinkKind.VALVE) for i in links)
        ends = [en.getlinknodes(ph, i) for i in links]
        self.begins = np.array([first - 1 for first, _ in ends], dtype=np.int64)
        self.ends = np.array([second - 1 for _, second in ends], dtype=np.int64)
        """Places of the nodes that a link goes from and to."""
        self.elevation: Floats = np.array([en.getnodevalue(ph, i, en.ELEVATION) for i in nodes])
        self.diameter: Floats = np.array([
            en.getlinkvalue(ph, i, en.DIAMETER) if kind is not LinkKind.PUMP else 0.0
            for i, kind in zip(links, self.kinds, strict=True)
        ])  # fmt: skip
        """mm, of links; 0 for a pump."""
        self.tanks = tuple(en.getnodeid(ph, i) for i in nodes if en.getnodetype(ph, i) == en.TANK)
        self.junctions = tuple(en.getnodeid(ph, i) for i in nodes if en.getnodetype(ph, i) == en.JUNCTION)
        self._demands = {
            i - 1: [en.getbasedemand(ph, i, k + 1) for k in range(en.getnumdemands(ph, i))]
            for i in nodes
            if en.getnodetype(ph, i) == en.JUNCTION
        }
        self._extra: dict[int, int] = {}
        self.demand: Floats = np.array([sum(self._demands.get(i - 1, ())) for i in nodes])
        """m³/h, the base demand of nodes."""
        gravity = en.getoption(ph, en.SP_GRAVITY)
        self._bar_per_metre = BAR_PER_METRE * gravity
        self._pumps = [i for i, kind in enumerate(self.kinds) if kind is LinkKind.PUMP]
        self._node_values = {name: _Values(len(self.nodes)) for name in ("head", "demand", "leak")}
        self._link_values = {name: _Values(len(self.links)) for name in ("flow", "loss", "status")}

    def set_speed(self, pump: str, speed: float) -> None:
        """The speed of a pump over that of its curve (affinity laws); zero stops it."""
        place = self._link(pump, LinkKind.PUMP)
        en.setlinkvalue(self._project, place, en.SETTING, max(0.0, speed))

    def set_conductance(self, valve: str, kv: float) -> None:
        """The Kv in m³/h at 1 bar of a throttle control valve (TCV): EPANET's loss coefficient is K = 2·ΔP/(ρ·v²).

        Zero closes it.
        """
        place = self._link(valve, LinkKind.VALVE)
        if en.getlinktype(self._project, place) != en.TCV:
            raise EpanetError(f"‘{valve}’ is no TCV in this network, so its Kv cannot be set")
        if kv <= 0.0:
            en.setlinkvalue(self._project, place, en.STATUS, en.CLOSED)
            return
        en.setlinkvalue(self._project, place, en.SETTING, float(loss_coefficient(kv, self.diameter[place - 1])))

    def set_setting(self, valve: str, setting: float) -> None:
        """What a valve holds, in EPANET's words: m of head for PRV, PSV and PBV, m³/h for an FCV, K for a TCV."""
        en.setlinkvalue(self._project, self._link(valve, LinkKind.VALVE), en.SETTING, setting)

    def set_closed(self, link: str, *, closed: bool) -> None:
        """Close a pipe, a pump or a valve, or open it (a valve then stands open and holds nothing)."""
        en.setlinkvalue(self._project, self._link(link), en.STATUS, en.CLOSED if closed else en.OPEN)

    def set_minor_loss(self, pipe: str, coefficient: float) -> None:
        """The sum of the loss coefficients of fittings in a pipe: a strainer, a half-shut gate."""
        en.setlinkvalue(self._project, self._link(pipe, LinkKind.PIPE), en.MINORLOSS, max(0.0, coefficient))

    def set_emitter(self, node: str, conductance: float) -> None:
        """A leak to the open air: m³/h at 1 bar, with the root of pressure (or the file's emitter exponent)."""
        # Metric flow units: the coefficient is the flow at 1 m of head.
        exponent = en.getoption(self._project, en.EMITEXPON)
        # An emitter that is set to nothing keeps a flow of 1 ft³/s in EPANET 2.3: next to nothing is solved for.
        at_one_metre = max(_LEAST_LEAK, conductance) * self._bar_per_metre**exponent
        en.setnodevalue(self._project, self._junction(node), en.EMITTER, at_one_metre)

    def set_demand(self, node: str, factor: float = 1.0, extra: float = 0.0) -> None:
        """Scale a junction's demand; `extra` in m³/h is drawn besides it, whatever the hour's pattern."""
        place = self._junction(node)
        for k, base in enumerate(self._demands[place - 1]):
            en.setbasedemand(self._project, place, k + 1, base * factor)
        if extra and place not in self._extra:
            if not self._extra:
                # Without a pattern of its own a demand would get the file's default one.
                en.addpattern(self._project, _CONSTANT)
            en.adddemand(self._project, place, 0.0, _CONSTANT, "extra")
            self._extra[place] = en.getnumdemands(self._project, place)
        if place in self._extra:
            en.setbasedemand(self._project, place, self._extra[place], extra)

    def step(self) -> Hydraulics:
        """The network as it is now, under all that was set; the next call is one step later.

        Between two steps EPANET may have to take smaller ones, as a tank runs full or a control of the file acts.
        """
        while True:
            at, doubtful = self._run()
            if at >= self._due:
                break
            self._advance()
        result = self._read(doubtful=doubtful)
        self._due = at + self._step
        self._advance()
        return result

    def _run(self) -> tuple[int, bool]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                at = int(en.runH(self._project))
            except Exception as error:
                raise EpanetError(f"EPANET cannot solve the network: {error}") from None
        return at, bool(caught)

    def _advance(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            en.nextH(self._project)

    def _read(self, *, doubtful: bool) -> Hydraulics:
        ph = self._project
        for name, code in (("head", en.HEAD), ("demand", en.DEMAND), ("leak", en.EMITTERFLOW)):
            en.getnodevalues(ph, code, self._node_values[name].buffer)
        for name, code in (("flow", en.FLOW), ("loss", en.HEADLOSS), ("status", en.STATUS)):
            en.getlinkvalues(ph, code, self._link_values[name].buffer)
        head = self._node_values["head"].copy()
        loss = self._link_values["loss"].copy()
        power = np.zeros(len(self.links))
        for place in self._pumps:
            loss[place] = max(-loss[place], 0.0)
            power[place] = en.getlinkvalue(ph, place + 1, en.ENERGY)
        return Hydraulics(
            pressure=(head - self.elevation) * self._bar_per_metre,
            head=head,
            demand=self._node_values["demand"].copy(),
            leak=self._node_values["leak"].copy(),
            flow=self._link_values["flow"].copy(),
            loss=loss,
            power=power,
            closed=(self._link_values["status"].copy() == 0.0).astype(np.float64),
            doubtful=doubtful,
        )

    def _link(self, name: str, *kinds: LinkKind) -> int:
        place = self.link.get(name)
        if place is None:
            raise EpanetError(f"there is no link ‘{name}’ in this network")
        if kinds and self.kinds[place] not in kinds:
            raise EpanetError(f"‘{name}’ is a {self.kinds[place]} in this network, not a {kinds[0]}")
        return place + 1

    def _junction(self, name: str) -> int:
        place = self.node.get(name)
        if place is None:
            raise EpanetError(f"there is no node ‘{name}’ in this network")
        if place not in self._demands:
            raise EpanetError(f"‘{name}’ is a tank or a reservoir in this network, not a junction")
        return place + 1


def _close_quietly(project: object) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # A file that could not be opened may leave nothing to close.
        with suppress(Exception):
            en.close(project)


def _problems(path: Path, text: bytes, report: Path, summary: str) -> str:
    """EPANET's report names the offending line by its words: find its number, as editors want it."""
    written = report.read_text("utf-8", errors="replace") if report.exists() else ""
    lines = [" ".join(line.split()) for line in text.decode("utf-8", errors="replace").splitlines()]
    found: list[str] = []
    reported = written.splitlines()
    for at, line in enumerate(reported):
        match = re.match(r"\s*Error (\d+): (.*?):?\s*$", line)
        if match is None or match[1] == "200":
            continue
        words = " ".join(reported[at + 1].split()) if at + 1 < len(reported) else ""
        where = f"{path}:{lines.index(words) + 1}" if words and words in lines else str(path)
        quoted = f" (‘{words}’)" if words and words in lines else ""
        found.append(f"{where}: {match[2]}{quoted} [EPANET error {match[1]}]")
    if not found:
        code = re.search(r"Error (\d+): (.*)", summary)
        found.append(f"{path}: {code[2]} [EPANET error {code[1]}]" if code else f"{path}: {summary}")
    return "\n".join(found)
