"""What tests of the commands share: a tiny LLM in a folder, and the options of a small training run."""

import pytest

from tests.support.tiny import keep_llm

SMALL_STEPS = ["--batch", "64", "--sigma-groups", "16", "--dtype", "float32"]
SMALL_RUN = ["--d-model", "48", "--d-mlp", "64", "--n-layers", "2", *SMALL_STEPS]


@pytest.fixture(scope="session")
def llm_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llm") / "tiny-llama"
    keep_llm(folder)
    return folder
