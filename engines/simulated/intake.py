"""From a request's body to an answer that can be given: validation, the prompt's tokens, the text to come."""

from __future__ import annotations

import hashlib
import os
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from tokenizers import Tokenizer

from engines.simulated.answer import Answer, Send
from engines.simulated.chat import BadRequest, ChatRequest, Template, parse_chat
from engines.simulated.text import Lexicon, Story, natural_length


@dataclass(frozen=True)
class Prompt:
    """A valid request with its prompt as text, as tokens (in order), and as a digest."""

    request: ChatRequest
    tokens: list[int]
    digest: str


@dataclass(frozen=True)
class Intake:
    """Everything that reading requests takes.

    Attributes:
        served: the model name that clients use.
        max_length: context in tokens.
        looping: share of answers that repeat themselves.
        usage: whether usage is reported when asked for.
    """

    served: str
    tokenizer: Tokenizer
    template: Template
    lexicon: Lexicon
    max_length: int
    looping: float = 0.0
    usage: bool = True

    def read(self, body: bytes) -> Prompt:
        """Validate a body and tokenise its prompt. Raises BadRequest."""
        request = parse_chat(body, self.served)
        text = self.template.render(request.messages)
        tokens = self.tokenizer.encode(text, add_special_tokens=False).ids
        asked = request.max_tokens or 1
        if len(tokens) + asked > self.max_length:
            raise BadRequest(
                f"This model's maximum context length is {self.max_length} tokens. However, you requested"
                f" {len(tokens) + asked} tokens ({len(tokens)} in the messages, {asked} in the completion)."
                " Please reduce the length of the messages or completion."
            )
        return Prompt(request, tokens, hashlib.sha256(text.encode()).hexdigest())

    def answer(self, prompt: Prompt, arrival: float, send: Send, close: Callable[[], None]) -> Answer:
        """The answer to a prompt: the prompt's own when greedy, one of many by seed when not."""
        request = prompt.request
        seed = _seed(prompt)
        most = request.max_tokens or self.max_length - len(prompt.tokens)
        length = max(request.min_tokens, natural_length(seed))
        natural = not request.ignore_eos and length <= most
        target = length if natural else most
        looping = random.Random(seed ^ 0x100B).random() < self.looping
        return Answer(
            identity=f"chatcmpl-{uuid.uuid4().hex}",
            model=self.served,
            request=request,
            story=Story(self.lexicon, seed, target, looping),
            prompt=prompt.tokens,
            target=target,
            natural=natural,
            arrival=arrival,
            send=send,
            close=close,
            prompt_digest=prompt.digest,
            reports_usage=self.usage,
        )


def _seed(prompt: Prompt) -> int:
    own = int(prompt.digest[:16], 16)
    if prompt.request.temperature == 0:
        return own
    seed = prompt.request.seed
    drawn = int.from_bytes(os.urandom(8), "big") if seed is None else hash((seed, own))
    return own ^ (drawn & (2**64 - 1))
