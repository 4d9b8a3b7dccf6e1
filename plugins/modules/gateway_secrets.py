#!/usr/bin/python
"""Ansible module: a gateway's API keys and certificate, from the controller. What it does is in plugins/action."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_secrets
short_description: Get a gateway's API keys and certificate from the controller
description:
  - Reads generated API keys, the own certificate authority and the gateway's certificate from a directory on the
    controller, and makes what is missing. A certificate is made anew when fewer than 60 days are left, when its names
    changed, or when the authority there did not sign it.
  - Always runs on the controller, as the user who runs Ansible, and needs neither C(delegate_to) nor C(become).
  - A result is never shown, so that a task needs no C(no_log), which would hide the reason of a failure as well. What
    becomes of the result is the task's own care.
options:
  directory:
    description: Directory of the secrets on the controller; made for its owner only where it is missing.
    type: path
    required: true
  keys:
    description: Names of the API keys to get, or to generate where they are nowhere.
    type: list
    elements: str
    default: []
  keys_on_gateway:
    description: >-
      Names of the keys that the gateway has already. One that is not kept here was made by another controller, and is
      reported as missing instead of being generated anew.
    type: list
    elements: str
    default: []
  certificate_names:
    description: >-
      Names and IP addresses by which clients reach the gateway. Empty means no certificate, unless one is given by
      O(certificate_file).
    type: list
    elements: str
    default: []
  certificate_on_gateway:
    description: >-
      Whether the gateway has a certificate of an own authority already. Where no authority is kept here, another
      controller made it, and none is made.
    type: bool
    default: false
  certificate_file:
    description: >-
      A certificate of the user's own on the controller, followed by those that lead to its authority; PEM, may be
      encrypted by Ansible Vault.
    type: str
    default: ""
  certificate_key_file:
    description: Its private key without a passphrase; PEM, may be encrypted by Ansible Vault. May be the same file.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    description: Makes what is missing in memory only, and keeps nothing.
author:
  - vllm-fleet contributors
"""

EXAMPLES = r"""
- name: Get the keys and the certificate
  gateway_secrets:
    directory: "{{ gateway_secrets_directory }}"
    keys: [default]
    certificate_names: [gpu-1.example.com, 192.0.2.10]
  register: secrets
"""

RETURN = r"""
keys:
  description: The secrets of each key, the current one first.
  returned: success
  type: dict
made:
  description: Names of the keys that were generated.
  returned: success
  type: list
  elements: str
missing:
  description: Names of keys that the gateway has and this controller has not.
  returned: success
  type: list
  elements: str
certificate:
  description: Certificate, chain and private key as one PEM, as HAProxy wants it; null for none.
  returned: success
  type: str
certificate_made:
  description: Why a new certificate was made; null where none was.
  returned: success
  type: str
certificate_missing:
  description: Whether the gateway has a certificate of an authority that this controller has not.
  returned: success
  type: bool
ca:
  description: Certificate of the own authority, PEM; null for somebody else's.
  returned: success
  type: str
ca_file:
  description: Where it lies on the controller, or would; null for somebody else's.
  returned: success
  type: str
"""
