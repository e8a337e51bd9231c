"""Freed memory that a process keeps."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from strflab.memory import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else None
def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024
before = resident()
array = bytearray(b"1") * (100 * 2**20)
del array
print(kept, resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("way", ["keep", "give back"])
def test_what_is_freed_stays_with_the_process_only_if_asked_for(way):
    done = subprocess.run([sys.executable, "-c", SCRIPT, way], capture_output=True, text=True, check=True)
    kept, grown = done.stdout.split()
    if kept == "False":
        pytest.skip("another C library than glibc")
    assert float(grown) > 90 if way == "keep" else float(grown) < 20
