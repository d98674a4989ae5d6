"""Texts written by a service that speaks OpenAI's protocol: chat completions over HTTP."""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from rankwell.errors import ConfigError, DataError, InputError, RankwellError, RunError, require
from rankwell.text.encoder import Progress
from rankwell.text.replies import Replies, content_key
from rankwell.text.writer import Prompt, answer

__all__ = ["Budget", "Patience", "ServiceWriter"]

TRANSIENT = (408, 409, 425, 429)
"""Refusals that may pass, beside the server's own faults (5xx)."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for a service, and how often to ask again.

    Waits double from ``first`` to ``longest`` seconds, less up to half by chance, so that many that were refused together do
    not come back together. A service that says when to come back (Retry-After) is taken at its word, up to ``longest``.
    """

    timeout: float = 60.0
    retries: int = 6
    first: float = 1.0
    longest: float = 60.0
    sleep: Callable[[float], object] | None = None
    """What waits; without one, a wait that an interruption ends."""
    chance: Callable[[], float] = random.random
    now: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        if not (self.timeout > 0 and self.retries >= 0 and 0 <= self.first <= self.longest):
            raise InputError(
                "patience must have a timeout above 0, retries from 0 and 0 <= first <= longest:"
                f" got timeout {self.timeout}, retries {self.retries}, first {self.first}, longest {self.longest}."
            )

    def seconds(self, attempt: int, retry_after: str | None = None) -> float:
        """How long to wait before asking again.

        >>> Patience(chance=lambda: 0.5).seconds(3), Patience().seconds(3, "20")
        (6.0, 20.0)
        """
        told = self._told(retry_after)
        return min(self.first * 2**attempt, self.longest) * (1 - self.chance() / 2) if told is None else told

    def _told(self, retry_after: str | None) -> float | None:
        """Seconds of a Retry-After, which holds seconds or a date."""
        if not retry_after:
            return None
        try:
            return min(max(float(retry_after), 0.0), self.longest)
        except ValueError:
            pass
        try:
            return min(max(parsedate_to_datetime(retry_after).timestamp() - self.now(), 0.0), self.longest)
        except ValueError:
            return None


@dataclass
class Budget:
    """What a writer may use: requests (refused ones count), and tokens as the service counts them. None is no limit.

    Requests under way when the last token is used are let come to their end: those few may exceed it.
    """

    requests: int | None = None
    tokens: int | None = None
    used_requests: int = 0
    used_tokens: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def take_request(self) -> None:
        """Count a request, or raise where nothing is left."""
        with self._lock:
            if self.requests is not None and self.used_requests >= self.requests:
                raise _Spent(f"the budget of {self.requests:,} requests is spent")
            if self.tokens is not None and self.used_tokens >= self.tokens:
                raise _Spent(f"the budget of {self.tokens:,} tokens is spent: {self.used_tokens:,} were used")
            self.used_requests += 1

    def add_tokens(self, count: int) -> None:
        """Count tokens."""
        with self._lock:
            self.used_tokens += count


class _Spent(Exception):
    """The budget's end."""


class ServiceWriter:
    """Asks a service for each text, once: what was replied is kept in a file, and asked for only where that lacks it.

    Any server with ``POST {base_url}/chat/completions`` will do, a local one too. The key is read from the environment variable
    ``key_variable`` when requests are made, and goes nowhere but into their header; an empty name sends none. The file is
    ``{cache}/replies.jsonl``: a line a reply, found by the hash of model, parameters and prompt (not of the address, or of
    prompt ids). After an interruption, a spent budget or an error, the same call goes on from there.

    Args:
        model: the name that the service knows the model by.
        cache: a folder.
        base_url: up to the version, as in ``https://api.openai.com/v1``.
        key_variable: name of the environment variable that holds the key.
        parameters: what else each request says, such as ``{"temperature": 0.7, "max_tokens": 300}``.
        concurrency: requests under way at a time.
        budget: what may be used, by this writer in all.
        patience: time-out and retries.
    """

    def __init__(
        self,
        model: str,
        *,
        cache: Path,
        base_url: str = "https://api.openai.com/v1",
        key_variable: str = "OPENAI_API_KEY",
        parameters: Mapping[str, Any] | None = None,
        concurrency: int = 8,
        budget: Budget | None = None,
        patience: Patience | None = None,
    ) -> None:
        if not model or not base_url.startswith(("http://", "https://")):
            raise ConfigError(
                f"a service needs a model and an address that starts with http:// or https://: got {model!r}, {base_url!r}."
            )
        if concurrency < 1:
            raise InputError(f"concurrency must be at least 1: got {concurrency}.")
        self.model, self.url, self.key_variable = model, f"{base_url.rstrip('/')}/chat/completions", key_variable
        self.parameters = dict(parameters or {})
        self.concurrency, self.budget, self.patience = concurrency, budget or Budget(), patience or Patience()
        self.replies = Replies(cache / "replies.jsonl")

    def write(self, prompts: Sequence[Prompt], *, progress: Progress | None = None) -> list[str]:
        """One text a prompt. Raises :class:`RunError` where it cannot go on, and says what is kept."""
        keys = [content_key({**self._body(prompt), "field": prompt.field}) for prompt in prompts]
        wanted = dict(zip(keys, prompts, strict=True))
        lacking = {key: prompt for key, prompt in wanted.items() if self.replies.get(key) is None}
        for written in self._written(lacking):
            if progress:
                progress(len(wanted) - len(lacking) + written, len(wanted))
        return [answer(self.replies.get(key) or "", prompt.field) for key, prompt in zip(keys, prompts, strict=True)]

    def _written(self, lacking: Mapping[str, Prompt]) -> Iterator[int]:
        """Ask for what is lacking; tells how many are written, from 0 on. What is under way at the end is waited for."""
        yield 0
        if not lacking:
            return
        written = 0
        failure: Exception | None = None
        waiting, stop = iter(lacking.items()), threading.Event()
        running: dict[Future[tuple[str, int]], tuple[str, Prompt]] = {}
        with self._client() as client, ThreadPoolExecutor(self.concurrency) as pool:
            try:
                while True:
                    while not failure and len(running) < self.concurrency and (job := next(waiting, None)):
                        running[pool.submit(self._ask, client, job[1], stop)] = job
                    if not running:
                        break
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        error = self._kept(future, *running.pop(future))
                        if error:
                            failure = failure or error
                            stop.set()
                        else:
                            written += 1
                            yield written
            finally:
                stop.set()
                for future, job in running.items():
                    self._kept(future, *job)
        if failure:
            left = sum(self.replies.get(key) is None for key in lacking)
            raise RunError(
                f"{failure}. {len(lacking) - left:,} of {len(lacking):,} texts were written and are kept in"
                f" {self.replies.path}: the same call again asks for the other {left:,}."
            ) from failure

    def _kept(self, future: "Future[tuple[str, int]]", key: str, prompt: Prompt) -> Exception | None:
        """Keep the reply of a request that has ended or soon will; gives what went wrong instead."""
        try:
            text, tokens = future.result()
        except (RankwellError, _Spent) as error:
            return error
        self.replies.add(key, text, {"model": self.model, "id": prompt.id, "tokens": tokens})
        return None

    def _ask(self, client: Any, prompt: Prompt, stop: threading.Event) -> tuple[str, int]:
        """The reply to one prompt and the tokens that it took, after as many attempts as patience has."""
        httpx = require("httpx", "text")
        for attempt in range(self.patience.retries + 1):
            self.budget.take_request()
            after, said = None, ""
            try:
                response = client.post(self.url, json=self._body(prompt))
            except httpx.RequestError as error:
                said = f"{type(error).__name__} {error}".strip()
            else:
                after = response.headers.get("retry-after")
                if response.is_success:
                    text, tokens = self._content(response)
                    self.budget.add_tokens(tokens)
                    try:
                        answer(text, prompt.field)
                        return text, tokens
                    except DataError as error:
                        said = self._shown(str(error))
                else:
                    said = self._refusal(response)
            if attempt < self.patience.retries and not stop.is_set():
                (self.patience.sleep or stop.wait)(self.patience.seconds(attempt, after))
            if stop.is_set():
                break
        raise RunError(f"{self.url} did not write {prompt.id!r} in {attempt + 1} attempts: {said.rstrip('.')}")

    def _content(self, response: Any) -> tuple[str, int]:
        """The text and the tokens of a reply. One that is none by the protocol ends the run: the address will be wrong."""
        try:
            body = response.json()
            text = body["choices"][0]["message"]["content"] or ""
            tokens = int((body.get("usage") or {}).get("total_tokens") or 0)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise RunError(
                f"{self.url} does not reply as chat completions do (JSON with choices[0].message.content): got"
                f" {self._shown(response.text)!r}. Check the address"
            ) from error
        if not isinstance(text, str):
            raise RunError(f"{self.url} replied with a {type(text).__name__} for a text. Check the model")
        return text, tokens

    def _refusal(self, response: Any) -> str:
        """What a refusal says, where it may pass; raises where it will not."""
        code = response.status_code
        said = f"{code} {response.reason_phrase}: {self._shown(response.text)}".rstrip(": ")
        if code in (401, 403):
            raise RunError(f"{self.url} refuses the key in {self.key_variable or 'no variable'}: {said}. Check the key")
        if (code not in TRANSIENT and code < 500) or "insufficient_quota" in response.text:
            raise RunError(f"{self.url} refuses the request: {said}. Check address, model and parameters")
        return said

    def _shown(self, text: str) -> str:
        """The beginning of what a server said, without the key should it be in there."""
        key = self._key()
        return " ".join((text.replace(key, "…") if key else text).split())[:200]

    def _key(self) -> str:
        return os.environ.get(self.key_variable, "").strip() if self.key_variable else ""

    def _client(self) -> Any:
        httpx = require("httpx", "text")
        key = self._key()
        if self.key_variable and not key:
            raise ConfigError(
                f"the key must be in the environment variable {self.key_variable}, which is not set. Set it."
            )
        if not (key.isascii() and key.isprintable()):
            raise ConfigError(f"the key in {self.key_variable} must be printable ASCII, which it is not. Set it again.")
        try:
            httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise ConfigError(f"{self.url!r} is no address: {error}. Correct it.") from error
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        limits = httpx.Limits(max_connections=self.concurrency)
        return httpx.Client(headers=headers, timeout=self.patience.timeout, limits=limits)

    def _body(self, prompt: Prompt) -> dict[str, Any]:
        roles = (("system", prompt.system), ("user", prompt.user))
        messages = [{"role": role, "content": text} for role, text in roles if text]
        return {"model": self.model, "messages": messages, **self.parameters}
