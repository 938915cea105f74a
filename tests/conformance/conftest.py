"""What the tests share: one service per worker for most of them, and services of their own for the others."""

import json
import os
from contextlib import ExitStack

import pytest

import leaks
import node_client
import service
from enrollments import Enrollments
from linked_hubs import LinkedHubs
from raw_device import registers
from service import Harbormaster

# Their assertions are those of tests.
pytest.register_assert_rewrite("az", "managing")


def pytest_configure(config):
    if not os.path.isfile(service.BINARY):
        raise pytest.UsageError("HARBORMASTER_BINARY must name the binary to test; see `cargo xtask conformance`")
    if not os.path.isdir(os.path.join(node_client.FOLDER, "node_modules")):
        raise pytest.UsageError("HARBORMASTER_NODE_FOLDER must name the folder of node_modules; see `cargo xtask conformance`")


def pytest_testnodedown(node, error):
    """Takes over what a worker remembered."""
    for name, secret in getattr(node, "workeroutput", {}).get("secrets", ()):
        leaks.made.add_base64(name, secret)


def pytest_sessionfinish(session):
    """Ends the run in failure where a secret was found. DPS-EXPLAIN-5, DPS-EXPLAIN-7."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["secrets"] = leaks.made.named()
        return
    folder = config.getoption("basetemp")
    if folder is None:
        raise pytest.UsageError("--basetemp is needed: the search for secrets looks there")
    for process in service.running():
        process.kill()
    config.leaks, searched = leaks.search(folder, leaks.made)
    is_whole_run = not config.getoption("keyword") and not config.getoption("collectonly")
    if is_whole_run and session.testscollected:
        missing = {".log", ".db", ".explanations", ".metrics"} - searched.keys()
        config.leaks += [f"no file {suffix} was there to be searched" for suffix in sorted(missing)]
    if config.leaks:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    passed = terminalreporter.stats.get("passed", [])
    for counted in [text for report in passed for name, text in report.user_properties if name == "counted"]:
        terminalreporter.line(counted)
    if complaints := getattr(config, "leaks", []):
        terminalreporter.section("secrets where no secret may be", red=True)
        for complaint in complaints:
            terminalreporter.line(complaint)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        for process in service.running():
            report.sections.append(("harbormaster", process.log_tail()))
    return report


@pytest.fixture(scope="session")
def enrollments():
    """The entries of the shared service."""
    return Enrollments()


@pytest.fixture(scope="session")
def harbor(tmp_path_factory, enrollments):
    """The shared service."""
    folder = tmp_path_factory.mktemp("harbor")
    entries = folder / "enrollments.json"
    entries.write_text(json.dumps(enrollments.json()))
    started = Harbormaster(folder / "log", "--enrollments", entries, data_dir=folder / "data").ready()
    yield started
    code, _ = started.stop()
    assert code == 0, started.log_tail()


@pytest.fixture
def register_raw(harbor):
    """Registers a device at the shared service without the SDK's wait."""

    def register_raw(registration_id, key):
        assert registers(harbor, registration_id, key)

    return register_raw


@pytest.fixture
def start(tmp_path):
    """Starts services for one test; those that are left are ended with it."""
    started = []

    def start(*options, ready=True, **arguments):
        process = Harbormaster(tmp_path / "log", *options, **arguments)
        started.append(process)
        return process.ready() if ready else process

    yield start
    for process in started:
        if process.process.poll() is None:
            if process.contract is not None:
                process.record()
            process.kill()


@pytest.fixture
def link(tmp_path):
    """Starts `serve` with hubs outside for one test; it is ended with it."""
    with ExitStack() as stack:

        def link(*outside, **options):
            return stack.enter_context(LinkedHubs(tmp_path / "site", outside, **options))

        yield link
