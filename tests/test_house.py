"""The house around the code: README, requirements, server settings, launcher, system parts, what is tracked."""

import dataclasses
import errno
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import tomllib
import urllib.error
import urllib.request
from importlib import metadata
from pathlib import Path

import pytest

from dashboard import launch, system_parts
from dashboard.service.visitors import limits
from tests import readme
from tests.support import serving

ROOT = Path(__file__).resolve().parents[1]
TOP = {
    *("dashboard", "glp_core", "pages", "tests", "assets", ".streamlit", ".ci"),
    *("requirements.txt", "README.md", "pyproject.toml", "Makefile", "LICENSE", ".gitignore"),
}
MEGABYTE = 1_000_000


def git_files():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


# what is tracked


def test_the_top_level_holds_what_the_design_names():
    assert {path.relative_to(ROOT).parts[0] for path in git_files()} <= TOP


def test_assets_are_small_enough_and_no_pickle_is_among_the_files():
    sizes = {path: path.stat().st_size for path in git_files()}
    assert max(sizes.values()) <= 90 * MEGABYTE
    assert sum(size for path, size in sizes.items() if path.is_relative_to(ROOT / "assets")) <= 150 * MEGABYTE
    assert not [path for path in sizes if path.suffix in (".pt", ".bin", ".pkl", ".pickle")]


def test_ci_runs_lint_and_tests():
    path = ROOT / ".ci/run"
    assert path.stat().st_mode & stat.S_IXUSR
    assert "make lint test" in path.read_text()
    subprocess.run(["bash", "-n", str(path)], check=True)


# README


def test_readme_numbers_pages_and_folders_are_up_to_date():
    for path, text in readme.documents().items():
        assert path.read_text() == text, "run `python -m tests.readme`"


def test_readme_names_every_folder_of_the_product():
    text = readme.README.read_text()
    folders = {path.parent for layer in ("glp_core", "dashboard") for path in (ROOT / layer).glob("*/__init__.py")}
    assert not [folder for folder in folders if folder.name not in text]


def test_a_report_that_is_missing_shows_its_command_and_one_that_is_there_its_numbers():
    class Reports:
        def report(self, name):
            law = {"E": (0.9, 0.8, 1.0), "A": (12.0, 4.0, 40.0), "alpha": (0.21, 0.1, 0.3)}
            fit = {key: {"value": value, "ci": [low, high]} for key, (value, low, high) in law.items()}
            score = {"value": -0.9, "ci": [-0.95, -0.8], "n": 40}
            report = fit | {"n_runs": 4, "n_points": 9, "correlations": {"steering": score, "probing": None}}
            return report if name == "scaling" else None

    assert "not measured" not in readme.numbers(Reports(), all_of_them=False)
    table = readme.numbers(Reports(), all_of_them=True)
    assert "| not measured yet | `make bench` |" in table
    assert "9 checkpoints of 4 runs | E 0.9 [0.8, 1], A 12 [4, 40], alpha 0.21 [0.1, 0.3]" in table
    assert "steering score | -0.90 [-0.95, -0.80], n = 40" in table and "probing AUC" not in table


# types


def test_types_are_checked_strictly_everywhere():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert settings["strict"] and settings["files"] == ["glp_core", "dashboard"]
    assert "mypy" in re.search(r"^lint:.*?\n\n", (ROOT / "Makefile").read_text(), re.MULTILINE | re.DOTALL)[0]


def test_any_stands_only_where_a_library_has_no_types():
    paths = [path for layer in ("glp_core", "dashboard", "pages") for path in (ROOT / layer).rglob("*.py")]
    assert sum(len(re.findall(r"\bAny\b", path.read_text())) for path in paths) <= 85


# requirements


def pins(path):
    lines = [line.split("#")[0].strip() for line in (ROOT / path).read_text().splitlines()]
    return dict(line.split("==") for line in lines if line)


def test_everything_is_pinned_and_is_what_is_installed():
    for name, version in (pins("requirements.txt") | pins("tests/requirements.txt")).items():
        assert metadata.version(name).split("+")[0] == version, name


def test_whatever_a_requirement_needs_is_pinned_too():
    def normal(name):
        return re.sub(r"[-_.]+", "-", name).lower()

    have = {normal(name) for name in pins("requirements.txt")}
    for name in pins("requirements.txt"):
        for line in metadata.requires(name) or []:
            wanted, _, marker = line.partition(";")
            if not marker.strip():
                assert normal(re.match(r"[\w.-]+", wanted)[0]) in have, f"{name} needs {wanted}"


def test_the_makefile_pins_the_data_packages_as_installed():
    found = re.search(r"^DATA := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    for pin in found.split():
        name, version = pin.split("==")
        assert metadata.version(name) == version


# server settings


def settings():
    return tomllib.loads((ROOT / ".streamlit/config.toml").read_text())


def test_every_setting_is_one_that_the_server_knows():
    from streamlit import config

    config.get_config_options()
    known = set(config._config_options_template)

    def names(table, prefix=""):
        for key, value in table.items():
            if isinstance(value, dict):
                yield from names(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}"

    assert set(names(settings())) <= known


def test_the_server_is_private_and_says_nothing_it_should_not():
    found = settings()
    assert found["server"]["address"] == "127.0.0.1"
    assert set(found["server"]["allowedHosts"]) == set(launch.LOCAL_NAMES)
    assert found["server"]["enableStaticServing"] is False
    assert found["server"]["maxUploadSize"] <= 10
    assert found["browser"]["gatherUsageStats"] is False
    assert found["client"]["showErrorDetails"] in ("type", "none")


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_links_can_be_read_in_both_themes(theme):
    colours = settings()["theme"][theme]
    for ink in ("textColor", "linkColor"):
        for paper in ("backgroundColor", "secondaryBackgroundColor"):
            one, other = sorted((luminance(colours[ink]), luminance(colours[paper])))
            assert (other + 0.05) / (one + 0.05) >= 4.5, (ink, paper)


# launcher


@pytest.fixture
def busy_port():
    with socket.socket() as holder:
        holder.bind((launch.HOST, 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_a_busy_port_is_passed_over(busy_port):
    assert not launch.is_free(busy_port)
    assert launch.free_port(busy_port) > busy_port


def test_an_address_of_ip_version_6_is_tried_as_one_and_one_that_is_not_this_machine_s_is_said(monkeypatch):
    with socket.socket(socket.AF_INET6) as holder:
        try:
            holder.bind(("::1", 0))
        except OSError:
            pytest.skip("no IP version 6 here")
        holder.listen()
        port = holder.getsockname()[1]
        assert not launch.is_free(port, "::1")
    assert launch.is_free(port, "::1")
    with pytest.raises(SystemExit, match=r"Cannot listen at 203\.0\.113\.7: .*--host"):
        launch.free_port(9000, "203.0.113.7")


def test_a_port_that_is_not_for_this_user_is_not_called_busy(monkeypatch):
    def refuse(*_args):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(SystemExit, match="Port 80 may not be used by this user"):
        launch.free_port(80)


def test_ports_that_are_all_busy_are_said(monkeypatch):
    monkeypatch.setattr(launch, "is_free", lambda *_: False)
    with pytest.raises(SystemExit, match="Ports 9000 to 9099 are all in use.*PORT"):
        launch.free_port(9000)


@pytest.mark.parametrize("words", ["0", "65536", "x", "-1", ""])
def test_what_is_no_port_is_refused(words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["launch", "--port", words])
    with pytest.raises(SystemExit):
        launch.main()
    assert "not a port" in capsys.readouterr().err or words == "-1"


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM], ids=["ctrl_c", "term"])
def test_the_server_answers_here_only_and_stops_cleanly(busy_port, stop):
    command = [sys.executable, "-m", "dashboard.launch", "--port", str(busy_port)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(process.stderr), daemon=True)
    reader.start()
    try:
        deadline = time.monotonic() + 120
        while not any("http://" in line for line in lines):
            assert process.poll() is None and time.monotonic() < deadline, lines
            time.sleep(0.05)
        address = re.search(r"http://127\.0\.0\.1:(\d+)", "".join(lines))
        assert int(address[1]) > busy_port
        assert f"Port {busy_port} is in use" in lines[0]
        wait_until_healthy(f"{address[0]}/_stcore/health", process, deadline)
        assert_strangers_find_nothing(address[0])
    finally:
        process.send_signal(stop)
        assert process.wait(60) == 0
    reader.join(10)
    assert lines[-1] == "Stopped.\n" and "Traceback" not in "".join(lines)


def assert_strangers_find_nothing(address):
    page = urllib.request.urlopen(address, timeout=20)
    assert (
        "default-src 'self'" in page.headers["Content-Security-Policy"] and page.headers["X-Content-Type-Options"] == "nosniff"
    )
    for path, headers, status in (("/_stcore/metrics", {}, 404), ("/", {"Host": "evil.example:80"}, 403)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(address + path, headers=headers), timeout=20)
        assert refused.value.code == status, path
    name, stranger = address.removeprefix("http://"), "http://evil.example:80"
    assert serving.knock(address, host=name, origin=address) == 101
    for host, origin in ((name, stranger), ("evil.example:80", stranger), (name, "null"), (name, "http://[")):
        assert serving.knock(address, host=host, origin=origin) == 403, (host, origin)


def test_the_server_is_opened_to_others_by_name_only(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["launch", "--host", "0.0.0.0"])
    with pytest.raises(SystemExit):
        launch.arguments()
    assert "--allow-host NAME" in capsys.readouterr().err
    words = ["launch", "--host", "0.0.0.0", "--allow-host", "box.example", "--base-path", "/glp/", "--logger.level=info"]
    monkeypatch.setattr(sys, "argv", words)
    args, more = launch.arguments()
    options = launch.server_options(args, 8000)
    assert more == ["--logger.level=info"]
    names = {f"--server.{option}=box.example" for option in ("allowedHosts", "corsAllowedOrigins")}
    assert {"--server.address=0.0.0.0", "--server.baseUrlPath=glp"} | names < set(options)


def test_limits_for_visitors_are_read_by_the_launcher_and_handed_to_the_server(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["launch", "--runs-a-minute", "5"])
    monkeypatch.setenv("GLP_EXPLORER_RUNS_A_MINUTE", "")
    monkeypatch.setenv("GLP_EXPLORER_TOKENS_A_DAY", "7")
    launch.set_limits(launch.arguments()[0])
    assert [os.environ[name] for name in limits.VARIABLES] == ["5", "7"]
    monkeypatch.setattr(sys, "argv", ["launch", "--tokens-a-day", "many"])
    with pytest.raises(SystemExit):
        launch.arguments()
    assert "'many' is no limit" in capsys.readouterr().err


def wait_until_healthy(url, process, deadline):
    while time.monotonic() < deadline:
        assert process.poll() is None
        try:
            if urllib.request.urlopen(url, timeout=5).read() == b"ok":
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("no healthy server")


# system parts


@pytest.fixture
def commands(monkeypatch):
    """The commands that would have been run; none is."""
    ran = []

    def run(command, **_options):
        ran.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(system_parts.subprocess, "run", run)
    return ran


def part(monkeypatch, present, **changes):
    fields = {"packages": {"apt-get": ["thing"], "brew": ["thing-mac"]}, "needed_for": "a test", "required": True} | changes
    monkeypatch.setitem(system_parts.PARTS, "thing", system_parts.Part(present, **fields))


def test_a_part_that_is_there_is_left_alone(monkeypatch, commands):
    part(monkeypatch, lambda: True)
    assert system_parts.ensure("thing")
    assert commands == []


def only_manager_here(monkeypatch, manager, uid):
    monkeypatch.setattr(system_parts.shutil, "which", lambda name: f"/usr/bin/{name}" if name == manager else None)
    monkeypatch.setattr(os, "geteuid", lambda: uid)


@pytest.mark.parametrize(("uid", "manager", "package"), [(0, "apt-get", "thing"), (1000, "brew", "thing-mac")])
def test_whoever_may_install_gets_a_missing_part_from_the_manager_that_is_there(monkeypatch, commands, uid, manager, package):
    part(monkeypatch, lambda: any(command[-1] == package for command in commands))
    only_manager_here(monkeypatch, manager, uid)
    assert system_parts.ensure("thing")
    assert commands[-1][:2] == [manager, "install"] and commands[-1][-1] == package
    assert (["apt-get", "update", "-qq"] in commands) == (manager == "apt-get")


def test_a_person_without_root_is_told_one_command_and_nothing_is_run(monkeypatch, commands, capsys):
    part(monkeypatch, lambda: False)
    only_manager_here(monkeypatch, "apt-get", 1000)
    assert not system_parts.ensure("thing")
    assert commands == []
    assert re.search(r"^    sudo apt-get install .*\bthing$", capsys.readouterr().err, re.MULTILINE)


def test_a_person_without_root_gets_a_part_that_can_be_downloaded(monkeypatch, commands):
    part(monkeypatch, lambda: bool(commands), download=("-m", "fetcher"))
    only_manager_here(monkeypatch, "apt-get", 1000)
    assert system_parts.ensure("thing")
    assert commands == [[sys.executable, "-m", "fetcher"]]


def test_root_downloads_what_the_package_manager_could_not_install(monkeypatch, commands):
    part(monkeypatch, lambda: [sys.executable, "-m", "fetcher"] in commands, download=("-m", "fetcher"))
    only_manager_here(monkeypatch, "apt-get", 0)
    assert system_parts.ensure("thing")
    assert [command[0] for command in commands] == ["apt-get", "apt-get", sys.executable]


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("name", sorted(system_parts.PARTS))
def test_nothing_calls_sudo(monkeypatch, commands, uid, name):
    monkeypatch.setitem(system_parts.PARTS, name, dataclasses.replace(system_parts.PARTS[name], present=lambda: False))
    only_manager_here(monkeypatch, "apt-get", uid)
    system_parts.ensure(name)
    assert not [command for command in commands if "sudo" in command]


@pytest.mark.parametrize("required", [True, False])
def test_a_part_that_cannot_be_installed_is_named_with_what_to_install(monkeypatch, commands, capsys, required):
    part(monkeypatch, lambda: False, required=required)
    only_manager_here(monkeypatch, "none", 1000)
    assert system_parts.ensure("thing") is not required
    message = capsys.readouterr().err
    assert "thing is missing" in message and "a test" in message and "apt-get: thing; brew: thing-mac" in message


def test_a_browser_that_does_not_start_is_not_counted_as_there(monkeypatch, tmp_path):
    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(system_parts, "CHROMIUMS", (str(broken),))
    monkeypatch.setattr(system_parts, "_playwrights_own", lambda: None)
    assert system_parts.chromium() is None
    broken.write_text("#!/bin/sh\nexit 0\n")
    assert system_parts.chromium() == str(broken)


def test_system_parts_need_nothing_that_is_not_in_python():
    code = "import sys, dashboard.system_parts; print([m for m in ('streamlit', 'torch', 'pandas') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
