"""`neuromem extract`, against a server that speaks OpenAI's protocol."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from support.command import command
from support.openai_server import CHAT, OpenAIServer, message
from support.scripted_model import answer, turns_of


@pytest.fixture
def models() -> Iterator[OpenAIServer]:
    with OpenAIServer(chat=answer) as models:
        yield models


@pytest.mark.parametrize("asked", [("extract", "run"), ("chat",)])
def test_times_are_those_of_the_user_s_clocks(
    database_url: str, user: str, models: OpenAIServer, asked: tuple[str, ...]
) -> None:
    """Fourteen hours ahead of UTC, by an option or the environment, "yesterday" is another day."""
    models.chat = lambda body: answer(body) if "response_format" in body else "I see."
    environment = {"NEUROMEM_DATABASE_URL": database_url, "NEUROMEM_USER": user, "OPENAI_API_KEY": models.key}
    where: dict[tuple[str, ...], dict[str, str]] = {
        ("--timezone", "Pacific/Kiritimati"): {"NEUROMEM_TIMEZONE": "UTC"},
        (): {"NEUROMEM_TIMEZONE": "Pacific/Kiritimati"},
    }
    for number, (options, zone) in enumerate(where.items()):
        session = f"s{number}"
        command("say", "fact: Anna sails", "--session", session, environment=environment)
        call = (*asked, "--base-url", models.base_url, "--session", session, *options)
        assert command(*call, stdin=b"fact: Anna dives\n", environment=environment | zone).code == 0
        shown = turns_of(next(c.body for c in reversed(models.calls) if "response_format" in c.body))
        here = datetime.fromisoformat(shown[0]["time"].rpartition(" ")[0])
        assert timedelta(hours=13, minutes=50) < here - datetime.now(UTC).replace(tzinfo=None) < timedelta(hours=14)
    wrong = command(*asked, "--base-url", models.base_url, "--timezone", "Mars", environment=environment)
    assert wrong.code == 2
    assert "Mars" in wrong.err


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
