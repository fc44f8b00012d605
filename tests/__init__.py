"""The tests. Whoever imports a contract suite, its assertions are told apart."""

import pytest

pytest.register_assert_rewrite("skystow.testing", "tests.crash.image_kit")
