def test_flat():
    assert __name__.endswith("test_same_name")
