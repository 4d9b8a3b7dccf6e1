"""What gpu_host_facts reads of a host, by subject; Python 3.8 and the standard library only."""
