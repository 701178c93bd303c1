from tests.golden import held, wire


def test_answers_error_codes_and_openapi_are_as_held():
    held.check(wire.texts())
