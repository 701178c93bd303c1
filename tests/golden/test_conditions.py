from tests.golden import conditions, held


def test_types_polarity_and_reasons_of_conditions_are_as_held():
    held.check(conditions.texts())
