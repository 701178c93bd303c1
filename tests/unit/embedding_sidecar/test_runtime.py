"""Making runtimes."""

from embedding_sidecar import runtime


def test_the_terms_of_a_part_are_not_shown():
    async def close():
        """Nothing is open."""

    made = runtime._Made(("shop/main", "redis://:secretpw@redis"), object(), close)
    assert "secretpw" not in repr(made)
