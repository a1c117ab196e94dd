from benchmarks.speed_machine import describe_machine


def test_the_description_has_a_date_cores_and_versions():
    date, processor, libraries = describe_machine()
    assert date[:2] == "20"
    assert "cores" in processor
    assert "keras 3." in libraries
