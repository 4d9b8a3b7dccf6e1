#!/usr/bin/python
"""Ansible module: describe models by their files, so that a plan can be made before anything is loaded."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_facts
short_description: Describe models by their files
description:
  - Reads config.json, the tokenizer's configuration and the headers of the weights of several models in one round
    trip, never the weights themselves. Changes nothing.
  - Looks into the directory on the host first, and, where C(hub) allows it, asks the hub for what is not there, by
    ranges of its files. Proxies come from the environment.
options:
  models:
    description: The models.
    type: list
    elements: dict
    required: true
    suboptions:
      path: {description: The directory on the host., type: str, required: true}
      model: {description: "Id on the hub, where it has one.", type: str}
      revision: {description: Commit or branch on the hub; its main branch by default., type: str}
  hub:
    description: Whether to ask the hub for models that are not on the host.
    type: bool
    default: false
  endpoint:
    description: URL of the hub.
    type: str
    default: https://huggingface.co
  token:
    description: Token for the hub. Sent to no other host, redirects included.
    type: str
    default: ""
  timeout:
    description: Seconds that the hub may take for an answer.
    type: int
    default: 20
attributes:
  check_mode:
    support: full
    description: Changes nothing in either mode.
author:
  - vllm-fleet contributors
"""

EXAMPLES = r"""
- name: Describe a model
  model_facts:
    models: [{model: BAAI/bge-m3, revision: null, path: /var/lib/vllm-fleet/models/BAAI--bge-m3}]
    hub: true
"""

RETURN = r"""
models:
  description: Descriptions by C(path).
  returned: always
  type: dict
  contains:
    source: {description: "V(directory) or V(hub).", type: str}
    config: {description: Content of config.json., type: dict}
    tokenizer_config:
      description: "C(auto_map), C(chat_template), C(model_max_length), C(tokenizer_class); null without the file."
      type: dict
    chat_template: {description: The chat template, empty where there is none., type: str}
    generation_config: {description: Content of generation_config.json or null., type: dict}
    max_seq_length: {description: What sentence_bert_config.json allows an input to have, in tokens., type: int}
    sentence_transformer: {description: Whether modules.json says how to make an embedding., type: bool}
    weights:
      description: >-
        Tensors, those that are alike but for numbers in one entry: C(name) (with # for a number), C(shape), C(dtype),
        C(count), C(layers) ([first, last, tensors each] by the first number). Empty for .bin and .pt files.
      type: list
      elements: dict
    files: {description: Size in bytes of each file with weights., type: dict}
    total_bytes: {description: Their sum., type: int}
unread:
  description: Why a model could not be described, by C(path).
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.model_files.describe import describe  # noqa: E402
from ansible.module_utils.model_files.directory import Directory  # noqa: E402
from ansible.module_utils.model_files.errors import Unreachable, Unread  # noqa: E402
from ansible.module_utils.model_files.hub import Hub  # noqa: E402


def read(models, hub):
    """Describe models: (descriptions by path, reasons by path).

    `hub` makes the source of a model on the hub; None where it is not to be asked.
    """
    descriptions, unread = {}, {}
    silent = None
    for model in models:
        path = model["path"]
        try:
            descriptions[path] = describe(Directory(path))
            continue
        except Unread as problem:
            unread[path] = str(problem)
        if hub is None or not model.get("model"):
            continue
        try:
            if silent is not None:  # asked once, not once per model
                raise silent
            descriptions[path] = describe(hub(model))
            del unread[path]
        except Unread as problem:
            silent = problem if isinstance(problem, Unreachable) else silent
            unread[path] += "; " + str(problem)
    return descriptions, unread


def main():
    """Run the module."""
    module = AnsibleModule(
        {
            "models": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "str", "required": True},
                    "model": {"type": "str"},
                    "revision": {"type": "str"},
                },
            },
            "hub": {"type": "bool", "default": False},
            "endpoint": {"type": "str", "default": "https://huggingface.co"},
            "token": {"type": "str", "default": "", "no_log": True},
            "timeout": {"type": "int", "default": 20},
        },
        supports_check_mode=True,
    )
    params = module.params
    hub = None
    if params["hub"]:

        def hub(model):
            return Hub(params["endpoint"], model["model"], model.get("revision"), params["token"], params["timeout"])

    descriptions, unread = read(params["models"], hub)
    module.exit_json(changed=False, models=descriptions, unread=unread)


if __name__ == "__main__":
    main()
