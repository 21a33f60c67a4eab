"""Controls of a steered arm: each differs from it in one thing."""

import pytest
import torch

from glp_core.errors import GlpError
from glp_core.llm.decoding import Sampling
from glp_core.llm.site import Site
from glp_core.prior.projection import make_projector
from glp_core.steering.edit import Arm
from glp_core.steering.trials.controls import CONTROLS, asked, control_rows, random_direction
from glp_core.steering.trials.writing import write_texts
from tests.support import tiny

PUSH = torch.eye(tiny.WIDTH)[3]


@pytest.fixture
def arm(tiny_glp):
    return Arm("walk", PUSH, 0.8, make_projector("glp", glp=tiny_glp, steps=2, solver="ab2"))


def test_each_control_changes_one_thing(tiny_llm, arm):
    instead = {
        "norm": make_projector("norm"),
        "gaussian": make_projector("gaussian", covariance=torch.eye(tiny.WIDTH), glp=arm.projector.glp),
    }
    rows = control_rows(tiny_llm, "the cat", arm, instead=instead, instruction="Write of rain.", seed=7)
    assert [row.arm.name for row in rows] == list(CONTROLS) and {row.seed for row in rows} == {7}
    opposite, random, norm, gaussian, prompted = (row.arm for row in rows)
    assert (opposite.strength, opposite.projector) == (-0.8, arm.projector) and torch.equal(opposite.vector, PUSH)
    assert (random.strength, random.projector) == (0.8, arm.projector) and random.vector @ PUSH < 0.9
    assert random.vector.norm() == pytest.approx(1, abs=1e-6)
    assert (norm.projector, gaussian.projector) == (instead["norm"], instead["gaussian"]) and norm.strength == 0.8
    assert not prompted.edits and len(rows[-1].prompt) > len(rows[0].prompt)
    assert [row.arm.name for row in control_rows(tiny_llm, "the cat", arm, instead={}, instruction="x")] == [
        "opposite",
        "random",
        "prompted",
    ]


def test_an_arm_without_a_vector_has_no_controls(tiny_llm):
    with pytest.raises(GlpError, match="The arm 'plain' has no vector"):
        control_rows(tiny_llm, "the cat", Arm("plain"), instead={}, instruction="x")


def test_a_random_direction_is_the_same_for_a_seed():
    assert torch.equal(random_direction(16, 3), random_direction(16, 3))
    assert not torch.equal(random_direction(16, 3), random_direction(16, 4))


def test_an_instruction_comes_before_a_text_and_as_a_system_prompt_in_a_chat(tiny_llm):
    text = tiny_llm.tokenizer.decode(asked(tiny_llm, "the cat", "Write of rain."))
    assert "Write of rain." in text and text.endswith("the cat")
    chat = asked(tiny_llm, "the cat", "Write of rain.", chat=True)
    assert chat == tiny_llm.encode_chat(
        [{"role": "system", "content": "Write of rain."}, {"role": "user", "content": "the cat"}]
    )


def test_written_texts_tell_what_was_left_of_their_pushes(tiny_llm, arm):
    rows = control_rows(tiny_llm, "the cat", arm, instead={"norm": make_projector("norm")}, instruction="x")
    for row, text in zip(rows, write_texts(Site(tiny_llm, 1, 4.0), rows, Sampling(4)), strict=True):
        pushed = row.arm.name != "prompted"
        assert (text.kept_push == text.kept_push, text.cosine == text.cosine, text.correction >= 0) == (pushed, pushed, pushed)
