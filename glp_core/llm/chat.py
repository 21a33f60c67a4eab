"""Conversations as token ids, in the words of a model's own chat template.

A system prompt goes where the template takes one, else before the user's words. A model that can think before it answers is told not
to. Names of control tokens in what people write stay text. Knows a tokenizer; knows no model.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from glp_core.errors import GlpError, in_short
from glp_core.llm.text_stream import encodable

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]

OPTIONS: dict[str, Any] = {"enable_thinking": False, "thinking": False, "date_string": "26 Jul 2024"}
"""The switches that templates know, each ignoring those of the others; and the day that Llama's name, so that the same conversation
has the same ids tomorrow."""
END_OF_THINKING = {
    "<think>": "\n</think>\n\n",
    "<thinking>": "\n</thinking>\n\n",
    "<|start|>assistant": "<|channel|>final<|message|>",  # gpt-oss writes its thoughts into another channel
}
"""What follows the beginning of an answer, by its end, where a template without a switch lets the model think: its thoughts are over."""
MARK = "Kestrel"
"""A system prompt that no template has by itself."""


class Chat:
    """The chat template of one tokenizer."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", title: str) -> None:
        self._tokenizer = tokenizer
        self._title = title

    def encode(self, conversations: Sequence[Sequence[Message]], *, answer: bool = True) -> list[list[int]]:
        """Return the ids of conversations, messages with a role and a content; `answer`: ready for the assistant's turn.

        Raises:
            GlpError: there is no chat template, or it refuses a conversation.
        """
        if not self._tokenizer.chat_template:
            raise GlpError(f"{self._title} has no chat template: use the continue mode.")
        if not conversations:
            return []
        conversations = [
            [{name: encodable(words) for name, words in one.items()} for one in messages] for messages in conversations
        ]
        ready = [list(messages) if self.takes_system else folded(messages) for messages in conversations]
        rows: list[list[int]] = self._filled_in(
            ready, add_generation_prompt=answer, tokenize=True, return_dict=False, sanitize_control_tokens=True
        )
        return [row + self._past_thinking for row in rows] if answer else rows

    @cached_property
    def takes_system(self) -> bool:
        """Whether the template shows a system prompt; some refuse it, some leave it out."""
        try:
            return MARK in self._sample([{"role": "system", "content": MARK}])
        except GlpError:
            return False

    @cached_property
    def _past_thinking(self) -> list[int]:
        """Ids that end the thoughts that the template begins an answer with; most begin none."""
        start = self._sample([]).rstrip()
        after = next((after for end, after in END_OF_THINKING.items() if start.endswith(end)), "")
        return self._tokenizer.encode(after, add_special_tokens=False) if after else []

    def _sample(self, before: list[Message]) -> str:
        """Return a short conversation as the template writes it, up to where the answer begins."""
        messages = [*before, {"role": "user", "content": "Hello"}]
        [text] = self._filled_in([messages], add_generation_prompt=True, tokenize=False)
        return str(text)

    def _filled_in(self, conversations: Sequence[Sequence[Message]], **options: Any) -> list[Any]:
        try:
            return self._tokenizer.apply_chat_template(list(conversations), **OPTIONS, **options)
        except Exception as error:  # a template is a program that came with the model
            roles = " and ".join(sorted({message["role"] for messages in conversations for message in messages}))
            raise GlpError(
                f"The chat template of {self._title} refuses a conversation of {roles}: {in_short(error)}. Use the continue mode."
            ) from error


def folded(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with system prompts put before the words of the user's turn that follows."""
    made: list[Message] = []
    system: list[str] = []
    for message in messages:
        if message["role"] == "system":
            system.append(message["content"])
        elif message["role"] == "user" and system:
            made.append(message | {"content": "\n\n".join([*system, message["content"]])})
            system = []
        else:
            made.append(message)
    return made + ([{"role": "user", "content": "\n\n".join(system)}] if system else [])
