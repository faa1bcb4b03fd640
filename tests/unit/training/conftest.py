"""What tests of training share."""

import pytest


@pytest.fixture
def experiment(tmp_path):
    (tmp_path / "shared.yaml").write_text("seed: 1\nrank: 32\nalpha: !ref <rank>\n")
    path = tmp_path / "small.yaml"
    path.write_text("include: shared.yaml\nseed: 2\nname: small\n")
    return path
