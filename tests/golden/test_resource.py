from tests.golden import held, resource


def test_resources_are_as_held():
    held.check(resource.texts())
