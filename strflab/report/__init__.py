"""What a chapter says of its own run: numbers for the prose, verdicts on the paper's claims, provenance.

A chapter starts with `setup`, records each number that the prose quotes with `glue`, judges the paper's claims in a
`Claims` table and ends with `provenance`.
"""

from strflab.report.claims import Claim, Claims
from strflab.report.display import RECORD, banner, glue, provenance, table
from strflab.report.run import PROFILES, Run, commit, device_name, find_device, record, setup, versions

__all__ = [
    "PROFILES",
    "RECORD",
    "Claim",
    "Claims",
    "Run",
    "banner",
    "commit",
    "device_name",
    "find_device",
    "glue",
    "provenance",
    "record",
    "setup",
    "table",
    "versions",
]
