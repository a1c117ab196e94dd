from benchmarks.speed_machine import describe_machine, read_cpuinfo

CPUINFO = """processor\t: 0
model name\t: Some Processor @ 2 GHz
flags\t\t: fpu avx2 avx512f avx512_bf16 sse

processor\t: 1
model name\t: Another
flags\t\t: amx_bf16
"""


def test_the_first_processor_speaks_for_all():
    assert read_cpuinfo(CPUINFO) == ("Some Processor @ 2 GHz", ["avx2", "avx512f", "avx512_bf16"])


def test_a_machine_without_cpuinfo_is_described_too():
    assert read_cpuinfo("") == ("", [])


def test_the_description_has_a_date_cores_and_versions():
    date, processor, libraries = describe_machine()
    assert date[:2] == "20"
    assert "cores" in processor
    assert "keras 3." in libraries
