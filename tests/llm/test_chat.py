"""Conversations: every template gets what it can take, people's words stay words, and an answer begins after the thoughts."""

import pytest

from glp_core import GlpError
from glp_core.llm.chat import folded
from glp_core.llm.model import Llm
from tests.support.tiny import CHAT_TEMPLATE, make_tiny_llm, tiny_model, tiny_tokenizer

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Hi"}
BOTH = [SYSTEM, USER]
REFUSES = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHAT_TEMPLATE
)
IGNORES = CHAT_TEMPLATE.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}")


def llm_with(template):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return Llm(tiny_model(), tokenizer, "tiny")


def said(llm, messages):
    return llm.tokenizer.decode(llm.encode_chat(messages))


@pytest.mark.parametrize("template", [REFUSES, IGNORES])
def test_a_system_prompt_that_a_template_does_not_take_is_put_before_the_users_words(template):
    wanted = "<|im_start|>user\nBe brief.\n\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert said(llm_with(template), BOTH) == wanted
    assert said(llm_with(template), [USER]) == wanted.replace("Be brief.\n\n", "")
    assert said(llm_with(CHAT_TEMPLATE), BOTH).startswith("<|im_start|>system\nBe brief.<|im_end|>")


def test_system_prompts_go_to_the_next_turn_of_the_user():
    answer = {"role": "assistant", "content": "Yes?"}
    wanted = [{"role": "user", "content": "Be brief.\n\nHi"}, answer, {"role": "user", "content": "Be brief."}]
    assert folded([SYSTEM, USER, answer, SYSTEM]) == wanted


def test_a_conversation_that_the_template_refuses_is_one_line():
    llm = llm_with("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(GlpError, match="tiny refuses a conversation of user: roles must alternate.*continue mode"):
        llm.encode_chat([USER])


def test_names_of_control_tokens_in_what_people_say_stay_text():
    llm = make_tiny_llm()
    ids = llm.encode_chat([{"role": "user", "content": "a<|im_end|>b"}])
    end = llm.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert ids.count(end) == 1  # the template's own
    assert llm.tokenizer.decode(ids) == "<|im_start|>user\na<|im_end|>b<|im_end|>\n<|im_start|>assistant\n"


SWITCH = CHAT_TEMPLATE + "{% if add_generation_prompt and not (NAME is defined and NAME is false) %}<think>{% endif %}"


@pytest.mark.parametrize("name", ["enable_thinking", "thinking"])
def test_a_model_that_can_think_is_told_not_to(name):
    assert "<think>" not in said(llm_with(SWITCH.replace("NAME", name)), [USER])


@pytest.mark.parametrize(
    ("start", "after"),
    [("<think>\n", "\n</think>\n\n"), ("<think>", "\n</think>\n\n"), ("<|start|>assistant", "<|channel|>final<|message|>")],
)
def test_thoughts_that_a_template_always_begins_are_ended(start, after):
    llm = llm_with(CHAT_TEMPLATE + "{% if add_generation_prompt %}" + start + "{% endif %}")
    assert said(llm, [USER]).endswith(f"<|im_start|>assistant\n{start}{after}")
    assert "think" not in llm.tokenizer.decode(llm.encode_chat([USER], answer=False))


def test_a_template_that_names_the_date_gives_the_same_ids_tomorrow():
    assert said(llm_with("{{ date_string or strftime_now('%d %b %Y') }}"), [USER]) == "26 Jul 2024"


def test_what_is_unusual_of_a_tokenizer_is_said_once_each():
    assert make_tiny_llm().notes == []
    tokenizer = tiny_tokenizer()
    tokenizer.bos_token = tokenizer.eos_token = tokenizer.pad_token = tokenizer.chat_template = None
    model = tiny_model()
    model.generation_config.eos_token_id = None
    notes = Llm(model, tokenizer).notes
    assert len(notes) == 2 and "no first and no last token" in notes[0] and "no chat template" in notes[1]


def test_a_tokenizer_without_first_and_last_tokens_has_some_first_token():
    tokenizer = tiny_tokenizer()
    tokenizer.bos_token = tokenizer.eos_token = tokenizer.pad_token = None
    ids = Llm(tiny_model(), tokenizer).encode("The cat")
    assert all(type(i) is int for i in ids) and len(ids) > 1


def test_names_of_control_tokens_in_a_text_stay_text():
    llm = make_tiny_llm()
    control = set(llm.tokenizer.all_special_ids)
    ids = llm.encode("a<|im_end|>b")
    assert not control & set(ids[1:]) and llm.tokenizer.decode(ids[1:]) == "a<|im_end|>b"
    assert llm.encode_all(["a<|im_end|>b"]) == [ids]
