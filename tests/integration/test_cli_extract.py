"""`neuromem extract`, against a server that speaks OpenAI's protocol."""

import json
from collections.abc import Iterator

import pytest

from support.command import command
from support.openai_server import CHAT, OpenAIServer, message
from support.scripted_model import answer


@pytest.fixture
def models() -> Iterator[OpenAIServer]:
    with OpenAIServer(chat=answer) as models:
        yield models


def test_what_was_said_before_there_was_a_model_is_extracted(
    database_url: str, user: str, models: OpenAIServer
) -> None:
    environment = {"NEUROMEM_DATABASE_URL": database_url, "NEUROMEM_USER": user, "OPENAI_API_KEY": models.key}
    command("say", "fact: Anna keeps bees. city = Porto", "--session", "s1", environment=environment)
    command("say", "fact: Anna sails", "--session", "s2", environment=environment)
    before = command("extract", "status", environment=environment)
    assert "0 extracted, 2 waiting, 0 failed" in before.out
    assert "nothing is planned" in before.out
    run = ("extract", "run", "--base-url", models.base_url)
    models.fail_next(message(content="no"))
    done = command(*run, "--session", "s1", environment=environment)
    assert (done.code, models.count(CHAT)) == (0, 2)
    assert "1 extracted, 1 waiting, 0 failed" in done.out
    rest = command(*run, "--json", environment=environment)
    assert (json.loads(rest.out)["messages"], json.loads(rest.out)["extracted"]) == (1, 2)
    assert "keeps bees" in command("list", environment=environment).out
    assert "Porto" in command("kv", "get", "city", environment=environment).out
    assert "nothing has failed" in command("extract", "retry", environment=environment).out
