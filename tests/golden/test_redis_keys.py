from tests.golden import held, redis_keys


def test_keys_and_values_in_redis_are_as_held():
    held.check(redis_keys.texts())
