"""Which device types are installed: the shipped ones and, beside them, a user's own (`HEADWORKS_PROFILES`)."""

from __future__ import annotations

from pathlib import Path

from devices.document import DocumentError
from devices.profile import Profile, load_profile, shipped_profiles


def profile_files(path: Path) -> list[Path]:
    """The profile files that a path stands for: itself, or the YAML files of a folder and the folders in it."""
    files = sorted(file for ending in ("*.yaml", "*.yml") for file in path.rglob(ending)) if path.is_dir() else [path]
    if not files:
        raise DocumentError([f"{path}: there is no *.yaml file in this folder"])
    return files


def load_profile_files(path: Path | None) -> dict[str, Profile]:
    """The shipped profiles and those of a file or folder, by name; `DocumentError` where any is not valid.

    A profile of a shipped one's name takes its place only where it says `override: true`: otherwise a copied file whose
    name was not changed would alter devices that somebody else registered.
    """
    profiles = shipped_profiles()
    if path is None:
        return profiles
    shipped = frozenset(profiles)
    own: dict[str, Path] = {}
    problems: list[str] = []
    for file in profile_files(path):
        try:
            profile = load_profile(file.read_text("utf-8"), str(file))
        except DocumentError as error:
            problems += error.problems
            continue
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{file}: {error}")
            continue
        name = profile.profile
        if name in own:
            problems.append(f"{file}: the profile ‘{name}’ stands in {own[name]} already")
        elif name in shipped and not profile.override:
            problems.append(
                f"{file}: ‘{name}’ is a shipped profile; choose another name, or write ‘override: true’ to replace it"
            )
        elif profile.override and name not in shipped:
            problems.append(f"{file}: ‘override: true’, but there is no shipped profile ‘{name}’ to replace")
        own.setdefault(name, file)
        profiles[name] = profile
    if problems:
        raise DocumentError(problems)
    return profiles
