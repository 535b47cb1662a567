from .. import __name__ as name


def test_relative_import(of_package):
    assert name.endswith("package")
    assert of_package == "package"
