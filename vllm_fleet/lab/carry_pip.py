"""Where this machine gets Python packages from, so that its lab hosts do the same."""

from __future__ import annotations

import configparser
import io
import re
from collections.abc import Mapping
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

Config = dict[str, dict[str, str]]

# Options whose value is a file, and those whose values may name directories.
_FILES = ("cert", "client-cert", "constraint", "requirement")
_PLACES = ("find-links", "index-url", "extra-index-url")
# Set by the lab itself, or about the machine's own Python.
_OWN = ("cache-dir", "config-file", "no-cache-dir", "prefix", "require-virtualenv", "target", "user")
_HREF = re.compile(r"""<a\s[^>]*?href\s*=\s*["']([^"']+)["']""", re.IGNORECASE)


def config_files(environment: Mapping[str, str], home: Path) -> list[Path]:
    """Return the files pip reads for this user, later ones winning (virtual environments' own files left out)."""
    system = environment.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    user = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    files = [Path(directory, "pip/pip.conf") for directory in system.split(":") if directory]
    files += [Path("/etc/pip.conf"), home / ".pip/pip.conf", user / "pip/pip.conf"]
    if named := environment.get("PIP_CONFIG_FILE"):
        # pip's own rule: /dev/null switches all files off.
        files = [] if named == "/dev/null" else [*files, Path(named)]
    return files


def read(files: list[Path], environment: Mapping[str, str]) -> Config:
    """Merge pip's files and PIP_* environment variables; unreadable files count as absent."""
    merged: Config = {}
    for file in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(file)
        except (OSError, UnicodeDecodeError, configparser.Error):
            continue
        for section in parser.sections():
            merged.setdefault(section, {}).update(parser.items(section))
    for variable, value in sorted(environment.items()):
        if variable.startswith("PIP_") and value:
            option = variable.removeprefix("PIP_").lower().replace("_", "-")
            merged.setdefault("global", {})[option] = value
    kept = {
        section: {option: value for option, value in values.items() if option not in _OWN}
        for section, values in merged.items()
    }
    return {section: values for section, values in kept.items() if values}


def text(config: Config) -> str:
    """Write a configuration as the text of one pip.conf."""
    parser = configparser.RawConfigParser()
    parser.read_dict(config)
    output = io.StringIO()
    parser.write(output)
    return output.getvalue()


def files(config: Config) -> list[Path]:
    """Return the files the configuration names (certificates, constraints)."""
    named = [word for values in config.values() for option in _FILES for word in values.get(option, "").split()]
    return [path for path in map(local_path, named) if path is not None and path.is_file()]


def directories(config: Config) -> list[Path]:
    """Return the directories of this machine that the configuration's indexes and find-links live in."""
    found: list[Path] = []
    for values in config.values():
        for option in _PLACES:
            for word in values.get(option, "").split():
                path = local_path(word)
                if path is None or not path.exists():
                    continue
                directory = path if path.is_dir() else path.parent
                found += [directory, *_linked(directory)]
    unique = sorted(set(found))
    return [path for path in unique if not any(other in path.parents for other in unique)]


def local_path(word: str) -> Path | None:
    """Return the absolute path that an option's value names, None if it is somewhere else."""
    parts = urlsplit(word)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(word) if word.startswith("/") else None


def _linked(index: Path) -> list[Path]:
    """Return directories outside a local index that its pages link to ("../../files/...")."""
    for page in sorted(index.glob("*/index.html")):
        for href in _HREF.findall(page.read_text(errors="replace")):
            target = local_path(urldefrag(urljoin(page.as_uri(), unescape(href))).url)
            if target and target.is_file():
                return [] if index in target.parents else [target.parent]
    return []
