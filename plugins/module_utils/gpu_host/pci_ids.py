"""NVIDIA's GPUs by PCI device id, for hosts on which no driver says what they are.

Names are those of the driver's own list of supported products. Architecture and compute capability hang on the chip,
and each chip has a range of ids, so that a product missing from the list is still known for what it can do.
"""

from __future__ import annotations

VENDOR = "10de"

# Bridges of NVLink 2 to 4. The switches of later HGX boards are no PCI devices of NVIDIA's.
NVSWITCHES = {"1ac2", "1af1", "22a3"}

# First id, last id, architecture, compute capability.
CHIPS = (
    (0x0FC0, 0x0FFF, "Kepler", "3.0"),  # GK107
    (0x1001, 0x102F, "Kepler", "3.5"),  # GK110, GK210 (3.7)
    (0x1180, 0x11FF, "Kepler", "3.0"),  # GK104
    (0x1280, 0x12BF, "Kepler", "3.5"),  # GK208
    (0x1340, 0x13BF, "Maxwell", "5.0"),  # GM107, GM108
    (0x13C0, 0x143F, "Maxwell", "5.2"),  # GM204, GM206
    (0x15F0, 0x15FF, "Pascal", "6.0"),  # GP100
    (0x1617, 0x161A, "Maxwell", "5.2"),  # GM204 for notebooks
    (0x17C2, 0x17FF, "Maxwell", "5.2"),  # GM200
    (0x1B00, 0x1D7F, "Pascal", "6.1"),  # GP102 to GP108
    (0x1D80, 0x1DFF, "Volta", "7.0"),  # GV100
    (0x1E00, 0x1FFF, "Turing", "7.5"),  # TU102, TU104, TU106, TU117
    (0x2080, 0x20FF, "Ampere", "8.0"),  # GA100
    (0x2180, 0x21FF, "Turing", "7.5"),  # TU116
    (0x2200, 0x227F, "Ampere", "8.6"),  # GA102
    (0x2300, 0x23FF, "Hopper", "9.0"),  # GH100
    (0x2400, 0x25FF, "Ampere", "8.6"),  # GA103, GA104, GA106, GA107
    (0x2680, 0x28FF, "Ada Lovelace", "8.9"),  # AD102 to AD107
    (0x2900, 0x29FF, "Blackwell", "10.0"),  # GB100, GB200
    (0x2B80, 0x2DFF, "Blackwell", "12.0"),  # GB202, GB203, GB206, GB207
    (0x2E00, 0x2E7F, "Blackwell", "12.1"),  # GB10
    (0x2F00, 0x2F7F, "Blackwell", "12.0"),  # GB205
    (0x3180, 0x31FF, "Blackwell", "10.3"),  # GB110, GB300
)

# Where the driver names an architecture and the id is unknown; Ampere and Blackwell have several.
CAPABILITY_OF_ARCHITECTURE = {"Volta": "7.0", "Turing": "7.5", "Ada Lovelace": "8.9", "Hopper": "9.0"}

NAMES = {
    "102d": "Tesla K80",
    "13f2": "Tesla M60",
    "15f8": "Tesla P100-PCIE-16GB",
    "15f9": "Tesla P100-SXM2-16GB",
    "1b06": "NVIDIA GeForce GTX 1080 Ti",
    "1b38": "Tesla P40",
    "1b80": "NVIDIA GeForce GTX 1080",
    "1bb3": "Tesla P4",
    "1d81": "NVIDIA TITAN V",
    "1db1": "Tesla V100-SXM2-16GB",
    "1db4": "Tesla V100-PCIE-16GB",
    "1db5": "Tesla V100-SXM2-32GB",
    "1db6": "Tesla V100-PCIE-32GB",
    "1db8": "Tesla V100-SXM3-32GB",
    "1df6": "Tesla V100S-PCIE-32GB",
    "1e02": "NVIDIA TITAN RTX",
    "1e04": "NVIDIA GeForce RTX 2080 Ti",
    "1e07": "NVIDIA GeForce RTX 2080 Ti",
    "1e30": "Quadro RTX 6000",
    "1e78": "Quadro RTX 6000",
    "1e81": "NVIDIA GeForce RTX 2080 SUPER",
    "1e82": "NVIDIA GeForce RTX 2080",
    "1e84": "NVIDIA GeForce RTX 2070 SUPER",
    "1e87": "NVIDIA GeForce RTX 2080",
    "1eb0": "Quadro RTX 5000",
    "1eb1": "Quadro RTX 4000",
    "1eb8": "Tesla T4",
    "1f02": "NVIDIA GeForce RTX 2070",
    "1f06": "NVIDIA GeForce RTX 2060 SUPER",
    "1f07": "NVIDIA GeForce RTX 2070",
    "1f08": "NVIDIA GeForce RTX 2060",
    "20b0": "NVIDIA A100-SXM4-40GB",
    "20b2": "NVIDIA A100-SXM4-80GB",
    "20b3": "NVIDIA A100-SXM-64GB",
    "20b5": "NVIDIA A100 80GB PCIe",
    "20b7": "NVIDIA A30",
    "20bd": "NVIDIA A800-SXM4-40GB",
    "20f1": "NVIDIA A100-PCIE-40GB",
    "20f3": "NVIDIA A800-SXM4-80GB",
    "20f5": "NVIDIA A800 80GB PCIe",
    "20f6": "NVIDIA A800 40GB Active",
    "2203": "NVIDIA GeForce RTX 3090 Ti",
    "2204": "NVIDIA GeForce RTX 3090",
    "2206": "NVIDIA GeForce RTX 3080",
    "2208": "NVIDIA GeForce RTX 3080 Ti",
    "220a": "NVIDIA GeForce RTX 3080",
    "2216": "NVIDIA GeForce RTX 3080",
    "2230": "NVIDIA RTX A6000",
    "2231": "NVIDIA RTX A5000",
    "2232": "NVIDIA RTX A4500",
    "2233": "NVIDIA RTX A5500",
    "2235": "NVIDIA A40",
    "2236": "NVIDIA A10",
    "2237": "NVIDIA A10G",
    "2321": "NVIDIA H100 NVL",
    "2322": "NVIDIA H800 PCIe",
    "2324": "NVIDIA H800",
    "2329": "NVIDIA H20",
    "232c": "NVIDIA H20-3e",
    "2330": "NVIDIA H100 80GB HBM3",
    "2331": "NVIDIA H100 PCIe",
    "2335": "NVIDIA H200",
    "2339": "NVIDIA H100",
    "233a": "NVIDIA H800 NVL",
    "233b": "NVIDIA H200 NVL",
    "2342": "NVIDIA GH200 480GB",
    "2482": "NVIDIA GeForce RTX 3070 Ti",
    "2484": "NVIDIA GeForce RTX 3070",
    "2486": "NVIDIA GeForce RTX 3060 Ti",
    "2489": "NVIDIA GeForce RTX 3060 Ti",
    "24b0": "NVIDIA RTX A4000",
    "2503": "NVIDIA GeForce RTX 3060",
    "2504": "NVIDIA GeForce RTX 3060",
    "2531": "NVIDIA RTX A2000",
    "2571": "NVIDIA RTX A2000 12GB",
    "25b6": "NVIDIA A2",
    "2684": "NVIDIA GeForce RTX 4090",
    "2685": "NVIDIA GeForce RTX 4090 D",
    "26b1": "NVIDIA RTX 6000 Ada Generation",
    "26b2": "NVIDIA RTX 5000 Ada Generation",
    "26b3": "NVIDIA RTX 5880 Ada Generation",
    "26b5": "NVIDIA L40",
    "26b9": "NVIDIA L40S",
    "26ba": "NVIDIA L20",
    "2702": "NVIDIA GeForce RTX 4080 SUPER",
    "2704": "NVIDIA GeForce RTX 4080",
    "2705": "NVIDIA GeForce RTX 4070 Ti SUPER",
    "2782": "NVIDIA GeForce RTX 4070 Ti",
    "2783": "NVIDIA GeForce RTX 4070 SUPER",
    "2786": "NVIDIA GeForce RTX 4070",
    "27b0": "NVIDIA RTX 4000 SFF Ada Generation",
    "27b1": "NVIDIA RTX 4500 Ada Generation",
    "27b2": "NVIDIA RTX 4000 Ada Generation",
    "27b6": "NVIDIA L2",
    "27b8": "NVIDIA L4",
    "2803": "NVIDIA GeForce RTX 4060 Ti",
    "2805": "NVIDIA GeForce RTX 4060 Ti",
    "2882": "NVIDIA GeForce RTX 4060",
    "28b0": "NVIDIA RTX 2000 Ada Generation",
    "2901": "NVIDIA B200",
    "2941": "NVIDIA GB200",
    "2b85": "NVIDIA GeForce RTX 5090",
    "2b87": "NVIDIA GeForce RTX 5090 D",
    "2bb1": "NVIDIA RTX PRO 6000 Blackwell Workstation Edition",
    "2bb3": "NVIDIA RTX PRO 5000 Blackwell",
    "2bb4": "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
    "2bb5": "NVIDIA RTX PRO 6000 Blackwell Server Edition",
    "2c02": "NVIDIA GeForce RTX 5080",
    "2c05": "NVIDIA GeForce RTX 5070 Ti",
    "2c31": "NVIDIA RTX PRO 4500 Blackwell",
    "2c34": "NVIDIA RTX PRO 4000 Blackwell",
    "2d04": "NVIDIA GeForce RTX 5060 Ti",
    "2d05": "NVIDIA GeForce RTX 5060",
    "2e12": "NVIDIA GB10",
    "2f04": "NVIDIA GeForce RTX 5070",
    "3182": "NVIDIA B300 SXM6 AC",
    "31c2": "NVIDIA GB300",
}


def describe(device):
    """Return (name, architecture, compute capability) of a device id such as "2330"; null what is not known."""
    number = int(device, 16)
    for first, last, architecture, capability in CHIPS:
        if first <= number <= last:
            return NAMES.get(device), architecture, capability
    return NAMES.get(device), None, None
