"""Programs of tests/clients on a machine that lacks their toolchain."""

import shutil

import pytest

from dev.cluster import debian
from tests.parts import client_programs
from tests.parts.client_programs import Language, ToolchainError


def test_machine_without_rust_is_told_so(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(ToolchainError, match="no cargo on PATH"):
        client_programs.command(Language.RUST, "reqwest_client")


def test_jdk_that_cannot_be_installed_is_told_by_its_package(monkeypatch):
    def refused(packages):
        raise debian.PackageError(f"needed and not installed: {' '.join(packages)}")

    monkeypatch.setattr(debian, "found", lambda program: None)
    monkeypatch.setattr(debian, "install", refused)
    with pytest.raises(ToolchainError, match="maven openjdk-17-jdk-headless"):
        client_programs.command(Language.JAVA, "JdkHttpClient")


def test_missing_toolchain_stops_no_other_language(monkeypatch):
    def absent(sources, program):
        raise ToolchainError("absent")

    made = []
    commands = {language: lambda sources, program: made.append(sources) for language in Language}
    monkeypatch.setattr(client_programs, "_COMMANDS", {**commands, Language.NODE: absent})
    assert client_programs.build_all() == {Language.NODE: "absent"}
    assert len(made) == len(Language) - 1


@pytest.mark.parametrize("language", Language)
def test_each_language_has_folder_of_sources(language):
    assert language.sources.is_dir()
