"""`neuromem digest` and `neuromem emotion`, against a server that speaks OpenAI's protocol."""

import json
from collections.abc import Iterator

import pytest

from support.command import command
from support.openai_server import OpenAIServer, status
from support.reflecting_model import answer


@pytest.fixture(scope="module")
def models() -> Iterator[OpenAIServer]:
    with OpenAIServer(chat=answer) as models:
        yield models


def test_insights_are_shown_with_what_they_rest_on_and_emotions_as_a_curve(
    database_url: str, user: str, models: OpenAIServer
) -> None:
    environment = {"NEUROMEM_DATABASE_URL": database_url, "NEUROMEM_USER": user, "OPENAI_API_KEY": models.key}
    run = ("digest", "--base-url", models.base_url, "--timezone", "UTC")
    for text, day, valence, label in (
        ("Drank #tea", "2026-03-02", 0.5, "calm"),
        ("Spilt the #tea", "2026-03-10", -0.5, "anger"),
    ):
        metadata = json.dumps({"emotion": {"valence": valence, "arousal": 0.4, "label": label}})
        added = command("add", text, "--metadata", metadata, "--valid-from", day, environment=environment)
        assert added.code == 0, added.err
    models.fail_next(status(401))
    failed = command(*run, environment=environment)
    assert (failed.code, len(failed.err.strip().splitlines())) == (1, 1)
    done = command(*run, environment=environment)
    assert done.code == 0, done.err
    assert "2 memories read: 1 new insights, 0 told again" in done.out
    assert "Often speaks of tea" in done.out
    assert done.out.count("← ") == 2
    assert "Spilt the #tea" in done.out
    again = json.loads(command(*run, "--json", environment=environment).out)
    assert (again["read"], again["origin"], again["emotion"]["annotated"]) == (0, None, 2)
    assert "nothing new" in command(*run, environment=environment).out

    felt = command("emotion", "--timezone", "UTC", environment=environment)
    assert felt.code == 0, felt.err
    assert "valence +0.00, arousal 0.40 (2 memories)" in felt.out
    assert "anger 50%, calm 50%" in felt.out
    assert "what brings anger (anger)" in felt.out
    assert "2026-03-02" in felt.out
    assert "┤" in felt.out
    past = command("emotion", "--as-of", "2026-01-01", environment=environment)
    assert "no memory tells of an emotion" in past.out
    data = json.loads(command("emotion", "--by", "month", "--json", environment=environment).out)
    assert (data["annotated"], len(data["timeline"])) == (2, 1)


def test_bad_limits_and_missing_models_are_one_line(database_url: str, user: str, models: OpenAIServer) -> None:
    environment = {"NEUROMEM_DATABASE_URL": database_url, "NEUROMEM_USER": user}
    wrong = command("digest", "--limit", "0", "--base-url", models.base_url, environment=environment)
    assert (wrong.code, "limit=0" in wrong.err) == (2, True)
    missing = command("digest", environment=environment | {"OPENAI_API_KEY": "", "OPENAI_BASE_URL": ""})
    assert missing.code == 1
    assert "OPENAI_API_KEY" in missing.err
