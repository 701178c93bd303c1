"""A bill of materials in CycloneDX 1.6, checked against the format's own schema."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from dev.sbom import licences
from dev.sbom.contents import Package

_NAMESPACE: Final = uuid.UUID("6f1c0f7e-6a55-4c0c-9d5e-2f2f4d1f4b58")


class InvalidError(Exception):
    """What was made does not follow CycloneDX's schema."""


def of(
    image: str, packages: Sequence[Package], *, digest: str, listed: licences.Listed, when: datetime
) -> str:
    """The bill of an image as JSON; equal for equal content and time.

    `digest` is the SHA-256 of the image's configuration, which identifies it.

    Raises:
        InvalidError: it does not follow the schema.
    """
    bom = Bom(serial_number=uuid.uuid5(_NAMESPACE, f"{image} {digest}"))
    bom.metadata.timestamp = when
    bom.metadata.component = Component(
        name=image,
        type=ComponentType.CONTAINER,
        bom_ref=image,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
    )
    made = LicenseFactory()
    for package in packages:
        said = licences.expression(package, listed)
        purl = _purl(package)
        bom.components.add(
            Component(
                name=package.name,
                version=package.version,
                type=ComponentType.LIBRARY,
                purl=purl,
                bom_ref=str(purl),
                licenses=[made.make_from_string(said)] if said else [],
            )
        )
    bom.register_dependency(
        bom.metadata.component, sorted(bom.components, key=lambda it: str(it.bom_ref))
    )
    text: str = JsonV1Dot6(bom).output_as_string(indent=2)
    if (errors := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)) is not None:
        raise InvalidError(str(errors))
    return text


def _purl(package: Package) -> PackageURL:
    """https://github.com/package-url/purl-spec: PyPI's names are lower case with dashes."""
    if package.kind == "pypi":
        return PackageURL(
            "pypi", name=package.name.lower().replace("_", "-"), version=package.version
        )
    return PackageURL(
        "deb",
        namespace="debian",
        name=package.name,
        version=package.version,
        qualifiers={"arch": package.architecture},
    )
