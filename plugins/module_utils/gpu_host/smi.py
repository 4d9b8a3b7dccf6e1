"""What the driver itself says, through nvidia-smi."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from ansible.module_utils.gpu_host import mig
from ansible.module_utils.gpu_host.pci import address
from ansible.module_utils.gpu_host.pci_ids import CAPABILITY_OF_ARCHITECTURE, describe
from ansible.module_utils.gpu_host.processes import owner, users
from ansible.module_utils.gpu_host.source import number

_NOTHING = ("", "N/A", "[N/A]", "Unknown Error", "ERR!", "Requested functionality has been deprecated")
_PROCESS_NAME = re.compile(r"(<process_name>)(.*?)(?=</process_name>)", re.DOTALL)
_BOOLEANS = {"Enabled": True, "Yes": True, "Disabled": False, "No": False}


def read_smi(source):
    """Return smi (state, message), cuda_version, gpus and links."""
    answer = source.run("nvidia-smi", "-q", "-x")
    found = {"smi": {"state": answer.state, "message": None}, "cuda_version": None, "gpus": None, "links": []}
    log, before = parse_log(answer.stdout)
    said = " ".join((before + " " + answer.stderr).split())[:500]
    if answer.state == "hangs":
        found["smi"]["message"] = f"nvidia-smi did not answer within {source.timeout} s"
        return found
    if answer.state == "missing":
        found["smi"]["message"] = "nvidia-smi is not installed"
        return found
    if log is None:
        status = f"nvidia-smi ended with status {answer.rc}"
        found["smi"] = {"state": "failed", "message": said or (status if answer.rc else "nvidia-smi gave no answer")}
        return found
    found["smi"]["message"] = said or None
    found["cuda_version"] = _text(log, "cuda_version")
    found["gpus"] = read_gpus(source, log)
    if len(found["gpus"]) > 1:
        found["links"] = parse_topology(source.run("nvidia-smi", "topo", "-m").stdout)
    return found


def parse_log(text):
    """Return (element, what was printed before it) of `nvidia-smi -q -x`, (None, everything) where it is no XML."""
    start = text.find("<nvidia_smi_log")
    if start < 0:
        return None, text
    before = text[:start].partition("<?xml")[0]
    # Only the element itself: without the document type there is nothing to resolve.
    element = text[start : text.rfind(">") + 1]
    # Names of processes are whatever their owners like, and come as they are.
    tame = _PROCESS_NAME.sub(lambda match: match.group(1) + re.sub(r"[^ -%'-;=?-~]", "?", match.group(2)), element)
    for candidate in (element, tame):
        try:
            return ElementTree.fromstring(candidate), before  # noqa: S314 - written by the driver
        except ElementTree.ParseError:
            continue
    return None, before


def read_gpus(source, log):
    """Return the GPUs of the XML, in the driver's order."""
    names = users(source)
    divided = any(_boolean(gpu, "mig_mode/current_mig") for gpu in log.findall("gpu"))
    instances = mig.parse_list(source.run("nvidia-smi", "-L").stdout) if divided else {}
    gpus = []
    for index, gpu in enumerate(log.findall("gpu")):
        # The id of chip and vendor in one number: 233010DE.
        device = (_text(gpu, "pci/pci_device_id") or "")[-8:-4].lower()
        known, architecture, capability = describe(device) if re.match(r"[0-9a-f]{4}$", device) else (None, None, None)
        architecture = _text(gpu, "product_architecture") or architecture
        gpus.append(
            {
                "index": index,
                "uuid": _text(gpu, "uuid"),
                "pci_address": address(gpu.get("id") or _text(gpu, "pci/pci_bus_id")),
                "name": _text(gpu, "product_name") or known,
                "architecture": architecture,
                "compute_capability": capability or CAPABILITY_OF_ARCHITECTURE.get(architecture),
                "memory_total_mib": number(_text(gpu, "fb_memory_usage/total")),
                "memory_used_mib": number(_text(gpu, "fb_memory_usage/used")),
                "memory_free_mib": number(_text(gpu, "fb_memory_usage/free")),
                "persistence": _boolean(gpu, "persistence_mode"),
                "mig": _boolean(gpu, "mig_mode/current_mig"),
                "mig_devices": mig.read_instances(gpu, instances.get(index, {})),
                "ecc": _boolean(gpu, "ecc_mode/current_ecc"),
                "ecc_uncorrected": _uncorrected(gpu),
                "remap_pending": _boolean(gpu, "remapped_rows/remapped_row_pending"),
                "remap_failure": _boolean(gpu, "remapped_rows/remapped_row_failure"),
                "recovery_action": _text(gpu, "gpu_recovery_action"),
                "fabric_state": _text(gpu, "fabric/state"),
                "fabric_status": _text(gpu, "fabric/status"),
                "minor": number(_text(gpu, "minor_number")),
                "processes": [_process(source, process, names) for process in gpu.findall("processes/process_info")],
            }
        )
    return gpus


def _text(element, path):
    """Return the text at a path, None where there is none or the driver has nothing to say."""
    text = (element.findtext(path) or "").strip()
    return None if text in _NOTHING else text


def _boolean(element, path):
    """Return whether something is enabled, None where the GPU does not know the notion."""
    return _BOOLEANS.get(_text(element, path))


def _uncorrected(gpu):
    """Return the uncorrectable memory errors since the driver was loaded."""
    counts = [
        number(counter.text) for counter in gpu.findall("ecc_errors/volatile/*") if "uncorrectable" in counter.tag
    ]
    counts.append(number(_text(gpu, "ecc_errors/volatile/double_bit/total")))  # before Turing
    counts = [count for count in counts if count is not None]
    return sum(counts) if counts else None


def _process(source, process, names):
    """Return who holds memory of a GPU, and how much."""
    pid = number(_text(process, "pid"))
    held = {
        "pid": pid,
        "name": _text(process, "process_name"),
        "used_mib": number(_text(process, "used_memory")),
        "gpu_instance": number(_text(process, "gpu_instance_id")),
    }
    return dict(held, **owner(source, pid, names))


def parse_topology(text):
    """Return how each pair of GPUs is connected, from the matrix of `nvidia-smi topo -m`."""
    rows = [[cell.strip() for cell in line.split("\t")] for line in text.splitlines() if "GPU" in line]
    if not rows:
        return []
    columns = rows[0]
    links = []
    for row in rows[1:]:
        for column, kind in zip(columns[1:], row[1:]):  # noqa: B905 - strict is 3.10
            pair = [re.match(r"GPU(\d+)$", name) for name in (row[0], column)]
            if all(pair) and re.match(r"(NV\d+|PIX|PXB|PHB|NODE|SYS)$", kind):
                first, second = (int(match.group(1)) for match in pair)
                if first < second:
                    links.append({"a": first, "b": second, "type": kind})
    return links
