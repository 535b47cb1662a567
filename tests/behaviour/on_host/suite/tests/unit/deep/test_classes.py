import asyncio
import unittest

import pytest


class TestPlain:
    value = 0

    @classmethod
    def setup_class(cls):
        cls.value = 1

    def setup_method(self):
        self.own = 2

    def test_set_up(self, where):
        assert (self.value, self.own, where) == (1, 2, "tests/unit")


class TestOuter:
    class TestInner:
        def test_inner(self):
            assert True


class TestCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.shared = "shared"

    def setUp(self):
        self.own = []

    def test_equal(self):
        self.assertEqual(self.shared, "shared")

    def test_unequal(self):
        self.assertEqual({"a": 1}, {"a": 2})

    @unittest.skip("not now")
    def test_skipped(self):
        pass

    @unittest.expectedFailure
    def test_expected(self):
        self.fail("as expected")

    @unittest.expectedFailure
    def test_unexpected(self):
        pass

    def test_sub_tests(self):
        for number in range(4):
            with self.subTest(number=number):
                self.assertNotEqual(number, 2)


class TestBroken(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise RuntimeError("of the class")

    def test_never(self):
        pass


class TestAsync(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        await asyncio.sleep(0)
        self.ready = True

    async def test_awaits(self):
        await asyncio.sleep(0)
        assert self.ready

    async def test_fails(self):
        await asyncio.sleep(0)
        raise ValueError("in a coroutine")


def test_asyncio():
    async def work():
        await asyncio.sleep(0)
        return 3

    assert asyncio.run(work()) == 3


def test_subtests(subtests):
    for number in range(3):
        with subtests.test("one of them", number=number):
            assert number != 1


def test_subtests_that_pass(subtests):
    with subtests.test("fine"):
        pass


async def test_coroutine_without_a_plugin():
    pass


@pytest.fixture
def _unused():
    raise AssertionError
