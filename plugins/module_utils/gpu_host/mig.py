"""GPUs that are divided (MIG): their instances, each of which a program sees as a GPU of its own."""

from __future__ import annotations

import re

from ansible.module_utils.gpu_host.source import number

_GPU = re.compile(r"GPU (\d+): ")
_INSTANCE = re.compile(r"\s+MIG (\S+)\s+Device\s+(\d+): \(UUID: (MIG-[^)\s]+)\)")


def read_instances(gpu, listed):
    """Return the instances of one GPU of `nvidia-smi -q -x`.

    Args:
        gpu: its element.
        listed: what `parse_list` knows of it; the XML of most drivers has neither profile nor UUID.
    """
    instances = []
    for instance in gpu.findall("mig_devices/mig_device"):
        index = number(instance.findtext("index"))
        profile, uuid = listed.get(index, (None, None))
        instances.append(
            {
                "index": index,
                "uuid": uuid,
                "profile": profile,
                "gpu_instance": number(instance.findtext("gpu_instance_id")),
                "compute_instance": number(instance.findtext("compute_instance_id")),
                "memory_total_mib": number(instance.findtext("fb_memory_usage/total")),
                "memory_used_mib": number(instance.findtext("fb_memory_usage/used")),
                "memory_free_mib": number(instance.findtext("fb_memory_usage/free")),
            }
        )
    return instances


def parse_list(text):
    """Return {GPU: {instance: (profile, UUID)}} of `nvidia-smi -L`, both counted as the driver does."""
    found, here = {}, None
    for line in text.splitlines():
        gpu, instance = _GPU.match(line), _INSTANCE.match(line)
        if gpu:
            here = found.setdefault(int(gpu.group(1)), {})
        elif instance and here is not None:
            here[int(instance.group(2))] = (instance.group(1), instance.group(3))
    return found
