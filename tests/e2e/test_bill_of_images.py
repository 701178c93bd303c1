"""Every package of our images has a licence that the repository lists: `make sbom`."""

from datetime import UTC, datetime

import pytest

from dev.cluster import images
from dev.sbom import bill, contents, licences
from tests.parts import installation

pytestmark = pytest.mark.node


@pytest.mark.parametrize(
    "image",
    [installation.SIDECAR, installation.OPERATOR, installation.VECTORS],
    ids=lambda it: it.name,
)
def test_image_holds_listed_licences_only(installed, image):
    archive = images.build(image.name, file=image.dockerfile, context=installation.ROOT)
    found, listed = contents.packages(archive), licences.read()
    assert len([it for it in found if it.kind == "deb"]) > 80
    assert len([it for it in found if it.kind == "pypi"]) > 15
    assert licences.objections(found, listed) == []
    when = datetime(2026, 11, 30, tzinfo=UTC)
    digest = contents.digest(archive)
    assert bill.of(image.name, found, digest=digest, listed=listed, when=when)
