"""How many examples hypothesis tries: `make check` loads the profile "quick", with a third of them."""

from hypothesis import settings

_USUAL = 100
"""Of hypothesis, where a test says nothing."""


def examples(count: int) -> int:
    """`count`, or as much less as the profile that is loaded tries less than usual."""
    return count * settings().max_examples // _USUAL
