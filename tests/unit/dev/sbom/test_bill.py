"""What an image holds is read from its layers, and told in CycloneDX."""

import io
import json
import tarfile
from datetime import UTC, datetime

import pytest

from dev.sbom import bill, contents, licences

STATUS = """Package: zlib1g
Status: install ok installed
Version: 1:1.2.13
Architecture: amd64
Description: a library
 of several lines

Package: bash
Version: 5.2
Architecture: amd64
"""
WHEEL = "Metadata-Version: 2.4\nName: Some_Thing\nVersion: 1.2\nLicense-Expression: MIT\n\ntext"
OLD = "Name: other\nVersion: 3\nLicense: MIT License\n and more\nClassifier: License :: OSI\n\n"
SITE = "opt/venv/lib/python3.11/site-packages"


def packed(files):
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode() if isinstance(text, str) else text))
    return written.getvalue()


@pytest.fixture
def archive(tmp_path):
    def make(*layers):
        files = {f"{number}.tar": packed(layer) for number, layer in enumerate(layers)}
        manifest = [{"Config": "c.json", "RepoTags": ["it"], "Layers": list(files)}]
        file = tmp_path / "image.tar"
        file.write_bytes(packed({"manifest.json": json.dumps(manifest), "c.json": "{}", **files}))
        return file

    return make


def test_packages_of_both_kinds_are_found(archive):
    file = archive(
        {"./var/lib/dpkg/status": STATUS},
        {f"{SITE}/some_thing-1.2.dist-info/METADATA": WHEEL, f"{SITE}/x/METADATA": "no"},
    )
    assert [(it.kind, it.name, it.version) for it in contents.packages(file)] == [
        ("deb", "bash", "5.2"),
        ("deb", "zlib1g", "1:1.2.13"),
        ("pypi", "Some_Thing", "1.2"),
    ]


def test_package_that_later_layer_removes_is_not_in_image(archive):
    name = f"{SITE}/some_thing-1.2.dist-info"
    file = archive({f"{name}/METADATA": WHEEL}, {f"{SITE}/.wh.some_thing-1.2.dist-info": ""})
    assert contents.packages(file) == []


def test_everything_that_package_says_of_its_licence_is_read(archive):
    file = archive({f"{SITE}/other-3.dist-info/METADATA": OLD})
    (package,) = contents.packages(file)
    assert package.said == ("MIT License", "License :: OSI")


def test_bill_follows_schema_and_is_equal_for_equal_content(archive):
    file = archive(
        {"var/lib/dpkg/status": STATUS}, {f"{SITE}/some_thing-1.2.dist-info/METADATA": WHEEL}
    )
    found, listed = contents.packages(file), licences.read()
    when = datetime(2026, 11, 30, tzinfo=UTC)

    def made():
        return bill.of(
            "embedding-it", found, digest=contents.digest(file), listed=listed, when=when
        )

    assert made() == made()
    parsed = json.loads(made())
    assert (parsed["bomFormat"], parsed["specVersion"]) == ("CycloneDX", "1.6")
    assert {it["purl"]: it["licenses"] for it in parsed["components"]} == {
        "pkg:pypi/some-thing@1.2": [{"license": {"id": "MIT"}}],
        "pkg:deb/debian/bash@5.2?arch=amd64": [{"license": {"id": "GPL-3.0-or-later"}}],
        "pkg:deb/debian/zlib1g@1:1.2.13?arch=amd64": [{"license": {"id": "Zlib"}}],
    }


def test_bill_that_breaks_schema_is_not_written(archive):
    package = contents.Package(kind="pypi", name="it", version="1", said=("MIT",))
    with pytest.raises(bill.InvalidError, match="does not match"):
        bill.of(
            "it",
            [package],
            digest="no digest",
            listed=licences.read(),
            when=datetime(2026, 11, 30, tzinfo=UTC),
        )
