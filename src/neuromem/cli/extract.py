"""`neuromem extract`: what a language model makes of conversations."""

from typing import TYPE_CHECKING, Annotated

import typer

from neuromem.cli.models import DEFAULT_LLM, open_llm
from neuromem.cli.shared import MEMORY, Asked, BaseUrl, Model, Timezone, command
from neuromem.cli.times import local, zone

if TYPE_CHECKING:
    from neuromem.types import ExtractionStatus

_PATIENCE = 3_600.0


def register(app: typer.Typer) -> None:
    extract = typer.Typer(help="What a language model makes of conversations: facts, events, relations, the profile.")
    for function in (run, status, retry):
        command(extract)(function)
    app.add_typer(extract, name="extract", rich_help_panel=MEMORY)


async def run(
    asked: Asked,
    *,
    model: Model = DEFAULT_LLM,
    base_url: BaseUrl = None,
    session: Annotated[
        str | None, typer.Option("--session", "-s", metavar="SESSION", help="Only this conversation.")
    ] = None,
    timezone: Timezone = None,
) -> int:
    """Extract every message that was not yet, such as those stored before there was a language model.

    Stop it at any time; run it again and it goes on where it was. The key comes from OPENAI_API_KEY.
    """
    llm = open_llm(model, base_url)
    async with asked.open(background=True, llm=llm, timezone=zone(timezone)) as nm:
        count = await nm.extract(asked.user, session_id=session)
        await nm.wait_idle(timeout=_PATIENCE)
        found = await nm.extraction_status(asked.user)
    asked.show({"messages": count, **found.to_dict()}, f"{count} messages were to be extracted\n{_words(found)}")
    return 1 if found.failed else 0


async def status(asked: Asked) -> None:
    """Say how many messages are extracted, wait, or could not be, and why."""
    async with asked.open() as nm:
        found = await nm.extraction_status(asked.user)
    asked.show(found.to_dict(), _words(found))


async def retry(
    asked: Asked,
    *,
    everyone: Annotated[bool, typer.Option("--everyone", help="Of all users.")] = False,
) -> None:
    """Give what could not be extracted another round of tries, by whichever program does the work."""
    async with asked.open() as nm:
        count = await nm.retry_failed_extractions(None if everyone else asked.user)
    asked.show({"jobs": count}, f"{count} to be tried again" if count else "nothing has failed")


def _words(found: "ExtractionStatus") -> str:
    lines = [f"{found.extracted} extracted, {found.pending} waiting, {found.failed} failed"]
    if found.due is not None:
        lines.append(f"next: {local(found.due)}")
    elif found.pending:
        lines.append("nothing is planned; see: neuromem extract run")
    for failure in found.failures:
        what = f"{len(failure.message_ids)} message(s)" if failure.message_ids else "all that wait"
        lines.append(f"{what} of session {failure.session_id}, {failure.tries} tries: {failure.error}")
    return "\n".join(lines)
