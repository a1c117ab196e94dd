import subprocess
import sys

from benchmarks.speed_machine import describe_machine


def test_the_description_has_a_date_cores_and_versions():
    date, processor, libraries = describe_machine()
    assert date[:2] == "20"
    assert "cores" in processor
    assert "keras 3." in libraries


def test_what_the_peers_workers_import_leaves_the_name_of_their_package_free():
    imports = "import sys, benchmarks.speed_machine, benchmarks.speed_scene, benchmarks.speed_turns; "
    subprocess.run([sys.executable, "-c", imports + "assert 'mrcnn' not in sys.modules"], check=True)
