"""Real runs: ansible-runner and ansible-playbook against this machine."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vllm_fleet.run.playbook import CHECKOUT
from vllm_fleet.run.runner import RunResult, run_playbook

HOSTS = f"""\
[all:vars]
ansible_python_interpreter={sys.executable}
[here]
one ansible_connection=local
[gone]
two ansible_host=127.0.0.1 ansible_port=1 ansible_ssh_retries=0
"""


class Site:
    """A directory with an inventory and a place for logs, in which playbooks are run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs = path / "runs"
        self.inventory = path / "hosts"
        self.inventory.write_text(HOSTS)

    def write(self, tasks: str, hosts: str = "here") -> Path:
        book = self.path / "play.yml"
        indented = "\n".join(f"    {line}" for line in tasks.strip("\n").splitlines())
        book.write_text(f"- name: Stage\n  hosts: {hosts}\n  gather_facts: false\n  tasks:\n{indented}\n")
        return book

    def run(self, tasks: str, *args: str, hosts: str = "here") -> RunResult:
        return run_playbook(self.write(tasks, hosts), [str(self.inventory)], args, runs=self.runs)

    def logged(self) -> str:
        """Everything a run has left on disk."""
        files = [path for path in self.runs.rglob("*") if path.is_file()]
        return "\n".join(path.read_text(errors="replace") for path in files)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_good_run_counts_changes_and_passes_on_what_debug_says(site: Site) -> None:
    result = site.run("""
- name: Change
  ansible.builtin.command: "true"
- name: Table
  ansible.builtin.debug:
    msg: |
      llm    ok
      rerank ok
""")
    assert (result.status, result.exit_code) == ("successful", 0)
    assert (result.hosts["one"].ok, result.hosts["one"].changed) == (2, 1)
    assert [message.text for message in result.debug_messages] == ["llm    ok\nrerank ok"]
    assert [task.name for task in result.tasks] == ["Change", "Table"]


def test_a_failed_task_is_named_with_its_message_line_for_line(site: Site) -> None:
    result = site.run("""
- name: Check the declaration
  ansible.builtin.fail:
    msg: |
      2 mistakes:
        - port 8000 twice
        - no model
""")
    assert (result.status, result.exit_code) == ("failed", 2)
    assert result.failure is not None
    assert (result.failure.host, result.failure.stage, result.failure.task) == ("one", "Stage", "Check the declaration")
    assert result.failure.message == "2 mistakes:\n  - port 8000 twice\n  - no model"


def test_of_a_loop_the_failed_item_is_named(site: Site) -> None:
    result = site.run("""
- name: Loop
  ansible.builtin.command: "test {{ item }} != bad"
  loop: [good, bad, fine]
""")
    assert result.failure is not None
    assert result.failure.message.startswith("Item bad: The command `test bad != bad` ended with status 1.")


def test_an_unreachable_host_is_told_in_plain_words(site: Site) -> None:
    result = site.run("- name: Ping\n  ansible.builtin.ping:", hosts="gone")
    assert (result.status, result.exit_code) == ("unreachable", 4)
    assert result.failure is not None
    assert "nothing listens on its SSH port" in result.failure.message


def test_a_rescued_failure_does_not_fail_the_run(site: Site) -> None:
    result = site.run("""
- name: Try
  block:
    - name: Break
      ansible.builtin.command: "false"
  rescue:
    - name: Mend
      ansible.builtin.command: "true"
""")
    assert (result.status, result.failure) == ("successful", None)


def test_a_broken_playbook_is_told_in_ansibles_words(site: Site) -> None:
    result = site.run("- name: Nonsense\n  ansible.builtin.no_such_module:")
    assert result.status == "failed"
    assert result.exit_code not in (0, 3)
    assert "no_such_module" in result.explanation


def test_a_run_that_matched_no_host_does_not_boast(site: Site) -> None:
    result = site.run("- name: Ping\n  ansible.builtin.ping:", hosts="nobody")
    assert result.exit_code == 0
    assert "Nothing was done" in result.explanation


def test_check_mode_changes_nothing_and_shows_the_difference(site: Site) -> None:
    target = site.path / "written"
    result = site.run(
        f"- name: Write\n  ansible.builtin.copy: {{content: new, dest: {target}, mode: '0600'}}", "--check", "--diff"
    )
    assert not target.exists()
    assert result.hosts["one"].changed == 1
    assert "+new" in result.diffs[0].text


def test_no_secret_is_left_on_disk(site: Site) -> None:
    target = site.path / "token"
    os.environ["HF_TOKEN"] = "from-environment"
    try:
        result = site.run(
            f"""
- name: Marked as secret
  ansible.builtin.copy: {{content: "{{{{ token }}}}", dest: {target}, mode: '0600'}}
  no_log: true
- name: Marked as secret and failing
  ansible.builtin.command: "false {{{{ token }}}}"
  no_log: true
  failed_when: false
- name: Not marked, and its arguments are not printed by Ansible either
  ansible.builtin.lineinfile: {{path: {target}, line: "{{{{ token }}}}"}}
  diff: false
""",
            "--diff",
            "-e",
            "token=from-command-line",
        )
    finally:
        del os.environ["HF_TOKEN"]
    assert result.status == "successful"
    assert target.read_text().startswith("from-command-line")
    logged = site.logged()
    assert "Marked as secret" in logged
    assert "from-command-line" not in logged
    assert "from-environment" not in logged
    assert all(not stat.S_IMODE(path.stat().st_mode) & 0o077 for path in site.runs.iterdir())


def test_a_host_key_is_checked_as_ansible_cfg_says(site: Site) -> None:
    result = site.run("""
- name: Setting
  ansible.builtin.debug:
    msg: "{{ lookup('ansible.builtin.config', 'host_key_checking', plugin_type='connection', plugin_name='ssh') }}"
""")
    assert result.debug_messages[0].text == "True"


def test_what_the_shell_prefers_does_not_spoil_the_verdict(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_STDOUT_CALLBACK", "minimal")
    monkeypatch.setenv("ANSIBLE_FORCE_COLOR", "1")
    result = site.run("- name: Ping\n  ansible.builtin.ping:")
    assert result.status == "successful"
    assert "\x1b" not in result.log.read_text()


def test_a_vault_is_opened_with_the_password_given_before_the_run(site: Site) -> None:
    (site.path / "key").write_text("sesame")
    encrypt = [
        "ansible-vault",
        "encrypt_string",
        "--vault-password-file",
        str(site.path / "key"),
        "opened",
        "--name",
        "v",
    ]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    vault = subprocess.run(encrypt, check=True, capture_output=True, text=True, env={**os.environ, "PATH": path}).stdout
    (site.path / "vault.yml").write_text(vault)
    result = run_playbook(
        site.write("- name: Open\n  ansible.builtin.debug: {msg: '{{ v }}'}"),
        [str(site.inventory)],
        ["--ask-vault-pass", "-e", f"@{site.path}/vault.yml"],
        passwords={r"Vault password.*:\s*$": "sesame"},
        runs=site.runs,
    )
    assert [message.text for message in result.debug_messages] == ["opened"]
    assert "sesame" not in site.logged()


@pytest.mark.parametrize("by", ["the runner", "Ansible alone"])
def test_filters_are_loaded_once_and_not_by_each_task(site: Site, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    loads = site.path / "loads"
    (site.path / "filter_plugins").mkdir()
    (site.path / "filter_plugins/seen.py").write_text(
        f"with open({str(loads)!r}, 'a') as file:\n    file.write('x')\n"
        "class FilterModule:\n    def filters(self):\n        return {'seen': str}\n"
    )
    tasks = "\n".join(["- ansible.builtin.debug:", '    msg: "{{ 1 | seen }}"'] * 3)
    if by == "the runner":
        assert site.run(tasks).status == "successful"
    else:
        monkeypatch.setenv("ANSIBLE_CONFIG", str(CHECKOUT / "ansible.cfg"))
        command = [Path(sys.executable).parent / "ansible-playbook", "-i", site.inventory, site.write(tasks)]
        subprocess.run(command, check=True, capture_output=True)
    assert loads.read_text() == "x"


def deploy(site: Site, book: Path, *args: str) -> subprocess.Popen[str]:
    """scripts/deploy itself, from a directory that is not the checkout and without an activated environment."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", "/")}
    command = [
        str(CHECKOUT / "scripts" / "deploy"),
        str(book),
        "-i",
        str(site.inventory),
        "--logs",
        str(site.runs),
        *args,
    ]
    return subprocess.Popen(command, cwd=site.path, env=environment, stdout=subprocess.PIPE, text=True)


def test_the_command_prints_a_plain_log_and_ends_with_what_to_do(site: Site) -> None:
    book = site.write("- name: Break\n  ansible.builtin.fail: {msg: 'Disk full on /var'}")
    process = deploy(site, book, "-e", "token=secret")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    lines = output.splitlines()
    assert lines[0] == "== Stage 1 of 1: Stage"
    assert "  Disk full on /var" in lines
    assert lines[-2].startswith("Full log:")
    assert (site.path / lines[-2].partition(":")[2].strip()).is_file()
    assert lines[-1].startswith("Try again:")
    assert "token=..." in lines[-1]
    assert "secret" not in output


def test_retries_show_what_they_said(site: Site) -> None:
    counter = site.path / "count"
    result_of = f'echo x >> {counter}; echo "$(wc -l < {counter}) of 3 GB"; test $(wc -l < {counter}) = 3'
    book = site.write(f"""
- name: Download the model
  ansible.builtin.shell: '{result_of}'
  register: download
  until: download.rc == 0
  retries: 5
  delay: 1
""")
    seen: list[str] = []

    class Spy:
        def start(self) -> None: ...
        def stop(self) -> None: ...
        def notice(self, text: str) -> None: ...
        def tick(self, state: object, now: float) -> None: ...
        def update(self, before: object, after: object) -> None:
            from vllm_fleet.run.display import attempts

            task = after.task  # type: ignore[attr-defined]
            seen.extend(attempts(task) if task else [])

    result = run_playbook(book, [str(site.inventory)], display=lambda plays, history: Spy(), runs=site.runs)
    assert result.status == "successful"
    assert "one, try 2 of 6: 1 of 3 GB" in seen


KILL = """
- name: Take much memory
  ansible.builtin.shell: |
    up() {{ ps -o ppid= -p $1 | tr -d ' '; }}
    pid=$$
    while [ "$(ps -o comm= -p $pid)" != ansible-playboo ] && [ "$pid" -gt 1 ]; do pid=$(up $pid); done
    {more}
    test "$pid" -gt 1 && kill -9 $pid
"""


def test_a_dead_worker_is_told_as_lack_of_memory_and_where_it_was(site: Site) -> None:
    result = site.run(KILL.format(more=":"))
    assert (result.status, result.exit_code) == ("failed", 1)
    assert "memory" in result.explanation
    assert result.unfinished is not None
    assert result.unfinished.name == "Take much memory"


def test_a_killed_ansible_leaves_the_outcome_unknown(site: Site) -> None:
    result = site.run(KILL.format(more="pid=$(up $pid)"))
    assert (result.status, result.exit_code) == ("unknown", 3)
    assert "killed" in result.explanation


def test_a_task_that_says_very_much_loses_no_event(site: Site) -> None:
    result = site.run("""
- name: Say very much
  ansible.builtin.command: seq 200000
  register: much
- name: Repeat it
  ansible.builtin.debug:
    var: much.stdout
""")
    assert result.status == "successful"
    assert result.debug_messages[0].text.endswith("200000")


def test_an_interruption_stops_ansible_and_says_that_nothing_is_lost(site: Site) -> None:
    started = site.path / "started"
    book = site.write(f"- name: Wait\n  ansible.builtin.shell: 'echo $$ > {started}; exec sleep 120'")
    process = deploy(site, book)
    deadline = time.monotonic() + 30
    while not (started.exists() and started.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Interrupted. Nothing is lost" in output
    assert "It was at: Wait" in output
    command = Path("/proc", started.read_text().strip())
    deadline = time.monotonic() + 10  # it is told to end, and ends a moment later
    while command.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not command.exists(), "the task's command goes on"


def test_a_reader_that_goes_away_does_not_stop_the_run(site: Site) -> None:
    done = site.path / "done"
    book = site.write(f"""
- name: Change
  ansible.builtin.command: sleep 1
- name: Last
  ansible.builtin.command: touch {done}
""")
    process = deploy(site, book)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert done.exists()
