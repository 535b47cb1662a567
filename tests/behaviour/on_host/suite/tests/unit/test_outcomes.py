import sys

import pytest


@pytest.mark.xfail(reason="known")
def test_xfail():
    raise AssertionError("as known")


@pytest.mark.xfail(strict=True, reason="passes all the same")
def test_xpass_strict():
    pass


@pytest.mark.xfail
def test_xpass():
    pass


@pytest.mark.xfail(raises=ValueError)
def test_xfail_of_another_kind():
    raise TypeError("another kind")


@pytest.mark.xfail(run=False, reason="ends the process")
def test_xfail_not_run():
    sys.exit(1)


def test_xfail_called():
    pytest.xfail("half way")


@pytest.mark.skip(reason="no reason")
def test_skip():
    pass


@pytest.mark.skipif(sys.version_info > (3,), reason="new enough")
def test_skipif():
    pass


def test_skip_called():
    pytest.skip("half way")


def test_importorskip():
    pytest.importorskip("no_such_module_at_all")


def test_fail_called():
    pytest.fail("because", pytrace=False)


def test_exits():
    sys.exit("out")


@pytest.mark.heavy
def test_heavy():
    pass


@pytest.mark.light(3)
def test_light(request):
    assert request.node.get_closest_marker("light").args == (3,)


@pytest.mark.filterwarnings("ignore:record_xml_attribute")
def test_properties(record_property, record_testsuite_property, record_xml_attribute):
    record_property("number", 3)
    record_property("text", "ä & <b>")
    record_property("none", None)
    record_testsuite_property("of the suite", "x")
    record_xml_attribute("extra", "y")


def test_odd():
    pass
