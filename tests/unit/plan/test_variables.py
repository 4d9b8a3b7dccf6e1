"""A variable nobody reads is a mistake, not a preference."""

from tests.load import ROOT, load
from vllm_fleet.plan.variables import unknown_variables

PUBLIC = ["model_servers", "vllm_runtime_backend", "model_server_bind_address"]
ROLES = ["vllm_runtime", "model_server", "model_store"]


def found(*given: str) -> list[str]:
    return [str(problem) for problem in unknown_variables(given, PUBLIC, ROLES)]


def test_a_misspelt_top_level_variable_is_named_with_the_right_one() -> None:
    assert found("model_server") == ["variable model_server: nothing reads it; did you mean model_servers?"]


def test_an_unknown_variable_with_a_role_s_prefix_is_named() -> None:
    assert found("vllm_runtime_back_end") == [
        "variable vllm_runtime_back_end: nothing reads it; did you mean vllm_runtime_backend?"
    ]


def test_other_people_s_variables_are_left_alone() -> None:
    assert found("ansible_host", "nginx_port", "model_servers", "my_models", "inventory_dir") == []


def test_what_roles_say_to_each_other_is_no_mistake_of_the_inventory() -> None:
    plugin = load("plugins/filter/serving_plan.py")
    said = ["vllm_runtime_release_dir", "__vllm_runtime_backends", "__model_server_units", "model_server_api_key"]
    assert plugin.misspelt_variables(said, str(ROOT / "roles")) == []
    assert len(plugin.misspelt_variables(["vllm_runtime_release"], str(ROOT / "roles"))) == 1
