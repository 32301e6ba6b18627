"""Where a number comes from: the kernels that rounded it are named as torch names them."""

import os
import subprocess
import sys

import pytest
import torch

from harness import ROOT
from harness.measure import provenance
from harness.spec.job import Settings
from models import fused


def test_a_record_names_the_instruction_set_and_the_libraries():
    told = provenance.provenance(Settings())["kernels"]
    assert told["instruction_set"] == torch.backends.cpu.get_cpu_capability()
    assert told["asked"] == os.environ.get("ATEN_CPU_CAPABILITY")
    assert told["compiled"] == fused.compiler()
    assert all(told[name] is None or told[name][0].isdigit() for name in ("mkl", "onednn"))


@pytest.mark.parametrize(
    ("built", "mkl", "onednn"),
    [
        (
            "  - Intel(R) oneAPI Math Kernel Library Version 2024.2-Product Build 20240605 for Intel(R) 64\n"
            "  - Intel(R) MKL-DNN v3.12.0 (Git Hash 80afa71049cd)\n",
            "2024.2",
            "3.12.0",
        ),
        ("  - oneDNN v3.5 (Git Hash 0)\n", None, "3.5"),
        ("PyTorch built with:\n", None, None),
    ],
)
def test_versions_are_read_from_how_torch_was_built(monkeypatch, built, mkl, onednn):
    monkeypatch.setattr(torch.__config__, "show", lambda: built)
    told = provenance.kernels()
    assert (told["mkl"], told["onednn"]) == (mkl, onednn)


def test_plain_kernels_that_were_asked_for_are_those_of_the_record():
    code = "import json; from harness.measure.provenance import kernels; print(json.dumps(kernels()))"
    environment = os.environ | {"ATEN_CPU_CAPABILITY": "default"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert '"instruction_set": "DEFAULT", "asked": "default"' in done.stdout
