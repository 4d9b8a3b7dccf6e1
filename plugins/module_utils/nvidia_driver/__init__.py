"""What nvidia_driver_facts is made of."""
