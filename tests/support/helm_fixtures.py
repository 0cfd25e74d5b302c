"""Fixtures for the tests of the chart: Helm itself, and every example rendered once."""

import pytest

from support.helm import CASE_NAMES, HELM_MISSING, Helm, Release, case_values, find_helm


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm, or a reason to skip that says how to get it."""
    executable = find_helm()
    if executable is None:
        pytest.skip(HELM_MISSING)
    return Helm(executable, tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def releases(helm: Helm) -> dict[str, Release]:
    """Every example, rendered once."""
    return {name: helm.render(case_values(name)) for name in CASE_NAMES}


@pytest.fixture(params=CASE_NAMES)
def release(request: pytest.FixtureRequest, releases: dict[str, Release]) -> Release:
    """Each example in turn."""
    return releases[request.param]
