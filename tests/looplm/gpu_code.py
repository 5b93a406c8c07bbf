"""Run as a script: compile the Triton row kernel, as `triton_rows` launches it, for GPUs that need not be there.

One line of JSON a case: what ptxas says of its resources, and how many loads and stores of the PTX are narrow.
"""

import json
import re
import subprocess
import tempfile
from itertools import product
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from looplm.loss import triton_rows

TARGETS = {"A100": 80, "H200": 90}
VOCABULARIES = (1021, 50257)
DTYPES = (torch.float32, torch.bfloat16)


class AbsentGPU:
    """What Triton asks of a driver before it launches anything."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


class Compiled:
    """Stands for the kernel: compiles for the arguments of a launch and launches nothing."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel

    def __getitem__(self, grid: tuple[int]) -> Any:
        def launch(*arguments: Any, **options: Any) -> None:
            self.code = self.kernel.warmup(*arguments, grid=grid, **options).asm

        return launch


def resources(cubin: bytes) -> dict[str, int]:
    """Registers, and bytes of stack and of local memory, which is where registers are spilled."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", said)}


def narrow_accesses(ptx: str) -> dict[str, int]:
    """Loads and stores of global memory that move less than 16 bytes at once, and all of them."""
    counted = {"loads": 0, "narrow loads": 0, "stores": 0, "narrow stores": 0}
    for kind, vector, bits in re.findall(r"(ld|st)\.global\S*?(?:\.v(\d))?\.b(\d+)", ptx):
        name = {"ld": "loads", "st": "stores"}[kind]
        counted[name] += 1
        counted[f"narrow {name}"] += int(vector or 1) * int(bits) < 128
    return counted


def main() -> None:
    compiled = triton_rows._rows = Compiled(triton_rows._rows)
    for (name, capability), dtype, vocab_size in product(TARGETS.items(), DTYPES, VOCABULARIES):
        driver.set_active(AbsentGPU(capability))
        logits_mP = torch.empty(2, -(-vocab_size // 128) * 128, dtype=dtype)
        triton_rows.triton_rows(logits_mP, vocab_size, torch.zeros(2, dtype=torch.int64), 0.0, True)
        code = compiled.code
        case = f"{name} {str(dtype).removeprefix('torch.')} {vocab_size}"
        print(json.dumps({"case": case, **resources(code["cubin"]), **narrow_accesses(code["ptx"])}))


if __name__ == "__main__":
    main()
